package token

import (
	"errors"
	"reflect"
	"testing"
	"time"
)

func TestSteering(t *testing.T) {
	s, err := NewSigner([]byte("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_795_000_000, 0)
	session := Session{SessionID: "s1", App: "live", Stream: "demo", CDN: "a", ExpiresUnix: now.Unix() + 60}
	want := Steering{Session: session, Format: "hls", Pathways: []string{"a", "b"}, Sent: "b", SentUnix: 5, Trying: true, Penalties: map[string]int64{"a": 9}}
	tok, err := s.SignSteering(want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.ParseSteering(tok, now); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := s.ParseSession(tok, now); !errors.Is(err, ErrPurpose) {
		t.Errorf("as a session token, which opens media: %v", err)
	}
	if got, err := s.ParseSteering(tok, now.Add(time.Hour)); !errors.Is(err, ErrExpired) || got.SessionID != "s1" {
		t.Errorf("expired: %+v, %v", got, err)
	}
	old, err := s.SignSession(session)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.ParseSteering(old, now); err != nil || got.SessionID != "s1" || got.Sent != "" {
		t.Errorf("a session token has no state: %+v, %v", got, err)
	}
	if _, err := s.ParseSteering(tok[:20]+"x"+tok[21:], now); err == nil {
		t.Error("a changed token was taken")
	}
	if _, err := s.ParseSteering("", now); !errors.Is(err, ErrMalformed) {
		t.Errorf("none: %v", err)
	}
}
