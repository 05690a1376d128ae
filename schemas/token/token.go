// Package token makes and checks the signed tokens that outsiders carry: the
// session token in play URLs and telemetry targets, publish keys and play keys.
//
// A token is base64url(claims JSON) + "." + base64url(HMAC-SHA256 of the part
// before the dot, truncated to 16 bytes). It proves who issued it and until
// when it holds; it does not hide its content, so nothing private goes in.
// Pure: no I/O, no clock of its own.
package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"strings"
	"sync"
	"time"
)

// MaxLen is the longest token that is looked at, in bytes.
const MaxLen = 1024

// MinKeyLen is the shortest signing key that is accepted, in bytes.
const MinKeyLen = 16

// Errors of Parse. Tell them apart with errors.Is.
var (
	ErrMalformed = errors.New("token is malformed")
	ErrSignature = errors.New("token signature is wrong")
	ErrExpired   = errors.New("token has expired")
	ErrPurpose   = errors.New("token is for another purpose")
)

// Session are the claims of a session token: what joins requests, telemetry,
// decision and arms of one playback session.
type Session struct {
	SessionID string `json:"sid"`
	App       string `json:"app"`
	Stream    string `json:"str"`
	// ViewerID is a salted hash, never what the application calls the viewer.
	ViewerID string `json:"vid,omitempty"`
	// CDN is the one assigned first.
	CDN string `json:"cdn,omitempty"`
	// Pinned: the session asked through one CDN's own address and stays there.
	Pinned bool `json:"pin,omitempty"`
	// Arms is "experiment=arm,experiment2=arm", sorted by experiment.
	Arms   string `json:"arms,omitempty"`
	Region string `json:"reg,omitempty"`
	ISP    string `json:"isp,omitempty"`
	// Keyed: the session was opened with a play key, so it may have what is private.
	Keyed bool `json:"key,omitempty"`
	// Group is the group of address prefixes that the viewer is in, one of 16:
	// what few addresses report about a CDN counts for few. It identifies nobody.
	Group uint8 `json:"grp,omitempty"`
	// MovedUnix is when the session was last sent to another CDN, Unix seconds; 0: never.
	MovedUnix int64 `json:"mv,omitempty"`
	// ExpiresUnix is the end of validity, Unix seconds.
	ExpiresUnix int64 `json:"exp"`
}

// Publish are the claims of a publish key. An empty Stream allows every stream of the application.
type Publish struct {
	App         string `json:"app"`
	Stream      string `json:"str,omitempty"`
	ExpiresUnix int64  `json:"exp"`
}

// Play are the claims of a play key: who may begin to watch a private stream.
// An empty Stream allows every stream of the application.
type Play struct {
	App    string `json:"app"`
	Stream string `json:"str,omitempty"`
	// ViewerID is the salted hash of the viewer the key was made for; empty: anyone who holds it.
	ViewerID string `json:"vid,omitempty"`
	// EndsViews ends views that were begun with the key when the key ends.
	// Otherwise the key only says until when a view may begin.
	EndsViews   bool  `json:"ends,omitempty"`
	ExpiresUnix int64 `json:"exp"`
}

// Signer makes and checks tokens with one secret key. Safe for concurrent use.
type Signer struct {
	key  []byte
	macs *Hasher // what the key alone makes of them is kept
}

// NewSigner refuses keys shorter than MinKeyLen.
func NewSigner(key []byte) (*Signer, error) {
	if len(key) < MinKeyLen {
		return nil, fmt.Errorf("token key has %d bytes: at least %d are needed", len(key), MinKeyLen)
	}
	s := &Signer{key: append([]byte(nil), key...)}
	s.macs = NewHasher(s.key)
	return s, nil
}

var b64 = base64.RawURLEncoding

// SignSession makes a session token.
func (s *Signer) SignSession(c Session) (string, error) {
	return s.seal('s', append(c.append(make([]byte, 0, 384)), '}'))
}

// SignPublish makes a publish key.
func (s *Signer) SignPublish(c Publish) (string, error) { return s.sign('p', c) }

