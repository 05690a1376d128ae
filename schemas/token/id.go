package token

import (
	"crypto/hmac"
	"crypto/rand"
	"encoding/base32"
)

// A session id is "s", 80 random bits and 50 bits of their MAC, in base32: who
// has the key knows without asking anybody that a router made it.
const (
	idRandomLen = 16 // characters
	idMACLen    = 10
	idLen       = 1 + idRandomLen + idMACLen
)

// NewSessionID makes the id of a session: nobody without the key can make one
// that [Signer.IsSessionID] accepts.
func (s *Signer) NewSessionID() string {
	var b [idRandomLen * 5 / 8]byte
	_, _ = rand.Read(b[:]) // never fails
	random := base32.StdEncoding.EncodeToString(b[:])
	return "s" + random + s.idMAC(random)
}

// IsSessionID says whether an id was made by NewSessionID with this key.
func (s *Signer) IsSessionID(id string) bool {
	if len(id) != idLen || id[0] != 's' {
		return false
	}
	return hmac.Equal([]byte(id[1+idRandomLen:]), []byte(s.idMAC(id[1:1+idRandomLen])))
}

func (s *Signer) idMAC(random string) string {
	sum := s.mac([]byte("i" + random))
	return base32.StdEncoding.EncodeToString(sum[:])[:idMACLen]
}

// GroupKey is the key of the hash that puts viewers into groups by their address
// prefix. It comes of the signer's key alone: whoever can make an id that
// [Signer.IsSessionID] accepts groups its viewer as all others do.
func (s *Signer) GroupKey() []byte {
	sum := s.mac([]byte("g"))
	return sum[:]
}
