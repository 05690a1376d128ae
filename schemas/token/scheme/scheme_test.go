package scheme

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas/token"
)

const (
	hexKey  = "00112233445566778899aabbccddeeff"
	longKey = "a key that is long enough"
)

var dir = "/live/demo/"

func keyOf(s Scheme) []byte {
	switch s.(type) {
	case AkamaiPath, AkamaiQuery:
		return []byte(hexKey)
	}
	return []byte(longKey)
}

func grant(t testing.TB, until int64) Grant {
	t.Helper()
	s, err := token.NewSigner([]byte(longKey))
	if err != nil {
		t.Fatal(err)
	}
	tok, err := s.SignSession(token.Session{SessionID: "s1", App: "live", Stream: "demo", ExpiresUnix: until})
	if err != nil {
		t.Fatal(err)
	}
	return Grant{Dir: dir, Session: tok, ExpiresUnix: until}
}

func parse(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// Values made by others: nginx's manual (its example signs "/s/link127.0.0.1",
// path and address), and Akamai's published generator for Node, version 0.2.0,
// generateACLToken("/live/demo/*").
func TestPublishedVectors(t *testing.T) {
	if got := nginxSum("2147483647", "/s/link127.0.0.1", []byte("secret")); got != "_e4Nc3iduzkWRm01TBBNYw" {
		t.Errorf("nginx: %s", got)
	}
	got, err := akamaiToken(Grant{Dir: dir, ExpiresUnix: 1_800_000_000}, []byte(hexKey))
	if want := "exp=1800000000~acl=/live/demo/*~hmac=3eec642183864ea049ac2f590672d0b342d501d63b66245abcfbd01947803cc1"; got != want || err != nil {
		t.Errorf("akamai: %s, %v", got, err)
	}
}

// What is released may not change: addresses given out must go on being good.
func TestAddressesStayAsTheyWere(t *testing.T) {
	g := Grant{Dir: dir, Session: "sabc.def", ExpiresUnix: 1_800_000_000}
	for name, want := range map[string]string{
		"spillway":    "https://cdn.example/t/sabc.def",
		"nginx-path":  "https://cdn.example/s/SWw7-5lR6sn-pGUUMrKSbg/1800000000",
		"akamai-path": "https://cdn.example/hdntl=exp=1800000000~acl=/live/demo/*~hmac=3eec642183864ea049ac2f590672d0b342d501d63b66245abcfbd01947803cc1",
	} {
		s, err := ByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Base(s, "https://cdn.example", g, keyOf(s)); got != want || err != nil {
			t.Errorf("%s: %s, %v; want %s", name, got, err, want)
		}
	}
}

func TestEverySchemeSignsAndVerifies(t *testing.T) {
	now := time.Unix(1_795_000_000, 0)
	for _, s := range Schemes() {
		t.Run(s.Name(), func(t *testing.T) {
			key := keyOf(s)
			if err := s.CheckKey(key); err != nil {
				t.Fatal(err)
			}
			if s.CheckKey([]byte("short")) == nil {
				t.Error("a short key is taken")
			}
			path := dir + "src/video/1-5.m4s"
			u, err := s.Sign(parse(t, "https://cdn.example"+path), grant(t, now.Unix()+60), key)
			if err != nil {
				t.Fatal(err)
			}
			sent := parse(t, u.String()) // as a CDN gets it
			g, clean, err := s.Verify(sent, key, now)
			if err != nil || clean != path || g.ExpiresUnix != now.Unix()+60 || !strings.HasPrefix(path, g.Dir) {
				t.Fatalf("%s: %+v, path %s, %v", u, g, clean, err)
			}
			if _, _, err := s.Verify(sent, key, now.Add(2*time.Minute)); !errors.Is(err, ErrExpired) {
				t.Errorf("after its end: %v", err)
			}
			if _, _, err := s.Verify(sent, []byte(strings.Repeat("f", 32)), now); !errors.Is(err, ErrSignature) {
				t.Errorf("with another key: %v", err)
			}
			if _, _, err := s.Verify(parse(t, "https://cdn.example"+path), key, now); !errors.Is(err, ErrNoToken) {
				t.Errorf("without a token: %v", err)
			}
			other := parse(t, u.String())
			other.Path, other.RawPath = strings.Replace(other.Path, path, "/live/other/src/video/1-5.m4s", 1), ""
			if _, _, err := s.Verify(other, key, now); err == nil {
				t.Error("good for another stream")
			}
			if s.Inherits() != nil {
				return
			}
			// What a player makes of a relative URI of a playlist at the signed address.
			sibling := sent.ResolveReference(parse(t, "../audio/2-7.0.m4s"))
			if _, clean, err := s.Verify(sibling, key, now); err != nil || clean != dir+"src/audio/2-7.0.m4s" {
				t.Errorf("a relative URI: %s, %v", clean, err)
			}
			if _, err := s.Sign(parse(t, "https://cdn.example/away/x"), grant(t, now.Unix()+60), key); !errors.Is(err, ErrPath) {
				t.Errorf("an address outside the folder: %v", err)
			}
		})
	}
}

func TestQuerySchemesAreRefusedForPlaylists(t *testing.T) {
	for _, name := range []string{"nginx-query", "akamai-query"} {
		if _, err := ForPlaylists(name); err == nil || !strings.Contains(err.Error(), "relative URIs") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ForPlaylists("rot13"); err == nil || !strings.Contains(err.Error(), "akamai-path") {
		t.Errorf("an unknown scheme: %v", err)
	}
	if s, err := ForPlaylists(""); err != nil || s.Name() != "spillway" {
		t.Errorf("no scheme: %v, %v", s, err)
	}
}

func FuzzVerify(f *testing.F) {
	now := time.Unix(1_795_000_000, 0)
	for _, s := range Schemes() {
		u, err := s.Sign(parse(f, "https://cdn.example"+dir+"src/video/1-5.m4s"), grant(f, now.Unix()-1), keyOf(s))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(u.RequestURI())
	}
	f.Add("/s//1//")
	f.Add("/hdntl=~hmac=")
	f.Fuzz(func(t *testing.T, uri string) {
		u, err := url.ParseRequestURI(uri)
		if err != nil {
			return
		}
		for _, s := range Schemes() {
			// The seeds have expired, so nothing verifies without a forged signature.
			if g, _, err := s.Verify(u, keyOf(s), now); err == nil {
				t.Errorf("%s: %q is taken: %+v", s.Name(), uri, g)
			}
		}
	})
}

// slowly is Spillway by the way that all schemes go.
type slowly struct{ Spillway }

// TestPlainBases: the short way gives what the long one does, or is not taken.
func TestPlainBases(t *testing.T) {
	for _, base := range []string{"https://cdn.example", "http://127.0.0.1:8080", "https://cdn.example:443", "https://[::1]:80", "https://cdn.example/x", "https://u:p@cdn", "https://", "ftp://a", "https://a:b", "https://:80", "https://A.example", "cdn.example", "https://a?b", "https://a#b", "https://a%20b"} {
		for _, dir := range []string{"/live/demo/", "live/demo/", "/live/../demo/", ""} {
			g := Grant{Dir: dir, Session: "stok.mac", ExpiresUnix: 1}
			short, err1 := Base(Spillway{}, base, g, nil)
			long, err2 := Base(slowly{}, base, g, nil)
			if short != long || (err1 == nil) != (err2 == nil) {
				t.Errorf("base %q, folder %q: %q, %v; the long way %q, %v", base, dir, short, err1, long, err2)
			}
		}
	}
}
