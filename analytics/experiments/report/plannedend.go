package report

import (
	"context"
	"slices"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

// plannedEnd is when the planned run is over; false: nothing was planned.
func plannedEnd(x *schemas.Experiment, from time.Time) (time.Time, bool) {
	if x.Plan == nil {
		return time.Time{}, false
	}
	return from.Add(time.Duration(x.Plan.Days * float64(24*time.Hour))), true
}

// plannedEnd is when the planned run was over; false: it is not, or nothing was planned.
func (q *queries) plannedEnd() (time.Time, bool) {
	end, ok := plannedEnd(q.x, q.from)
	return end, ok && end.Before(q.until)
}

// atPlannedEnd compares the arms on the data until the end of the planned run: the fixed test holds for that one look,
// whoever looks how often afterwards. nil: there is no data beyond it.
func (q *queries) atPlannedEnd(ctx context.Context, all *units, metric string, o Options) (*Look, error) {
	end, ok := q.plannedEnd()
	if !ok {
		return nil, nil
	}
	then := &queries{conn: q.conn, x: q.x, db: q.db, from: q.from, until: end, rolled: q.rolled, steps: newSteps(q.from, end)}
	f := formulas[metric]
	then.only = slices.Concat([]string{"sessions", f.hist}, f.num, f.den)
	u, err := q.unitsPlanned(ctx, all, then)
	if err != nil {
		return nil, err
	}
	d, err := then.read(ctx, &u, true)
	if err != nil {
		return nil, err
	}
	u.fromSums(q.x, d.all)
	part := Report{Experiment: *q.x, From: q.from, Until: end, Alpha: o.Alpha}
	part.sizes(&u, d.all)
	m, _ := schemas.MetricNamed(metric)
	var exact map[string]map[string]unitSums
	if o.Exact && m.Quantile == 0 {
		if exact, err = then.exact(ctx, []schemas.Metric{m}); err != nil {
			return nil, err
		}
	}
	mr := part.metric(m, d, d.all.hists(q.x), exact)
	for _, s := range then.asked {
		s.Purpose += ", until the planned end"
		q.asked = append(q.asked, s)
	}
	l := Look{Until: end, Arms: mr.Arms, Comparisons: mr.Comparisons}
	for i := range l.Comparisons {
		l.Comparisons[i].Holm.Undefined = "decides by itself"
	}
	return &l, nil
}
