package simulate

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"text/tabwriter"

	"github.com/spillway-live/spillway/analytics/experiments/plan"
)

// Figure is one promise and what the runs show of it.
type Figure struct {
	Name string `json:"name"`
	// Value is a share of runs; Low and High are what it may be: the promise, with three
	// standard errors of the simulation around one that is an equality.
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
	// Shown only: what it would be done wrong; nothing is promised of it.
	Shown bool `json:"shown_only,omitempty"`
}

// Holds says whether the promise is kept.
func (f *Figure) Holds() bool { return f.Shown || f.Value >= f.Low && f.Value <= f.High }

// Report is what all runs show.
type Report struct {
	Runs    int `json:"runs"`
	Viewers int `json:"viewers_an_arm"`
	// Planted is the effect that the planned units are to find, as a lift of the stall ratio of StallRatio.
	Planted    float64  `json:"planted_lift"`
	StallRatio float64  `json:"stall_ratio"`
	Needed     float64  `json:"planned_units"`
	Seed       uint64   `json:"seed"`
	Figures    []Figure `json:"figures"`
}

// Missed gives the figures that do not hold.
func (r *Report) Missed() []Figure {
	var out []Figure
	for _, f := range r.Figures {
		if !f.Holds() {
			out = append(out, f)
		}
	}
	return out
}

// Run makes all runs. Errors: settings out of range; ErrStopped.
func Run(s Settings) (*Report, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	t, err := find(s.Seed, s.sample)
	if err != nil {
		return nil, err
	}
	x, delta, err := t.experiment(s.Viewers)
	if err != nil {
		return nil, err
	}
	size, err := plan.Of(x)
	if err != nil {
		return nil, err
	}
	units := int(math.Round(size.Needed / 2))
	var c counts
	for i := range c.arms {
		c.arms[i].lots = rand.New(rand.NewPCG(s.Seed, math.MaxUint64-1-uint64(i)))
	}
	for i := range c.more {
		c.more[i].lots = rand.New(rand.NewPCG(s.Seed, math.MaxUint64-3-uint64(i)))
	}
	for run := range s.Runs {
		r := rand.New(rand.NewPCG(s.Seed, uint64(run)))
		for _, kind := range []func() error{
			func() error { return c.same(x, r, units) },
			func() error { return c.planted(x, r, units, delta) },
			func() error { return c.cover(&t, r, units) },
		} {
			if err := kind(); err != nil {
				return nil, fmt.Errorf("run %d: %w", run, err)
			}
		}
		if s.Progress != nil && !s.Progress(float64(run+1)/float64(s.Runs)) {
			return nil, ErrStopped
		}
	}
	return &Report{Runs: s.Runs, Viewers: units, Planted: x.Plan.Effect, StallRatio: t.ratio, Needed: size.Needed, Seed: s.Seed, Figures: c.figures(s.Runs)}, nil
}

func (c *counts) figures(runs int) []Figure {
	share := func(n int) float64 { return float64(n) / float64(runs) }
	equal := func(name string, n int, p float64) Figure {
		d := 3 * math.Sqrt(p*(1-p)/float64(runs))
		return Figure{Name: name, Value: share(n), Low: p - d, High: min(p+d, 1)}
	}
	most := func(name string, n int, p float64) Figure { return Figure{Name: name, Value: share(n), High: p} }
	least := func(name string, n int, p float64) Figure {
		return Figure{Name: name, Value: share(n), Low: p - 3*math.Sqrt(p*(1-p)/float64(runs)), High: 1}
	}
	about := func(name string, n int, p float64) Figure {
		f := equal(name, n, p)
		f.Low = 0
		return f
	}
	shown := func(name string, n int) Figure { return Figure{Name: name, Value: share(n), High: 1, Shown: true} }
	return []Figure{
		equal("A/A, one look at the end: stall ratio, viewers as units", c.fixed, alpha),
		equal("A/A, one look at the end: start failures, viewers as units", c.fixedFails, alpha),
		equal("A/A, one look at the end: stall ratio, 256 hash buckets", c.fixedBuckets, alpha),
		// Bins of two percent cannot tell a smaller difference, and count as variance.
		about("A/A, one look at the end: first screen p90, histograms of 256 hash buckets", c.p90, alpha),
		shown("A/A, at the end: first screen p90, sessions as units (wrong)", c.rowsP90),
		most("A/A, 14 daily looks: confidence sequence of the stall ratio", c.sequence, alpha),
		most("A/A, 14 daily looks: the same over 256 hash buckets", c.sequenceBuckets, alpha),
		most("A/A, 14 daily looks: the same over 32 groups of them (reports over time)", c.sequenceGroups, alpha),
		shown("A/A, 14 daily looks at the fixed interval (naive)", c.peeked),
		shown("A/A, 15 daily looks at the fixed interval from the planned end on (naive)", c.late),
		most("A/A, 28 daily looks, 14 of them after the planned end: the guardrail stops the experiment", c.harmed, alpha),
		most("A/A, the same looks: the report says ship", c.shipped, alpha),
		// The guardrail has alpha; the harmful sides of the primary metric's sequence and of its fixed test have half each.
		most("A/A, the same looks: the report says stop", c.stopped, 2*alpha),
		most("A/A, the same looks: the report over 256 hash buckets says ship", c.shippedBuckets, alpha),
		most("A/A, the same looks: the report over 256 hash buckets says stop", c.stoppedBuckets, 2*alpha),
		about("A/A with three further arms, one look at the end: any is said to differ from the control", c.anyOfThree, alpha),
		shown("A/A with three further arms, the same with each at 5 % (naive)", c.anyNaive),
		equal("planted effect found with the planned units, one look at the end", c.found, power),
		shown("planted effect found by the confidence sequence within the planned days", c.foundSequence),
		least("planted harm: the report says stop within the planned days", c.foundReport, power),
		equal("coverage of 95 % intervals: stall ratio", c.ratioIn, 1-alpha),
		equal("coverage of 95 % intervals: lift of the stall ratio (Fieller)", c.liftIn, 1-alpha),
		least("coverage of 95 % intervals: first screen p90, histograms of 256 hash buckets", c.p90In, 1-alpha),
	}
}

// WriteText prints the figures as a table.
func (r *Report) WriteText(out io.Writer) error {
	fmt.Fprintf(out, "%d runs of each kind, %d viewers in each arm, stall ratio %.2f %%, planted lift %.1f %%, seed %d\n\n", r.Runs, r.Viewers, 100*r.StallRatio, 100*r.Planted, r.Seed)
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "SHARE OF RUNS\tSEEN\tALLOWED\t")
	for i := range r.Figures {
		f := &r.Figures[i]
		allowed, mark := fmt.Sprintf("%.2f to %.2f %%", 100*f.Low, 100*f.High), "holds"
		switch {
		case f.Shown:
			allowed, mark = "", "shown only"
		case !f.Holds():
			mark = "MISSED"
		}
		fmt.Fprintf(w, "%s\t%.2f %%\t%s\t%s\n", f.Name, 100*f.Value, allowed, mark)
	}
	return w.Flush()
}
