package schemas_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/spillway-live/spillway/schemas"
)

// random fills every field of v; a quarter of them stay empty.
func random(r *rand.Rand, v reflect.Value, depth int) {
	if r.IntN(4) == 0 {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			random(r, v.Field(i), depth+1)
		}
	case reflect.Slice:
		if depth > 4 {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), r.IntN(3), 3))
		for i := range v.Len() {
			random(r, v.Index(i), depth+1)
		}
	case reflect.String:
		v.SetString([]string{"plain", "tok", "https://a/t/tok/x?y=1&z=2", "é\n", "https://b/t/tok/"}[r.IntN(5)])
	case reflect.Float64:
		v.SetFloat(r.NormFloat64() * []float64{1, 1e-8, 1e30}[r.IntN(3)])
	case reflect.Int, reflect.Int64:
		v.SetInt(r.Int64N(1 << 50))
	case reflect.Uint8:
		v.SetUint(uint64(r.IntN(16)))
	default:
		panic(fmt.Sprint("a field of kind ", v.Kind(), ": append it, and fill it here"))
	}
}

// TestAppendedAsEncoded: every field of a decision is there,
// as encoding/json writes it.
func TestAppendedAsEncoded(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var d schemas.Decision
		random(r, reflect.ValueOf(&d).Elem(), 0)
		want, err := json.Marshal(&d)
		if err != nil {
			t.Fatal(err)
		}
		if got := d.AppendJSON(nil); string(got) != string(want) {
			t.Fatalf("appended %s\nencoded  %s", got, want)
		}
	}
}

func BenchmarkEncodeDecision(b *testing.B) {
	d := schemas.Decision{ID: "x", TimeUs: 1_795_000_000_000_000, Kind: schemas.DecisionDispatch, App: "live", Stream: "demo", SessionID: "s", Probability: 1}
	for i := range 20 {
		d.Candidates = append(d.Candidates, schemas.Candidate{CDN: fmt.Sprint("cdn", i), Tier: "room", Score: -0.00512345, Viewers: 1234, Load: 0.12345, Harm: 0.01})
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := schemas.EncodeRecord(&d); err != nil {
			b.Fatal(err)
		}
	}
}
