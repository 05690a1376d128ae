// Package simulate shows that the statistics of experiments keep what they
// promise: it makes up viewers with heavy tails and several sessions each, lets
// experiments run on them, and counts how often a report is wrong.
//
// It promises that the figures come from package stats and from the rules of
// package report, not from a copy, and that the same seed gives the same figures.
// The viewers are made up: what real ones do that these do not is not in them.
package simulate

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/spillway-live/spillway/analytics/experiments/plan"
	"github.com/spillway-live/spillway/analytics/experiments/report"
	"github.com/spillway-live/spillway/analytics/stats"
	"github.com/spillway-live/spillway/schemas"
)

// Settings of the simulations.
type Settings struct {
	Runs    int // of each kind; default 4000
	Viewers int // of each arm; default 2000
	Seed    uint64
	// Progress is told which part of all is done; may be nil. False stops.
	Progress func(part float64) bool

	sample int // viewers from whom the truth is taken; default a million
}

// Limits of Settings.
const (
	minRuns    = 20
	MaxRuns    = 1_000_000
	MaxViewers = 1_000_000
)

const (
	alpha = 0.05
	power = plan.Power
	// lift is planted where the coverage of lifts is counted.
	lift = 0.3
)

// ErrStopped is returned when Progress said to stop.
var ErrStopped = errors.New("simulation stopped")

func (s *Settings) check() error {
	if s.Runs == 0 {
		s.Runs = 4000
	}
	if s.Viewers == 0 {
		s.Viewers = 2000
	}
	if s.sample == 0 {
		s.sample = 1_000_000
	}
	if s.Runs < minRuns || s.Runs > MaxRuns {
		return fmt.Errorf("runs: %d is not from %d to %d", s.Runs, minRuns, MaxRuns)
	}
	if s.Viewers < 2*stats.MinUnitsPerArm || s.Viewers > MaxViewers {
		return fmt.Errorf("viewers: %d is not from %d to %d", s.Viewers, 2*stats.MinUnitsPerArm, MaxViewers)
	}
	return nil
}

// truth is what holds for the population, from a sample so large that its own
// error does not count.
type truth struct {
	ratio, ratioVar float64 // stall ratio, and the variance of one unit
	p90Ms           float64
}

func find(seed uint64, viewers int) (truth, error) {
	var a arm
	a.draw(rand.New(rand.NewPCG(seed, math.MaxUint64)), viewers, effect{})
	for d := range days {
		a.day(d)
	}
	e, err := a.ratio()
	if err != nil {
		return truth{}, err
	}
	var q ranked
	c, err := q.p90(&a)
	return truth{ratio: e.Value, ratioVar: e.Var * e.Units, p90Ms: c.Quantile}, err
}

// experiment of 14 days that is to find a difference of the stall ratio.
func (t *truth) experiment(perArm int) (*schemas.Experiment, float64, error) {
	delta, err := stats.Plan{Alpha: alpha, Power: power}.MDEMean(t.ratioVar, float64(perArm), float64(perArm))
	if err != nil {
		return nil, 0, err
	}
	x := &schemas.Experiment{
		Name: "simulated", Status: schemas.ExperimentRunning, Salt: "s", Unit: schemas.UnitViewer, Layer: "l", Coverage: 1,
		Arms:          []schemas.Arm{{Name: "control", Weight: 1}, {Name: "test", Weight: 1}},
		PrimaryMetric: "stall_ratio", Guardrails: []schemas.Guardrail{{Metric: "start_failure_ratio", Margin: 0.5}},
		Plan: &schemas.ExperimentPlan{Effect: delta / t.ratio, Power: power, Mean: t.ratio, Variance: t.ratioVar, UnitsPerDay: 2 * float64(perArm) / days * 1.01, Days: days},
	}
	return x, delta, x.Check()
}

// counts of what happened in the runs.
type counts struct {
	fixed, fixedFails, fixedBuckets, p90, rowsP90                  int // A/A, at the end
	peeked, sequence, sequenceBuckets, sequenceGroups              int // A/A, at any of the looks until then
	harmed, shipped, stopped, late, shippedBuckets, stoppedBuckets int // A/A, at any of all looks
	anyOfThree, anyNaive                                           int // A/A with three further arms, at the end
	found, foundSequence, foundReport                              int // planted effect
	ratioIn, liftIn, p90In                                         int
	arms                                                           [2]arm
	more                                                           [2]arm // third and fourth
	quantile                                                       ranked
}

