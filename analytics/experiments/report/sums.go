package report

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spillway-live/spillway/analytics/stats"
	"github.com/spillway-live/spillway/schemas"
)

// buckets is the number of hash buckets of the roll-ups; over time they are put together into groups, which are still
// independent clusters of units and make less to read.
const (
	buckets = 256
	groups  = 32
)

// peakHours is how many hours of each day are its busiest, by time viewed in all arms together.
const peakHours = 3

// cluster are the totals of one cluster of an arm: a hash bucket of units, or a unit itself where units are few.
// Clusters of an arm are independent of each other, which is all that variance needs.
type cluster struct {
	unit  string  // where it is one unit
	units int64   // exposed units in it
	sums  []int64 // by columns
	hist  map[string]counts
}

// arms are the clusters of each arm, by arm's name.
type arms map[string][]cluster

// data is what a report is computed from.
type data struct {
	all  arms
	peak arms // of the busiest hours of each day; nil: not read
	// over calls f with all sums up to the end of each step; what it gives is changed by the next call. nil: not read.
	over func(f func(step int, a arms))
}

// read gives all sums: by hash bucket from the roll-ups where units are many, by unit from the slices where they are
// streams or blocks.
func (q *queries) read(ctx context.Context, u *units, brief bool) (d data, err error) {
	if q.x.Unit != schemas.UnitViewer && q.x.Unit != schemas.UnitSession {
		d.all, d.peak, d.over, err = q.byUnit(ctx, brief)
		return d, err
	}
	if d.all, d.peak, err = q.byBucket(ctx, u, brief); err != nil || brief {
		return d, err
	}
	d.over, err = q.overTime(ctx, u)
	return d, err
}

// peakSQL is whether a row's time lies in one of the busiest hours of its day.
func (q *queries) peakSQL(at string) string {
	return `toStartOfHour(` + at + `) GLOBAL IN (SELECT hour FROM (SELECT toStartOfHour(at) AS hour, sum(played_ms + stalled_ms) AS viewed FROM ` + q.rollups("played_ms, stalled_ms") +
		fmt.Sprintf(` GROUP BY hour) ORDER BY viewed DESC, hour LIMIT %d BY toDate(hour))`, peakHours)
}

