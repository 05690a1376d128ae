package token

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestTokens(t *testing.T) {
	s, err := NewSigner([]byte("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewSigner([]byte("fedcba9876543210"))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_795_000_000, 0)
	want := Session{SessionID: "s1", App: "live", Stream: "demo", Arms: "x=a", ExpiresUnix: now.Unix() + 60}
	tok, err := s.SignSession(want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.ParseSession(tok, now); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := other.ParseSession(tok, now); !errors.Is(err, ErrSignature) {
		t.Errorf("another key: %v", err)
	}
	if got, err := s.ParseSession(tok, now.Add(time.Hour)); !errors.Is(err, ErrExpired) || got.SessionID != "s1" {
		t.Errorf("expired: %+v, %v", got, err)
	}
	pub, err := s.SignPublish(Publish{App: "live", Stream: "demo", ExpiresUnix: now.Unix() + 60})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.ParseSession(pub, now); !errors.Is(err, ErrPurpose) {
		t.Errorf("a publish key as session token: %v", err)
	}
	if _, err := s.ParsePublish(pub, now, "live", "demo"); err != nil {
		t.Errorf("publish key: %v", err)
	}
	if _, err := s.ParsePublish(pub, now, "live", "else"); !errors.Is(err, ErrPurpose) {
		t.Errorf("publish key for another stream: %v", err)
	}
	told := Measure{ID: "m1", App: "live", Stream: "demo", CDN: "a", Region: "eu", Group: 3, ExpiresUnix: now.Unix() + 60}
	measure, err := s.SignMeasure(told)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.ParseMeasure(measure, now); err != nil || got != told {
		t.Errorf("token to tell measurements with: %+v, %v", got, err)
	}
	if _, err := s.ParseMeasure(measure, now.Add(time.Minute)); !errors.Is(err, ErrExpired) {
		t.Errorf("at its end: %v", err)
	}
	if _, err := s.ParseMeasure(pub, now); !errors.Is(err, ErrPurpose) {
		t.Errorf("a publish key in its place: %v", err)
	}
	play, err := s.SignPlay(Play{App: "home", ViewerID: "v", ExpiresUnix: now.Unix() + 60})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.ParsePlay(play, now, "home", "door"); err != nil || got.ViewerID != "v" {
		t.Errorf("play key of an application: %+v, %v", got, err)
	}
	if _, err := s.ParsePlay(play, now, "away", "door"); !errors.Is(err, ErrPurpose) {
		t.Errorf("play key for another application: %v", err)
	}
	if _, err := s.ParsePlay(play, now.Add(time.Minute), "home", "door"); !errors.Is(err, ErrExpired) {
		t.Errorf("play key at its end: %v", err)
	}
	if _, err := s.ParsePlay(pub, now, "live", "demo"); !errors.Is(err, ErrPurpose) {
		t.Errorf("a publish key as play key: %v", err)
	}
	if _, err := s.ParsePublish(play, now, "home", "door"); !errors.Is(err, ErrPurpose) {
		t.Errorf("a play key as publish key: %v", err)
	}
	for i := range tok {
		d := []byte(tok)
		d[i] ^= 1
		if _, err := s.ParseSession(string(d), now); err == nil {
			t.Errorf("a token changed at %d was taken", i)
		}
		if _, err := s.ParseSession(tok[:i], now); err == nil {
			t.Errorf("the first %d bytes of a token were taken", i)
		}
	}
	if _, err := s.SignSession(Session{SessionID: strings.Repeat("x", MaxLen)}); err == nil {
		t.Error("a token beyond the limit was signed")
	}
	if _, err := NewSigner([]byte("short")); err == nil {
		t.Error("a short key was taken")
	}
}

func FuzzParseSession(f *testing.F) {
	s, err := NewSigner([]byte("0123456789abcdef"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add("sabc.def")
	f.Fuzz(func(t *testing.T, tok string) {
		if c, err := s.ParseSession(tok, time.Unix(0, 0)); err == nil {
			t.Errorf("a forged token was taken: %q gives %+v", tok, c)
		}
	})
}
