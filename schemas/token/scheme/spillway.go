package scheme

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spillway-live/spillway/schemas/token"
)

// Spillway is our own: /t/<session token> before the path. The token is made by
// package token and names the session, so that requests join with telemetry.
type Spillway struct{}

// Name is spillway.
func (Spillway) Name() string { return "spillway" }

// Inherits is nil.
func (Spillway) Inherits() error { return nil }

// CheckKey asks for a token key.
func (Spillway) CheckKey(key []byte) error {
	_, err := token.NewSigner(key)
	return err
}

// Sign carries the session token, which is signed already; key is not used.
func (Spillway) Sign(u *url.URL, g Grant, _ []byte) (*url.URL, error) {
	if g.Session == "" {
		return nil, errors.New("sign an address: the session token is missing")
	}
	if err := checkSign(u, g); err != nil {
		return nil, err
	}
	return withPrefix(u, "t/"+g.Session)
}

// Verify checks the session token and that it is of the path's stream.
func (Spillway) Verify(u *url.URL, key []byte, now time.Time) (Grant, string, error) {
	s, err := token.NewSigner(key)
	if err != nil {
		return Grant{}, "", err
	}
	rest, ok := strings.CutPrefix(u.Path, "/t/")
	if !ok {
		return Grant{}, "", ErrNoToken
	}
	tok, path, _ := strings.Cut(rest, "/")
	path = "/" + path
	c, err := s.ParseSession(tok, now)
	switch {
	case errors.Is(err, token.ErrExpired):
		return Grant{}, "", fmt.Errorf("%w: %w", ErrExpired, err)
	case err != nil:
		return Grant{}, "", fmt.Errorf("%w: %w", ErrSignature, err)
	}
	g := Grant{Dir: "/" + c.App + "/" + c.Stream + "/", Session: tok, ExpiresUnix: c.ExpiresUnix}
	if !inDir(path, g.Dir) {
		return g, path, ErrPath
	}
	return g, path, nil
}
