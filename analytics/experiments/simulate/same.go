package simulate

import (
	"math/rand/v2"
	"slices"

	"github.com/spillway-live/spillway/analytics/experiments/report"
	"github.com/spillway-live/spillway/analytics/stats"
	"github.com/spillway-live/spillway/schemas"
)

// watched is what one run without a difference showed at any of its looks: 1 where it did.
type watched struct {
	end                      *report.Seen // at the planned end
	peeked, late, sequence   int
	harmed, shipped, stopped int
}

// look judges what is seen at the end of a day, as a report does.
func (w *watched) look(x *schemas.Experiment, seen report.Seen, d int) *report.Report {
	if d >= days {
		seen.PlannedEnd = w.end
	}
	rep := report.Judge(x, seen, alpha)
	stall := comparison(rep, "stall_ratio")
	if d < days {
		w.peeked, w.sequence = max(w.peeked, below(stall.P)), max(w.sequence, below(stall.SequenceP))
	}
	if d >= days-1 {
		w.late = max(w.late, below(stall.P))
	}
	if d == days-1 {
		end := seen
		end.Histograms = nil // only the primary metric is asked for again
		w.end = &end
	}
	for _, g := range rep.Decision.Guardrails {
		if g.State == report.GuardHarmed {
			w.harmed = 1
		}
	}
	switch rep.Decision.Verdict {
	case report.Ship:
		w.shipped = 1
	case report.Stop:
		w.stopped = 1
	}
	return rep
}

// same is a run in which the arms do not differ. It goes on after the planned end, and so do the looks.
func (c *counts) same(x *schemas.Experiment, r *rand.Rand, units int) error {
	for i := range c.arms {
		c.arms[i].draw(r, units, effect{})
	}
	// over every unit, as the loop and the command report; over buckets as the page does; over groups of them as over time
	var exact, page, over watched
	for d := range looks {
		if d == days {
			for i := range c.arms {
				c.arms[i].come(c.arms[i].lots, units, effect{}, days, looks-days)
			}
		}
		for i := range c.arms {
			c.arms[i].day(d)
		}
		for n, w := range map[int]*watched{0: &exact, clusters: &page, groups: &over} {
			if n == groups && d >= days {
				continue
			}
			seen, err := c.looked(d, n)
			if err != nil {
				return err
			}
			if d == days-1 && n == clusters {
				c.screens(&seen, days)
			}
			rep := w.look(x, seen, d)
			if d == days-1 {
				c.atEnd(rep, n)
			}
			if d == days-1 && n == 0 {
				if err := c.four(x, seen, units); err != nil {
					return err
				}
			}
		}
	}
	c.peeked, c.sequence, c.late = c.peeked+exact.peeked, c.sequence+exact.sequence, c.late+exact.late
	c.harmed, c.shipped, c.stopped = c.harmed+exact.harmed, c.shipped+exact.shipped, c.stopped+exact.stopped
	c.sequenceBuckets, c.shippedBuckets, c.stoppedBuckets = c.sequenceBuckets+page.sequence, c.shippedBuckets+page.shipped, c.stoppedBuckets+page.stopped
	c.sequenceGroups += over.sequence
	return c.rows()
}

// atEnd counts what the one look at the planned end shows.
func (c *counts) atEnd(rep *report.Report, n int) {
	switch n {
	case 0:
		c.fixed += below(comparison(rep, "stall_ratio").P)
		c.fixedFails += below(comparison(rep, "start_failure_ratio").P)
	case clusters:
		c.fixedBuckets += below(comparison(rep, "stall_ratio").P)
		c.p90 += below(comparison(rep, "first_screen_p90").P)
	}
}

// four adds two more arms to what was seen at the planned end, and counts reports in which any arm differs from the
// control: as judged, and with each arm at the whole error rate.
func (c *counts) four(x *schemas.Experiment, seen report.Seen, units int) error {
	four := *x
	four.Arms = slices.Concat(x.Arms, []schemas.Arm{{Name: "third", Weight: 1}, {Name: "fourth", Weight: 1}})
	all := report.Seen{From: seen.From, Until: seen.Until, Units: slices.Clone(seen.Units), Estimates: map[string][]stats.Estimate{}}
	for name, e := range seen.Estimates {
		all.Estimates[name] = slices.Clone(e)
	}
	for i := range c.more {
		a := &c.more[i]
		a.draw(a.lots, units, effect{})
		for d := range days {
			a.day(d)
		}
		ratio, err := a.ratio()
		if err != nil {
			return err
		}
		fails, err := a.failures()
		if err != nil {
			return err
		}
		all.Units = append(all.Units, a.in)
		all.Estimates["stall_ratio"] = append(all.Estimates["stall_ratio"], ratio)
		all.Estimates["start_failure_ratio"] = append(all.Estimates["start_failure_ratio"], fails)
	}
	rep := report.Judge(&four, all, alpha)
	differs, naive := 0, 0
	for _, m := range rep.Metrics {
		if m.Role != "primary" {
			continue
		}
		for _, cmp := range m.Comparisons {
			if cmp.P.Undefined == "" && cmp.P.Value < m.Alpha {
				differs = 1
			}
			naive = max(naive, below(cmp.P))
		}
	}
	c.anyOfThree, c.anyNaive = c.anyOfThree+differs, c.anyNaive+naive
	return nil
}

// rows counts the wrong test of equal p90, of sessions as if they were independent.
func (c *counts) rows() error {
	var e [2]stats.Estimate
	for i := range c.arms {
		q, err := c.quantile.p90(&c.arms[i])
		if err != nil {
			return err
		}
		if e[i], err = q.Estimate(); err != nil {
			return err
		}
	}
	d, err := stats.Difference(e[0], e[1], stats.Test{Alpha: alpha})
	if d.P < alpha {
		c.rowsP90++
	}
	return err
}
