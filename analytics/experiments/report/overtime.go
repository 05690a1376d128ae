package report

import (
	"errors"
	"fmt"
	"time"

	"github.com/spillway-live/spillway/analytics/stats"
	"github.com/spillway-live/spillway/analytics/stats/loghist"
	"github.com/spillway-live/spillway/schemas"
)

// overTime fills every metric's figures as they stood at the end of each step. Units are those exposed until then.
func (r *Report) overTime(d data, s steps) {
	x := &r.Experiment
	d.over(func(i int, a arms) {
		sizes := make([]float64, len(x.Arms))
		for k, arm := range x.Arms {
			for _, c := range a[arm.Name] {
				sizes[k] += float64(c.units)
			}
		}
		h := a.hists(x)
		for k := range r.Metrics {
			m := &r.Metrics[k]
			m.Looks = append(m.Looks, m.look(x, a, h, s.end(i), sizes))
		}
	})
}

// look computes a metric on part of the data.
func (m *MetricReport) look(x *schemas.Experiment, a arms, h hists, until time.Time, units []float64) Look {
	named, _ := schemas.MetricNamed(m.Key)
	e := a.estimates(x, named, h, m.Alpha)
	var pairs []pairing
	if m.pairs != nil {
		pairs = []pairing{a.pair(x, named, false, m.Alpha)}
	}
	l := Look{Until: until, Arms: m.spans(e, m.Alpha), Comparisons: compare(x, e, pairs, units, m.scale, m.Alpha)}
	for i := range l.Comparisons {
		l.Comparisons[i].Holm.Undefined = "not corrected: one metric at several times"
	}
	return l
}

// peakHours fills the figures of the busiest hours of each day, once there are days to speak of.
func (r *Report) peakHours(d data) {
	x := &r.Experiment
	if d.peak == nil || r.Until.Sub(r.From) < 2*peakHours*time.Hour {
		return
	}
	r.clamped = d.peak.clamp()
	h := d.peak.hists(x)
	for k := range r.Metrics {
		m := &r.Metrics[k]
		l := m.look(x, d.peak, h, r.Until, exposedUnits(r.Arms))
		for i := range l.Comparisons {
			l.Comparisons[i].Holm.Undefined = "not corrected: part of the same data"
		}
		if formulas[m.Key].hist == "" && formulas[m.Key].den == nil {
			l = without(x, l.Until, "units of the peak hours are not counted apart")
		}
		m.Peak = &l
	}
}

// clamp sets what is below 0 in the histograms to 0, for part of the data that does not begin with the experiment, and
// gives how many rows that is.
func (a arms) clamp() (rows int64) {
	for _, clusters := range a {
		for _, c := range clusters {
			for _, h := range c.hist {
				for b, n := range h {
					if n < 0 {
						h[b], rows = 0, rows-n
					}
				}
			}
		}
	}
	return rows
}

// without is a look at nothing, for a reason.
func without(x *schemas.Experiment, until time.Time, reason string) Look {
	l := Look{Until: until}
	u := Span{Undefined: reason}
	l.Arms = append(l.Arms, u)
	for _, a := range x.Arms[1:] {
		f := Figure{Undefined: reason}
		l.Arms = append(l.Arms, u)
		l.Comparisons = append(l.Comparisons, Comparison{Arm: a.Name, Difference: u, Lift: u, P: f, Sequence: u, SequenceP: f, Holm: f})
	}
	return l
}

// Distribution is the distribution function of first screen or latency, arm by arm.
type Distribution struct {
	Key  string            `json:"key"` // first_screen or latency
	Name string            `json:"name"`
	Arms []ArmDistribution `json:"arms"`
}

// ArmDistribution is that of one arm. Failed starts count as infinitely slow: the curve of first screens ends below 1.
type ArmDistribution struct {
	Arm string `json:"arm"`
	// Rows is how many values it is of, DesignEffect by how much the units make them count less.
	Rows         uint64  `json:"rows"`
	DesignEffect float64 `json:"design_effect,omitempty"`
	// Points are the shares of values up to so many milliseconds, with a band that holds for all values and at all looks.
	Points    []CDFPoint `json:"points,omitempty"`
	Undefined string     `json:"undefined,omitempty"`
}

// CDFPoint is one point of a distribution function.
type CDFPoint struct {
	Ms    float64 `json:"ms"`
	F     float64 `json:"f"`
	Lower float64 `json:"lower"`
	Upper float64 `json:"upper"`
}

// maxCDFPoints bounds a curve: more cannot be seen.
const maxCDFPoints = 120

// distributions are curves from the histograms. The band is Howard and Ramdas's, which holds for all values and at every
// look; the rows it counts are divided by the design effect of the median, because rows of a unit hang together.
func (r *Report) distributions(a arms) []Distribution {
	var out []Distribution
	for _, key := range []string{"first_screen", "latency"} {
		d := Distribution{Key: key, Name: map[string]string{"first_screen": "First screen", "latency": "Live latency"}[key]}
		for _, arm := range r.Experiment.Arms {
			c, err := curve(a[arm.Name], key, r.Alpha)
			c.Arm = arm.Name
			if err != nil {
				c.Undefined = why(err)
			}
			d.Arms = append(d.Arms, c)
		}
		out = append(out, d)
	}
	return out
}

func curve(clusters []cluster, key string, alpha float64) (ArmDistribution, error) {
	var out ArmDistribution
	hists, err := histsOf(clusters, key)
	if err != nil {
		return out, err
	}
	all := map[int32]uint64{}
	for _, h := range hists {
		loghist.Merge(all, h.Bins)
	}
	h, err := loghist.New(all, 0)
	if err != nil {
		return out, fmt.Errorf("histogram: %w", err)
	}
	out.Rows = h.Total()
	median, err := stats.QuantileFromBuckets(hists, 0.5, alpha)
	var u *stats.Undefined
	if errors.As(err, &u) && u.Reason == stats.ZeroVariance {
		err = nil // all units agree: their rows count as they are
	}
	if err != nil {
		return out, err
	}
	out.DesignEffect = max(1, median.DesignEffect)
	points, err := stats.CDFBand(h, stats.MinUnitsPerArm, out.DesignEffect, alpha)
	if err != nil {
		return out, err
	}
	step := (len(points) + maxCDFPoints - 1) / maxCDFPoints
	for i, p := range points {
		if i%step == 0 || i == len(points)-1 {
			out.Points = append(out.Points, CDFPoint(p))
		}
	}
	return out, nil
}
