package keys

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/cenc"
)

var one, two = schemas.StreamKey{App: "live", Stream: "one"}, schemas.StreamKey{App: "live", Stream: "two"}

func file(t *testing.T, text string) *schemas.Encryption {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return &schemas.Encryption{Scheme: "cbcs", KeyURL: "file://" + path}
}

func secret(b byte) string {
	return `{"secret":"` + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, 32)) + `"}`
}

func TestKeysOfASecret(t *testing.T) {
	e := file(t, secret(1))
	seen := map[[16]byte]bool{}
	for _, k := range []schemas.StreamKey{one, two} {
		for n := range uint64(3) {
			a, err := (&Ring{}).Key(t.Context(), e, k, n)
			if err != nil {
				t.Fatal(err)
			}
			b, err := (&Ring{}).Key(t.Context(), e, k, n)
			if err != nil || a != b {
				t.Errorf("two processes have %v and %v: %v", a, b, err)
			}
			if seen[a.Key] || seen[a.KID] || seen[a.IV] {
				t.Errorf("%s period %d: a key, id or vector occurs twice", k, n)
			}
			seen[a.Key], seen[a.KID], seen[a.IV] = true, true, true
			if c, err := (&Ring{}).ByKID(t.Context(), e, k, a.KID); err != nil || c != a {
				t.Errorf("the id finds %v: %v", c, err)
			}
			other := one
			if k == one {
				other = two
			}
			if _, err := (&Ring{}).ByKID(t.Context(), e, other, a.KID); !errors.Is(err, ErrNoKey) {
				t.Errorf("another stream's id was taken: %v", err)
			}
		}
	}
}

func TestKeysOfAList(t *testing.T) {
	const a, b = "000102030405060708090a0b0c0d0e0f", "101112131415161718191a1b1c1d1e1f"
	e := file(t, `{"keys":[{"kid":"`+a+`","key":"`+b+`"},{"kid":"`+b+`","key":"`+a+`","iv":"`+a+`"}]}`)
	r := &Ring{}
	for n, kid := range []string{a, b, a} {
		k, err := r.Key(t.Context(), e, one, uint64(n))
		if err != nil || k.KID.String() != kid {
			t.Errorf("period %d: %v %v", n, k, err)
		}
	}
	k, err := r.ByKID(t.Context(), e, one, cenc.KID{15: 1})
	if !errors.Is(err, ErrNoKey) {
		t.Errorf("an id that is not there: %v %v", k, err)
	}
}

// A key service is asked once for a period, and again after it failed.
func TestKeyService(t *testing.T) {
	var asked, down atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		q := r.URL.Query()
		if down.Load() > 0 || q.Get("app") != "live" || q.Get("stream") != "one" || q.Get("tenant") != "7" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		kid := cenc.KID{0: 1, 15: 7}
		if q.Get("kid") == "" && q.Get("period") != "7" {
			kid = cenc.KID{15: 8}
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"kid": kid.UUID(), "key": strings.Repeat("ab", 16)})
	}))
	defer s.Close()
	e := &schemas.Encryption{Scheme: "cbcs", KeyURL: s.URL + "/keys?tenant=7"}
	r := &Ring{}
	down.Store(1)
	if _, err := r.Key(t.Context(), e, one, 7); !errors.Is(err, ErrNoKey) || strings.Contains(err.Error(), "tenant") {
		t.Errorf("%v", err)
	}
	down.Store(0)
	a, err := r.Key(t.Context(), e, one, 7)
	if err != nil {
		t.Fatal(err)
	}
	if a.IV != cenc.IV(a.Key, a.KID) {
		t.Error("the vector is not derived")
	}
	n := asked.Load()
	if b, err := r.Key(t.Context(), e, one, 7); err != nil || a != b || asked.Load() != n {
		t.Errorf("%v after %d questions: %v", b, asked.Load()-n, err)
	}
	if b, err := (&Ring{}).ByKID(t.Context(), e, one, a.KID); err != nil || a != b {
		t.Errorf("by id: %v: %v", b, err)
	}
	if _, err := (&Ring{}).ByKID(t.Context(), e, one, cenc.KID{15: 99}); !errors.Is(err, ErrNoKey) {
		t.Errorf("another key than was asked for was taken: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Key(ctx, e, one, 8); !errors.Is(err, ErrNoKey) {
		t.Errorf("%v", err)
	}
}

func TestKeyFilesAreRefused(t *testing.T) {
	for _, text := range []string{"", "{}", `{"secret":"abcd"}`, `{"keys":[{"kid":"1","key":"2"}]}`, `{"keys":[]}`, secret(1)[:20]} {
		if _, err := parseKeyFile([]byte(text)); err == nil {
			t.Errorf("%s was taken", text)
		}
	}
	if _, err := (&Ring{}).Key(t.Context(), &schemas.Encryption{Scheme: "cbcs", KeyURL: "file:///nowhere/keys"}, one, 0); !errors.Is(err, ErrNoKey) {
		t.Errorf("%v", err)
	}
}

func FuzzKeyFile(f *testing.F) {
	f.Add([]byte(secret(1)))
	f.Add([]byte(`{"keys":[{"kid":"000102030405060708090a0b0c0d0e0f","key":"101112131415161718191a1b1c1d1e1f"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = parseAnswer(b)
		k, err := parseKeyFile(b)
		if err != nil {
			return
		}
		key, err := k.key(one, 3)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := k.byKID(one, key.KID); err != nil || k.secret != nil && again != key {
			t.Fatalf("%v by its id is %v: %v", key, again, err)
		}
	})
}