// SignPlay makes a play key.
func (s *Signer) SignPlay(c Play) (string, error) { return s.sign('k', c) }

// Ticket are the claims of a place in the queue for a stream.
type Ticket struct {
	ID     string `json:"id"`
	App    string `json:"app"`
	Stream string `json:"str"`
	// Holder is who may use it: the salted hash of the viewer, or of the address prefix of one who is not known.
	Holder string `json:"for,omitempty"`
	// SinceMs is when the viewer first asked, Unix milliseconds.
	SinceMs     int64 `json:"at"`
	ExpiresUnix int64 `json:"exp"`
}

// SignTicket makes a ticket.
func (s *Signer) SignTicket(c Ticket) (string, error) { return s.sign('q', c) }

// ParseTicket checks a ticket against now, application and stream.
func (s *Signer) ParseTicket(tok string, now time.Time, app, stream string) (Ticket, error) {
	var c Ticket
	if err := s.parse('q', tok, &c); err != nil {
		return Ticket{}, err
	}
	if now.Unix() >= c.ExpiresUnix {
		return c, fmt.Errorf("%w %d s ago", ErrExpired, now.Unix()-c.ExpiresUnix)
	}
	if c.App != app || c.Stream != stream {
		return c, fmt.Errorf("%w: it is for %s/%s, not %s/%s", ErrPurpose, c.App, c.Stream, app, stream)
	}
	return c, nil
}

// Measure are the claims of whoever was told where to publish and may tell what it measured.
type Measure struct {
	ID     string `json:"id"`
	App    string `json:"app"`
	Stream string `json:"str"`
	// CDN is the one that was answered first.
	CDN string `json:"cdn,omitempty"`
	// Pin is the one that was asked for.
	Pin    string `json:"pin,omitempty"`
	Region string `json:"reg,omitempty"`
	ISP    string `json:"isp,omitempty"`
	// Group is the publisher's group of address prefixes, as in [Session].
	Group       uint8 `json:"grp,omitempty"`
	ExpiresUnix int64 `json:"exp"`
}

// SignMeasure makes a token to tell measurements with.
func (s *Signer) SignMeasure(c Measure) (string, error) { return s.sign('m', c) }

// ParseMeasure checks such a token against now.
func (s *Signer) ParseMeasure(tok string, now time.Time) (Measure, error) {
	var c Measure
	if err := s.parse('m', tok, &c); err != nil {
		return Measure{}, err
	}
	if now.Unix() >= c.ExpiresUnix {
		return c, fmt.Errorf("%w %d s ago", ErrExpired, now.Unix()-c.ExpiresUnix)
	}
	return c, nil
}

// ParsePlay checks a play key against now, application and stream.
func (s *Signer) ParsePlay(tok string, now time.Time, app, stream string) (Play, error) {
	var c Play
	if err := s.parse('k', tok, &c); err != nil {
		return Play{}, err
	}
	if now.Unix() >= c.ExpiresUnix {
		return c, fmt.Errorf("%w %d s ago", ErrExpired, now.Unix()-c.ExpiresUnix)
	}
	if c.App != app || c.Stream != "" && c.Stream != stream {
		return c, fmt.Errorf("%w: it allows %s/%s, not %s/%s", ErrPurpose, c.App, orAny(c.Stream), app, stream)
	}
	return c, nil
}

// ParseSession checks a session token against now. On [ErrExpired] the claims are returned too.
func (s *Signer) ParseSession(tok string, now time.Time) (Session, error) {
	var all Steering
	if err := s.parse('s', tok, &all); err != nil {
		return Session{}, err
	}
	c := all.Session
	if now.Unix() >= c.ExpiresUnix {
		return c, fmt.Errorf("%w %d s ago", ErrExpired, now.Unix()-c.ExpiresUnix)
	}
	return c, nil
}