// byBucket reads whole hours from the roll-up by hour and the rest from that by minute.
func (q *queries) byBucket(ctx context.Context, u *units, brief bool) (all, peak arms, err error) {
	flag := q.peakSQL("at")
	if brief {
		flag = "0"
	}
	text := `SELECT arm, toUInt64(bucket), toInt64(` + flag + `) AS peak, ` + q.sums("sumMap(first_screen)", "sumMap(latency)") + `
		FROM ` + q.rollups(q.list()) + ` GROUP BY arm, bucket, peak`
	sums := map[string]*[buckets][2]*cluster{}
	for _, a := range q.x.Arms {
		sums[a.Name] = &[buckets][2]*cluster{}
	}
	err = q.run(ctx, "sums and histograms by arm and hash bucket, from the roll-ups; peak: the busiest hours of each day", text, func(scan func(...any) error) error {
		var arm string
		var bucket uint64
		var peak int64
		c, err := scanCluster(scan, &arm, &bucket, &peak)
		if err == nil && sums[arm] != nil {
			sums[arm][bucket%buckets][peak&1] = c
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	all, peak = arms{}, arms{}
	for _, a := range q.x.Arms {
		for b := range uint64(buckets) {
			n, parts := u.buckets[a.Name][b], sums[a.Name][b]
			if parts[0] == nil && parts[1] == nil && n == 0 {
				continue // nobody of the arm is in this bucket
			}
			c, busy := newCluster(), newCluster() // exposed, and no telemetry came
			for i, p := range parts {
				if p != nil {
					c.merge(p)
					if i == 1 {
						busy = *p
					}
				}
			}
			c.units = n
			all[a.Name], peak[a.Name] = append(all[a.Name], c), append(peak[a.Name], busy)
		}
	}
	if brief {
		peak = nil
	}
	return all, peak, nil
}

// overTime gives the sums up to the end of each step, by groups of buckets.
func (q *queries) overTime(ctx context.Context, u *units) (func(func(int, arms)), error) {
	text := fmt.Sprintf(`SELECT arm, toUInt64(bucket %% %d) AS cluster, %s AS step, `, groups, q.steps.sql("at")) + q.sums("sumMap(first_screen)", "sumMap(latency)") + `
		FROM ` + q.rollups(q.list()) + ` GROUP BY arm, cluster, step`
	parts := map[string][][]*cluster{}
	for _, a := range q.x.Arms {
		parts[a.Name] = make([][]*cluster, q.steps.n)
		for i := range parts[a.Name] {
			parts[a.Name][i] = make([]*cluster, groups)
		}
	}
	err := q.run(ctx, "sums and histograms over time, by arm and group of hash buckets, from the roll-ups", text, func(scan func(...any) error) error {
		var arm string
		var group uint64
		var step int64
		c, err := scanCluster(scan, &arm, &group, &step)
		if err == nil && parts[arm] != nil {
			parts[arm][q.steps.of(step)][group%groups] = c
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return func(f func(int, arms)) {
		sofar := map[string][]cluster{}
		for _, a := range q.x.Arms {
			sofar[a.Name] = make([]cluster, groups)
			for g := range sofar[a.Name] {
				sofar[a.Name][g] = newCluster()
			}
		}
		for i := range q.steps.n {
			now := arms{}
			for arm, cs := range sofar {
				for g := range cs {
					cs[g].units += u.groups[arm][i][g]
					if p := parts[arm][i][g]; p != nil {
						cs[g].merge(p)
					}
					if cs[g].units > 0 || cs[g].sums[0] != 0 {
						now[arm] = append(now[arm], cs[g])
					}
				}
			}
			f(i, now)
		}
	}, nil
}

// byUnit reads each unit's totals from the slices.
func (q *queries) byUnit(ctx context.Context, brief bool) (all, peak arms, over func(func(int, arms)), err error) {
	step, flag := q.steps.sql("at"), q.peakSQL("at")
	if brief {
		step, flag = "toInt64(0)", "0"
	}
	text := `SELECT arm, unit, ` + step + ` AS step, toInt64(` + flag + `) AS peak, ` + q.sums("CAST(sumMap(first_screen_bins, first_screen_counts), 'Map(Int64, Int64)')", "CAST(sumMap(latency_bins, latency_counts), 'Map(Int64, Int64)')") + `
		FROM ` + q.slices() + ` GROUP BY arm, unit, step, peak`
	steps := make([]map[[2]string]cluster, q.steps.n) // by arm and unit
	busy := map[[2]string]cluster{}
	err = q.run(ctx, "sums and histograms of each unit", text, func(scan func(...any) error) error {
		var key [2]string
		var step, peak int64
		c, err := scanCluster(scan, &key[0], &key[1], &step, &peak)
		if err != nil {
			return err
		}
		put := func(m map[[2]string]cluster) map[[2]string]cluster {
			if m == nil {
				m = map[[2]string]cluster{}
			}
			have, ok := m[key]
			if !ok {
				have = newCluster()
				have.unit, have.units = key[1], 1
			}
			m[key] = have.plus(c)
			return m
		}
		i := q.steps.of(step)
		steps[i] = put(steps[i])
		if peak == 1 {
			put(busy)
		}
		return nil
	})
	if err != nil {
		return nil, nil, nil, err
	}
	over = func(f func(int, arms)) {
		sofar := map[[2]string]cluster{}
		for i := range steps {
			for key, c := range steps[i] {
				if have, ok := sofar[key]; ok {
					c = have.plus(&c)
				}
				sofar[key] = c
			}
			f(i, byArm(sofar))
		}
	}
	over(func(_ int, a arms) { all = a })
	if brief {
		return all, nil, nil, nil
	}
	return all, byArm(busy), over, nil
}

// byArm sorts clusters into arms, by unit.
func byArm(m map[[2]string]cluster) arms {
	out := arms{}
	for key, c := range m {
		out[key[0]] = append(out[key[0]], c)
	}
	for _, cs := range out {
		slices.SortFunc(cs, func(a, b cluster) int { return strings.Compare(a.unit, b.unit) })
	}
	return out
}

// sums are those of all columns and the two histograms, as scanCluster reads them; what is not asked for is 0.
func (q *queries) sums(firstScreen, latency string) string {
	out := make([]string, len(columns), len(columns)+2)
	for i, c := range columns {
		if out[i] = "sum(" + c + ")"; !q.wants(c) {
			out[i] = "toInt64(0)"
		}
	}
	for _, h := range [][2]string{{"first_screen", firstScreen}, {"latency", latency}} {
		m := "''"
		if q.wants(h[0]) {
			m = histSQL(h[1])
		}
		out = append(out, m)
	}
	return strings.Join(out, ", ")
}

// list are the columns of the roll-ups that sums reads.
func (q *queries) list() string {
	return strings.Join(slices.DeleteFunc(append(slices.Clone(columns), "first_screen", "latency"), func(c string) bool { return !q.wants(c) }), ", ")
}

// wants tells whether a column or histogram is asked for.
func (q *queries) wants(name string) bool { return q.only == nil || slices.Contains(q.only, name) }

// scanCluster reads a row of keys, sums and the two histograms.
func scanCluster(scan func(...any) error, keys ...any) (*cluster, error) {
	c := newCluster()
	dest := make([]any, 0, len(keys)+len(columns)+2)
	dest = append(dest, keys...)
	for i := range c.sums {
		dest = append(dest, &c.sums[i])
	}
	var first, latency string
	if err := scan(append(dest, &first, &latency)...); err != nil {
		return nil, err
	}
	for name, printed := range map[string]string{"first_screen": first, "latency": latency} {
		h, err := readHist(printed)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		c.hist[name] = h
	}
	return &c, nil
}

// histSQL prints a histogram as "bin:count,bin:count", which is read faster than a map.
func histSQL(m string) string {
	return "arrayStringConcat(arrayMap((b, n) -> concat(toString(b), ':', toString(n)), mapKeys(" + m + "), mapValues(" + m + ")), ',')"
}

// merge adds another cluster's sums and histograms to c, which nobody else has.
func (c *cluster) merge(o *cluster) {
	for i := range c.sums {
		c.sums[i] += o.sums[i]
	}
	for name, h := range o.hist {
		if c.hist[name] == nil {
			c.hist[name] = make(counts, len(h))
		}
		for b, n := range h {
			c.hist[name][b] += n
		}
	}
}

// plus is merge into a copy.
func (c cluster) plus(o *cluster) cluster {
	out := newCluster()
	out.unit, out.units = c.unit, c.units
	out.merge(&c)
	out.merge(o)
	return out
}

func newCluster() cluster {
	return cluster{sums: make([]int64, len(columns)), hist: map[string]counts{}}
}

// moments of one arm over its clusters.
func (a arms) moments(arm string, f formula) unitSums {
	var m unitSums
	for _, c := range a[arm] {
		num, den := total(f.num, c.sums), c.units
		if f.den != nil {
			den = total(f.den, c.sums)
		}
		m.Add(stats.Totals{stats.Num: float64(num), stats.Den: float64(den)})
		if num > 0 {
			m.active++
		}
	}
	return m
}
