package validate

import (
	"math"
	"testing"
)

// TestFewCases: worlds are asked about, answers have intervals around them, and
// the sums are those of the cases.
func TestFewCases(t *testing.T) {
	r, err := Run(Settings{Cases: 2, Sessions: 220, Seed: 5, Jobs: 2, Traces: Normalise([][]float64{wave(300)})})
	if err != nil {
		t.Fatal(err)
	}
	if r.Asked != 2 || r.Refused+r.Wide+r.Answered != 2 || r.Refused == 2 {
		t.Fatalf("%d asked, %d refused, %d wide, %d answered", r.Asked, r.Refused, r.Wide, r.Answered)
	}
	for _, c := range r.Cases {
		if c.Refused != "" {
			continue
		}
		if p := c.Predicted; !(p.Low > 0 && p.Low < p.Value && p.Value < p.High) || math.IsInf(p.High, 0) || c.Happened <= 0 {
			t.Errorf("%+v", c)
		}
		// Not how well, which is for the command, but that the two speak of the same.
		if e := math.Abs(math.Log(c.Predicted.Value / c.Happened)); e > 1.5 {
			t.Errorf("predicted %v, happened %v: %+v", c.Predicted.Value, c.Happened, c)
		}
	}
}

func wave(n int) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = 1 + 0.8*math.Sin(float64(i)/7)
	}
	return x
}

func TestNormalise(t *testing.T) {
	got := Normalise([][]float64{wave(100), make([]float64, 100), {1, 2}})
	if len(got) != 1 {
		t.Fatalf("%d traces kept, want the one that has a rate and lasts", len(got))
	}
	sum := 0.0
	for _, x := range got[0] {
		sum += x
	}
	if math.Abs(sum/100-1) > 1e-9 {
		t.Errorf("mean %v", sum/100)
	}
}
