package simulate

import (
	"bytes"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// TestRun: few runs are told as such, the same seed gives the same figures, and
// what is done wrong is seen to be wrong. How good the rest is, the command shows.
func TestRun(t *testing.T) {
	s := Settings{Runs: 20, Viewers: 200, Seed: 2, sample: 20_000}
	r, err := Run(s)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Run(s); err != nil || !reflect.DeepEqual(again, r) {
		t.Errorf("the same seed gave other figures: %v", err)
	}
	value := map[string]float64{}
	for _, f := range r.Figures {
		value[f.Name] = f.Value
	}
	right, wrong := value["A/A, one look at the end: first screen p90, histograms of 256 hash buckets"], value["A/A, at the end: first screen p90, sessions as units (wrong)"]
	peeked, sequence := value["A/A, 14 daily looks at the fixed interval (naive)"], value["A/A, 14 daily looks: confidence sequence of the stall ratio"]
	if !(wrong > right && peeked > sequence && value["planted effect found with the planned units, one look at the end"] > 0.5) {
		t.Errorf("%+v", r.Figures)
	}
	var out bytes.Buffer
	if err := r.WriteText(&out); err != nil || !strings.Contains(out.String(), "shown only") {
		t.Errorf("%v: %s", err, out.String())
	}
	for _, bad := range []Settings{{Runs: 19}, {Viewers: 199}, {Runs: MaxRuns + 1}} {
		if _, err := Run(bad); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
	s.Progress = func(float64) bool { return false }
	if _, err := Run(s); err != ErrStopped {
		t.Errorf("stopped: %v", err)
	}
}

// TestMissed: a promise that is not kept is found.
func TestMissed(t *testing.T) {
	all := func(n int) counts {
		return counts{fixed: n, fixedFails: n, p90: n, found: n, foundReport: n, ratioIn: n, liftIn: n, p90In: n}
	}
	never, always := all(0), all(1000)
	always.sequence, always.harmed, always.shipped, always.stopped = 1000, 1000, 1000, 1000
	for name, c := range map[string]struct {
		counts *counts
		want   int
	}{"nothing ever": {&never, 8}, "always": {&always, 11}} {
		r := Report{Figures: c.counts.figures(1000)}
		if got := len(r.Missed()); got != c.want {
			t.Errorf("%s: %d figures are missed, want %d: %+v", name, got, c.want, r.Missed())
		}
	}
}

// TestPlantedEffects: what is planted is in the population, exactly.
func TestPlantedEffects(t *testing.T) {
	truth, err := find(3, 20_000)
	if err != nil {
		t.Fatal(err)
	}
	if truth.ratio <= 0 || truth.p90Ms <= firstMedian || math.IsInf(truth.p90Ms, 1) {
		t.Fatalf("%+v", truth)
	}
	ratio := func(e effect) float64 {
		var a arm
		a.draw(rand.New(rand.NewPCG(5, 1)), 2000, e)
		for d := range days {
			a.day(d)
		}
		got, err := a.ratio()
		if err != nil {
			t.Fatal(err)
		}
		return got.Value
	}
	base := ratio(effect{})
	if got := ratio(effect{stalled: 0.01}) - base; math.Abs(got-0.01) > 1e-9 {
		t.Errorf("0.01 planted, the ratio is %v higher", got)
	}
	if got := ratio(effect{factor: 1.3}) / base; math.Abs(got-1.3) > 1e-9 {
		t.Errorf("a factor of 1.3 planted, the ratio is %v times as high", got)
	}
}