var begun = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)

// looked is what a report at the end of a day has seen: every unit, or the sums of n clusters of them.
func (c *counts) looked(d, n int) (report.Seen, error) {
	seen := report.Seen{From: begun, Until: begun.AddDate(0, 0, d+1), Estimates: map[string][]stats.Estimate{}, Active: map[string][]int64{}}
	for i := range c.arms {
		a := &c.arms[i]
		ratio, fails := a.ratio, a.failures
		if n > 0 {
			ratio = func() (stats.Estimate, error) { return a.ratioOf(n) }
			fails = func() (stats.Estimate, error) { return a.failuresOf(n) }
		}
		r, err := ratio()
		if err != nil {
			return seen, err
		}
		f, err := fails()
		if err != nil {
			return seen, err
		}
		seen.Units = append(seen.Units, a.in)
		if n == 0 {
			seen.Active["start_failure_ratio"] = append(seen.Active["start_failure_ratio"], a.failing())
			seen.Active["stall_ratio"] = append(seen.Active["stall_ratio"], a.stalling())
		}
		seen.Estimates["stall_ratio"] = append(seen.Estimates["stall_ratio"], r)
		seen.Estimates["start_failure_ratio"] = append(seen.Estimates["start_failure_ratio"], f)
	}
	return seen, nil
}

// screens adds the histograms that the quantiles of first screens come from.
func (c *counts) screens(seen *report.Seen, until int) {
	seen.Histograms = map[string][][]stats.BucketHist{}
	for i := range c.arms {
		seen.Histograms["first_screen"] = append(seen.Histograms["first_screen"], c.arms[i].hists(until))
	}
}

// look is the report at the end of a day, over every unit.
func (c *counts) look(x *schemas.Experiment, d int) (*report.Report, error) {
	seen, err := c.looked(d, 0)
	return report.Judge(x, seen, alpha), err
}

func comparison(r *report.Report, metric string) *report.Comparison {
	for i := range r.Metrics {
		if r.Metrics[i].Key == metric {
			return &r.Metrics[i].Comparisons[0]
		}
	}
	return nil
}

func below(f report.Figure) int {
	if f.Undefined == "" && f.Value < alpha {
		return 1
	}
	return 0
}

// planted is a run in which the planned effect is there.
func (c *counts) planted(x *schemas.Experiment, r *rand.Rand, units int, delta float64) error {
	c.arms[0].draw(r, units, effect{})
	c.arms[1].draw(r, units, effect{stalled: delta})
	sequence, told := 0, 0
	for d := range days {
		for i := range c.arms {
			c.arms[i].day(d)
		}
		rep, err := c.look(x, d)
		if err != nil {
			return err
		}
		stall := comparison(rep, "stall_ratio")
		sequence = max(sequence, below(stall.SequenceP))
		if rep.Decision.Verdict == report.Stop {
			told = 1
		}
		if d == days-1 {
			c.found += below(stall.P)
		}
	}
	c.foundSequence, c.foundReport = c.foundSequence+sequence, c.foundReport+told
	return nil
}

// cover is a run in which intervals are held against what is true.
func (c *counts) cover(t *truth, r *rand.Rand, units int) error {
	var e [2]stats.Estimate
	for i := range c.arms {
		c.arms[i].draw(r, units, effect{factor: 1 + lift*float64(i)})
		for d := range days {
			c.arms[i].day(d)
		}
		var err error
		if e[i], err = c.arms[i].ratio(); err != nil {
			return err
		}
	}
	level, err := e[0].Interval(alpha)
	if err != nil {
		return err
	}
	if level.Lower <= t.ratio && t.ratio <= level.Upper {
		c.ratioIn++
	}
	l, err := stats.LiftFieller(e[0], e[1], stats.Test{Alpha: alpha})
	if err != nil {
		return err
	}
	if l.Lower <= lift && lift <= l.Upper {
		c.liftIn++
	}
	q, err := stats.QuantileFromBuckets(c.arms[0].hists(days), 0.9, alpha)
	if err != nil {
		return err
	}
	if q.Lower <= t.p90Ms && t.p90Ms <= q.Upper {
		c.p90In++
	}
	return nil
}
