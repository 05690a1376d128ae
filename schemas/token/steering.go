package token

import (
	"fmt"
	"time"
)

// Steering are the claims of a content-steering address. It carries what the
// answers so far have come to, so that any router can give the next one.
type Steering struct {
	Session
	// Format is the manifest that the player has: hls, ts, dvr or dash. Empty: not known.
	Format string `json:"fmt,omitempty"`
	// Pathways are the ids in that manifest: a CDN that is not among them must be
	// told of as a clone. Empty: not known.
	Pathways []string `json:"pw,omitempty"`
	// Sent is the CDN that answers put first since SentUnix, Unix seconds.
	Sent     string `json:"snt,omitempty"`
	SentUnix int64  `json:"sat,omitempty"`
	// Trying: Sent was failing, and the session is one of those that see whether it is back.
	Trying bool `json:"try,omitempty"`
	// Penalties are the CDNs that the player is taken to hold in its penalty box,
	// with the end of that, Unix seconds.
	Penalties map[string]int64 `json:"pen,omitempty"`
}

// SignSteering makes the token of a content-steering address.
func (s *Signer) SignSteering(c Steering) (string, error) {
	return s.seal('c', c.append(make([]byte, 0, 640)))
}

// ParseSteering checks a token of a content-steering address against now. A
// session token is taken, too: it is one without state. On [ErrExpired] the
// claims are returned too.
func (s *Signer) ParseSteering(tok string, now time.Time) (Steering, error) {
	var c Steering
	if tok != "" && tok[0] == 's' {
		session, err := s.ParseSession(tok, now)
		return Steering{Session: session}, err
	}
	if err := s.parse('c', tok, &c); err != nil {
		return Steering{}, err
	}
	if now.Unix() >= c.ExpiresUnix {
		return c, fmt.Errorf("%w %d s ago", ErrExpired, now.Unix()-c.ExpiresUnix)
	}
	return c, nil
}
