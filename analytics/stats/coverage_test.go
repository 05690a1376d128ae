package stats

import (
	"math"
	"math/rand/v2"
	"testing"
)

// Heavy-tailed stall ratios, viewers as units: the interval of the lift covers
// the planted effect, A/A looks at a confidence sequence stay quiet while looks
// at fixed intervals do not. Seeded: this passes or fails for good. The full
// simulations are a command, this is their smoke test.
func TestCoverageOnHeavyTails(t *testing.T) {
	r := rand.New(rand.NewPCG(71, 1))
	const runs, perArm, looks = 400, 700, 14
	const effect = 0.3
	covered, peeked, sequence := 0, 0, 0
	test := Test{Alpha: 0.05}
	cs := CS{Alpha: 0.05, NStar: 2 * perArm}
	for range runs {
		c, tr := Of(draw(r, perArm, 0)), Of(draw(r, perArm, effect))
		rc, err := Ratio(c)
		if err != nil {
			t.Fatal(err)
		}
		rt, err := Ratio(tr)
		if err != nil {
			t.Fatal(err)
		}
		l, err := LiftFieller(rc, rt, test)
		if err != nil {
			t.Fatal(err)
		}
		if l.Lower <= effect && effect <= l.Upper {
			covered++
		}
		var a, b Moments
		alarm, seqAlarm := false, false
		for range looks {
			a, b = a.Merge(Of(draw(r, perArm/looks, 0))), b.Merge(Of(draw(r, perArm/looks, 0)))
			ra, err := Ratio(a)
			if err != nil {
				t.Fatal(err)
			}
			rb, err := Ratio(b)
			if err != nil {
				t.Fatal(err)
			}
			d, err := Difference(ra, rb, test)
			if err != nil {
				t.Fatal(err)
			}
			s, err := cs.At(d.Estimate, d.SE, float64(a.Units+b.Units))
			if err != nil {
				t.Fatal(err)
			}
			alarm = alarm || d.P < 0.05
			seqAlarm = seqAlarm || s.P < 0.05
		}
		if alarm {
			peeked++
		}
		if seqAlarm {
			sequence++
		}
	}
	se := math.Sqrt(0.05 * 0.95 / runs)
	if miss := 1 - float64(covered)/runs; math.Abs(miss-0.05) > 3.5*se {
		t.Errorf("intervals of the lift missed %v of the time", miss)
	}
	if rate := float64(sequence) / runs; rate > 0.05 {
		t.Errorf("confidence sequence raised %v false alarms", rate)
	}
	if rate := float64(peeked) / runs; rate < 0.10 {
		t.Errorf("peeking at fixed intervals raised only %v false alarms: the simulation shows nothing", rate)
	}
	t.Logf("lift covered %.3f, false alarms: peeking %.3f, sequence %.3f", float64(covered)/runs, float64(peeked)/runs, float64(sequence)/runs)
}
