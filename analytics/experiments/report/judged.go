package report

import (
	"time"

	"github.com/spillway-live/spillway/analytics/stats"
	"github.com/spillway-live/spillway/schemas"
)

// Seen is what the arms of an experiment have had, in the order of the arms, however it was found out.
type Seen struct {
	// Units that were exposed and have reported, by arm.
	Units []int64
	// Estimates of metrics by name, one an arm; quantiles are not among them.
	Estimates map[string][]stats.Estimate
	// Active is how many units have a numerator above 0, by metric, one an arm; a metric that is not there: not known.
	Active map[string][]int64
	// Histograms by name (first_screen, latency), of each arm's hash buckets of units, which quantiles come from; what
	// is not there has none.
	Histograms map[string][][]stats.BucketHist
	From       time.Time
	Until      time.Time
	// PlannedEnd is what there was at the end of the planned run, where that is before Until.
	PlannedEnd *Seen
}

// Judge makes of what was seen what Build makes of what ClickHouse holds, by the same rules: for simulations of them.
// x must have passed its Check, with the primary metric and the guardrails among the estimates.
func Judge(x *schemas.Experiment, seen Seen, alpha float64) *Report {
	r := &Report{Experiment: *x, From: seen.From, Until: seen.Until, Alpha: alpha, SequenceUnits: nStar(x)}
	u := units{exposed: map[string]int64{}, reported: map[string]int64{}}
	for i, a := range x.Arms {
		u.exposed[a.Name], u.reported[a.Name] = seen.Units[i], seen.Units[i]
	}
	r.sizes(&u, nil)
	h := seen.hists()
	for _, m := range schemas.Metrics() {
		mr := r.newMetric(m)
		if mr.estimates = seen.of(m, h, mr.Alpha); mr.estimates == nil {
			continue
		}
		if failed := seen.of(failedStarts, h, alpha); failed != nil && formulas[m.Name].hist == "first_screen" {
			withFailures(mr.estimates, failed)
		}
		mr.compare(x, exposedUnits(r.Arms))
		if p := seen.PlannedEnd; p != nil && mr.Role == "primary" {
			then := Judge(x, *p, alpha).primary()
			mr.PlannedEnd = &Look{Until: p.Until, Arms: then.Arms, Comparisons: then.Comparisons}
		}
		r.Metrics = append(r.Metrics, mr)
	}
	r.correct()
	r.Health = r.health(&u, false)
	r.Decision = r.decide()
	return r
}

func (s *Seen) hists() hists {
	out := hists{}
	for name, arms := range s.Histograms {
		for _, each := range arms {
			b, err := stats.NewBuckets(each)
			out[name] = append(out[name], armHist{b, err})
		}
	}
	return out
}

// of are the estimates of a metric, arm by arm; nil: it was not seen.
func (s *Seen) of(m schemas.Metric, h hists, alpha float64) []armEstimate {
	if f := formulas[m.Name]; f.hist != "" {
		if h[f.hist] == nil {
			return nil
		}
		return quantiles(h[f.hist], m.Quantile, alpha)
	}
	var out []armEstimate
	for i, e := range s.Estimates[m.Name] {
		a := armEstimate{e: e, active: -1}
		if known := s.Active[m.Name]; known != nil {
			a.active = known[i]
		}
		out = append(out, a)
	}
	return out
}