// ParsePublish checks a publish key against now, application and stream.
func (s *Signer) ParsePublish(tok string, now time.Time, app, stream string) (Publish, error) {
	var c Publish
	if err := s.parse('p', tok, &c); err != nil {
		return Publish{}, err
	}
	if now.Unix() >= c.ExpiresUnix {
		return c, fmt.Errorf("%w %d s ago", ErrExpired, now.Unix()-c.ExpiresUnix)
	}
	if c.App != app || c.Stream != "" && c.Stream != stream {
		return c, fmt.Errorf("%w: it allows %s/%s, not %s/%s", ErrPurpose, c.App, orAny(c.Stream), app, stream)
	}
	return c, nil
}

func orAny(s string) string {
	if s == "" {
		return "*"
	}
	return s
}

func (s *Signer) sign(purpose byte, claims any) (string, error) {
	j, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return s.seal(purpose, j)
}

// seal makes a token of claims in JSON.
func (s *Signer) seal(purpose byte, j []byte) (string, error) {
	body := 1 + b64.EncodedLen(len(j))
	n := body + 1 + b64.EncodedLen(macLen)
	if n > MaxLen {
		return "", fmt.Errorf("sign token: it would have %d bytes: at most %d are allowed", n, MaxLen)
	}
	t := make([]byte, n)
	t[0], t[body] = purpose, '.'
	b64.Encode(t[1:], j)
	sum := s.mac(t[:body])
	b64.Encode(t[body+1:], sum[:])
	return string(t), nil
}

func (s *Signer) parse(purpose byte, tok string, claims any) error {
	if len(tok) > MaxLen {
		return fmt.Errorf("%w: %d bytes: at most %d are allowed", ErrMalformed, len(tok), MaxLen)
	}
	body, sig, ok := strings.Cut(tok, ".")
	if !ok || len(body) < 2 {
		return ErrMalformed
	}
	mac, err := b64.DecodeString(sig)
	if err != nil {
		return fmt.Errorf("%w: signature is not base64url", ErrMalformed)
	}
	if want := s.mac([]byte(body)); !hmac.Equal(mac, want[:]) {
		return ErrSignature
	}
	if body[0] != purpose {
		return ErrPurpose
	}
	j, err := b64.DecodeString(body[1:])
	if err != nil {
		return fmt.Errorf("%w: claims are not base64url", ErrMalformed)
	}
	if c, ok := claims.(*Steering); ok {
		if c.read(j) {
			return nil
		}
		*c = Steering{}
	}
	if err := json.Unmarshal(j, claims); err != nil {
		return fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	return nil
}

// macLen is how much of a MAC a token carries, bytes.
const macLen = 16

func (s *Signer) mac(b []byte) (out [macLen]byte) {
	sum := s.macs.Sum(b)
	return [macLen]byte(sum[:macLen])
}

// HashViewer keeps the application's name of a viewer out of everything that is
// stored: a keyed hash of it; empty for an empty name.
func HashViewer(salt []byte, name string) string { return NewHasher(salt).Viewer(name) }

// Hasher hashes with one key, for those who do it often. It is safe for concurrent use.
type Hasher struct{ macs sync.Pool }

// NewHasher takes the key, a salt that is kept secret.
func NewHasher(key []byte) *Hasher {
	return &Hasher{macs: sync.Pool{New: func() any { return &mac{h: hmac.New(sha256.New, key)} }}}
}

// mac is a keyed hash that is used again and again, with the memory for its result.
type mac struct {
	h   hash.Hash
	sum [sha256.Size]byte
}

// Sum is the HMAC-SHA256 of b (RFC 2104).
func (h *Hasher) Sum(b []byte) (out [sha256.Size]byte) {
	m := h.macs.Get().(*mac)
	m.h.Reset()
	m.h.Write(b)
	copy(out[:], m.h.Sum(m.sum[:0]))
	h.macs.Put(m)
	return out
}

// Viewer is [HashViewer].
func (h *Hasher) Viewer(name string) string {
	if name == "" {
		return ""
	}
	sum := h.Sum([]byte(name))
	return hex.EncodeToString(sum[:16])
}
