package publish

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
)

// Auth decides who may publish.
type Auth struct {
	// Keys checks publish keys; nil means that no key can be right.
	Keys *token.Signer
	// OpenLoopback lets peers on a loopback address publish without a key. A key that is given must be right anyway.
	OpenLoopback bool
}

// check gives the claims of the key, if there is one, or why the peer may not publish.
func (a Auth) check(key string, k schemas.StreamKey, peer netip.Addr, now time.Time) (*token.Publish, error) {
	if key != "" {
		if a.Keys == nil {
			return nil, errors.New("a publish key was given, but this server has no key to check it with: leave it out, or start ingest with a token key")
		}
		c, err := a.Keys.ParsePublish(key, now, k.App, k.Stream)
		if err != nil {
			return nil, fmt.Errorf("publish key: %w", err)
		}
		return &c, nil
	}
	if a.OpenLoopback && peer.IsLoopback() {
		return nil, nil
	}
	return nil, errors.New("publish key is missing: append ?key=<publish key> to the stream name")
}
