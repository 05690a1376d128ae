package token

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

// fill sets about three quarters of the fields of a struct.
func fill(t *testing.T, r *rand.Rand, v reflect.Value) {
	for i := range v.NumField() {
		f := v.Field(i)
		if r.IntN(4) == 0 {
			continue
		}
		switch f.Interface().(type) {
		case string:
			f.SetString([]string{"a", "Köln <\"tel\">", "x-1_y"}[r.IntN(3)])
		case bool:
			f.SetBool(true)
		case int64:
			f.SetInt(r.Int64N(1 << 40))
		case uint8:
			f.SetUint(uint64(r.IntN(16)))
		case []string:
			f.Set(reflect.ValueOf([]string{"a", "b", "c"}[:r.IntN(4)]))
		case map[string]int64:
			f.Set(reflect.ValueOf(map[string]int64{"b": 7, "a": r.Int64N(1 << 40)}))
		case Session:
			fill(t, r, f)
		default:
			t.Fatalf("a claim of type %s: append it, and fill it here", f.Type())
		}
	}
}

// TestClaimsAsEncoded: every claim is in the token, as encoding/json writes it.
func TestClaimsAsEncoded(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 1000 {
		var c Session
		var st Steering
		fill(t, r, reflect.ValueOf(&c).Elem())
		fill(t, r, reflect.ValueOf(&st).Elem())
		for _, x := range []struct {
			v   any
			got []byte
		}{{c, append(c.append(nil), '}')}, {st, st.append(nil)}} {
			if want, err := json.Marshal(x.v); err != nil || string(x.got) != string(want) {
				t.Fatalf("appended %s\nencoded  %s, %v", x.got, want, err)
			}
		}
	}
}

func BenchmarkSession(b *testing.B) {
	s, err := NewSigner([]byte("0123456789abcdef"))
	if err != nil {
		b.Fatal(err)
	}
	c := Session{SessionID: s.NewSessionID(), App: "live", Stream: "demo", ViewerID: "0123456789abcdef0123456789abcdef", CDN: "cdn1", Region: "region1", ISP: "isp7", Group: 3, ExpiresUnix: 1_800_000_000}
	tok, err := s.SignSession(c)
	if err != nil {
		b.Fatal(err)
	}
	now := time.Unix(1_795_000_000, 0)
	b.Run("sign", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = s.SignSession(c)
		}
	})
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.ParseSession(tok, now); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("id", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.NewSessionID()
		}
	})
}
