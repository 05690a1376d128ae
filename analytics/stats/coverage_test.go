package stats

import (
	"math"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/spillway-live/spillway/analytics/stats/loghist"
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

// A/A on first-screen p90 with several starts per viewer: viewers as units keep
// the error rate from rows and from bucket histograms; rows as units do not.
func TestCoverageOfQuantiles(t *testing.T) {
	r := rand.New(rand.NewPCG(72, 1))
	const runs, perArm, nBuckets = 200, 400, 60
	test := Test{Alpha: 0.05}
	rejected := map[string]int{}
	for range runs {
		var byRow, byUnit, byBucket [2]Estimate
		for arm := range 2 {
			rows := viewers(r, perArm, 0.01)
			naive := make([]UnitRow, len(rows))
			buckets := make([]BucketHist, nBuckets)
			for i := range buckets {
				buckets[i].Bins = map[int32]uint64{}
			}
			for i, row := range rows {
				naive[i] = UnitRow{Unit: strconv.Itoa(i), Value: row.Value}
				u, err := strconv.Atoi(row.Unit[1:])
				if err != nil {
					t.Fatal(err)
				}
				buckets[u%nBuckets].Bins[loghist.BinOf(row.Value)]++
			}
			for _, x := range []struct {
				to *Estimate
				q  func() (ClusterQuantile, error)
			}{
				{&byRow[arm], func() (ClusterQuantile, error) { return QuantileClustered(naive, 0.9, 0.05) }},
				{&byUnit[arm], func() (ClusterQuantile, error) { return QuantileClustered(rows, 0.9, 0.05) }},
				{&byBucket[arm], func() (ClusterQuantile, error) { return QuantileFromBuckets(buckets, 0.9, 0.05) }},
			} {
				q, err := x.q()
				if err != nil {
					t.Fatal(err)
				}
				if *x.to, err = q.Estimate(); err != nil {
					t.Fatal(err)
				}
			}
		}
		for name, e := range map[string][2]Estimate{"rows": byRow, "viewers": byUnit, "buckets": byBucket} {
			d, err := Difference(e[0], e[1], test)
			if err != nil {
				t.Fatal(err)
			}
			if d.P < 0.05 {
				rejected[name]++
			}
		}
	}
	t.Logf("rejected of %d A/A runs: %v", runs, rejected)
	limit := runs*0.05 + 3.5*math.Sqrt(runs*0.05*0.95)
	for _, name := range []string{"viewers", "buckets"} {
		if float64(rejected[name]) > limit {
			t.Errorf("%s as units: %d of %d A/A runs rejected", name, rejected[name], runs)
		}
	}
	if rejected["rows"] <= rejected["viewers"] {
		t.Errorf("rows as units rejected %d, viewers %d: the simulation shows nothing", rejected["rows"], rejected["viewers"])
	}
}
