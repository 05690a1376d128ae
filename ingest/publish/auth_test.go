package publish

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
)

func TestAuth(t *testing.T) {
	keys, err := token.NewSigner(make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_700_000_000, 0)
	k := schemas.StreamKey{App: "live", Stream: "demo"}
	right, err := keys.SignPublish(token.Publish{App: "live", ExpiresUnix: now.Unix() + 1})
	if err != nil {
		t.Fatal(err)
	}
	loop, far := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.0.2.1")
	for _, tc := range []struct {
		name string
		a    Auth
		key  string
		peer netip.Addr
		ok   bool
	}{
		{"key", Auth{Keys: keys}, right, far, true},
		{"no key", Auth{Keys: keys}, "", loop, false},
		{"loopback is open", Auth{Keys: keys, OpenLoopback: true}, "", loop, true},
		{"IPv6 loopback is open", Auth{Keys: keys, OpenLoopback: true}, "", netip.MustParseAddr("::1"), true},
		{"others are not", Auth{Keys: keys, OpenLoopback: true}, "", far, false},
		{"a wrong key is wrong on loopback too", Auth{Keys: keys, OpenLoopback: true}, right + "x", loop, false},
		{"no signer", Auth{OpenLoopback: true}, right, loop, false},
		{"nothing set", Auth{}, "", loop, false},
	} {
		if _, err := tc.a.check(tc.key, k, tc.peer, now); (err == nil) != tc.ok {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	if _, err := (Auth{Keys: keys}).check(right, k, far, now.Add(time.Minute)); !errors.Is(err, token.ErrExpired) {
		t.Errorf("expired key: %v", err)
	}
}
