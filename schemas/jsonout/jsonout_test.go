package jsonout_test

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/spillway-live/spillway/schemas/jsonout"
)

// FuzzAsEncodingJSON: the bytes are those of encoding/json.
func FuzzAsEncodingJSON(f *testing.F) {
	f.Add("plain-1_x", 0.5)
	f.Add("quote\" back\\ <&> \x00 \u2028 é \xff \x7f", -1e-7)
	f.Add("", 1e21)
	f.Fuzz(func(t *testing.T, s string, x float64) {
		check := func(got []byte, v any) {
			want, err := json.Marshal(v)
			if err == nil && string(got) != string(want) {
				t.Errorf("%s, encoding/json writes %s", got, want)
			}
		}
		check(jsonout.String(nil, s), s)
		check(jsonout.With(nil, s+"plain"+s, "plain"), s+"plain"+s)
		check(jsonout.Float(nil, x), x)
		check(append(jsonout.NumIf(jsonout.Num(jsonout.IntIf(jsonout.Int(jsonout.StrIf(jsonout.Open(nil, "a", s), "b", s), "c", int64(len(s))), "d", int64(len(s))), "e", x), "f", x), '}'), struct {
			A string  `json:"a"`
			B string  `json:"b,omitempty"`
			C int     `json:"c"`
			D int     `json:"d,omitempty"`
			E float64 `json:"e"`
			F float64 `json:"f,omitempty"`
		}{s, s, len(s), len(s), x, x})
	})
}

func TestFloats(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 60_000 {
		x := math.Float64frombits(r.Uint64())
		if i%3 > 0 { // with few decimals, and next to such a one
			x = math.Trunc(r.NormFloat64()*math.Pow10(r.IntN(17))) / math.Pow10(r.IntN(13))
			if i%3 > 1 {
				x = math.Nextafter(x, r.NormFloat64()*1e18)
			}
		}
		want, err := json.Marshal(x)
		if err != nil {
			want = []byte("0")
		}
		if got := jsonout.Float(nil, x); string(got) != string(want) {
			t.Fatalf("%s, encoding/json writes %s", got, want)
		}
	}
}
