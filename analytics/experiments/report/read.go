package report

import (
	"context"
	"fmt"
	"math"
	"math/big"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/spillway-live/spillway/analytics/stats"
	"github.com/spillway-live/spillway/schemas"
)

// buckets is the number of hash buckets of the roll-ups.
const buckets = 256

// cluster are the totals of one cluster of an arm: a hash bucket of units, or a unit itself where units are few.
// Clusters of an arm are independent of each other, which is all that variance needs.
type cluster struct {
	units int64   // exposed units in it
	sums  []int64 // by columns
	hist  map[string]stats.BucketHist
}

// arms are the clusters of each arm, by arm's name.
type arms map[string][]cluster

// queries read one experiment's data.
type queries struct {
	conn        driver.Conn
	x           *schemas.Experiment
	db          string
	from, until time.Time
	// asked are the statements, for readers who want to check.
	asked []Query
}

// Query is one statement that a report rests on, with its parameters.
type Query struct {
	Purpose    string            `json:"purpose"`
	SQL        string            `json:"sql"`
	Parameters map[string]string `json:"parameters"`
}

// unitOfSlices is the SQL of the unit of a row of session_slices; units that are neither in the row come from the
// exposures.
func unitOfSlices(kind string) string {
	switch kind {
	case schemas.UnitViewer:
		return "if(viewer_id = '', session_id, viewer_id)"
	case schemas.UnitStream:
		return "concat(app, '/', stream)"
	}
	return "session_id"
}

// bucketKey is what the roll-ups hash into buckets.
const bucketKey = "if(viewer_id = '', session_id, viewer_id)"

// slices is the FROM clause of session slices of the experiment with their arm. Blocks come from the session's
// exposure: a session belongs to the block in which it began, and those of the burn-in are left out.
func (q *queries) slices() string {
	const rows = `SELECT *, extractKeyValuePairs(arms, '=', ',')[{experiment:String}] AS arm`
	where := ` WHERE arms LIKE {pattern:String} AND time >= {from:DateTime64(3, 'UTC')} AND time < {until:DateTime64(3, 'UTC')} AND arm != ''`
	if q.x.Unit != schemas.UnitBlock {
		return `(` + rows + `, ` + unitOfSlices(q.x.Unit) + ` AS unit FROM ` + q.db + `.session_slices` + where + `)`
	}
	return `(` + rows + `, e.unit AS unit FROM ` + q.db + `.session_slices AS s INNER JOIN (` + q.exposedSessions() + `) AS e USING (session_id)` + where + `)`
}

// exposedSessions gives the first exposure of each session outside the burn-in of its block.
func (q *queries) exposedSessions() string {
	return `SELECT session_id, argMin(e.unit, e.time) AS unit FROM ` + q.db + `.exposures AS e` + exposedWhere +
		fmt.Sprintf(` GROUP BY session_id HAVING toInt64(min(toUnixTimestamp64Milli(time))) %% %d >= %d`, 1000*max(q.x.BlockSec, 1), 1000*q.x.BurnInSec)
}

const exposedWhere = ` WHERE experiment = {experiment:String} AND salt = {salt:String} AND reason != 'forced'
	AND time >= {from:DateTime64(3, 'UTC')} AND time < {until:DateTime64(3, 'UTC')}`

func (q *queries) run(ctx context.Context, purpose, text string, row func(scan func(dest ...any) error) error) error {
	p := map[string]string{
		"experiment": q.x.Name, "pattern": "%" + q.x.Name + "=%", "salt": q.x.Salt, "from": stamp(q.from), "until": stamp(q.until),
	}
	if purpose != "" {
		q.asked = append(q.asked, Query{purpose, text, p})
	}
	rows, err := q.conn.Query(clickhouse.Context(ctx, clickhouse.WithParameters(clickhouse.Parameters(p))), text)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000") }

// exposed is how many units an arm has, and how many of all were seen in more than one arm.
type exposed struct {
	units   map[string]int64            // by arm
	buckets map[string]map[uint64]int64 // by arm and hash bucket
	several int64
}

// exposures counts units by the arm of their first exposure.
func (q *queries) exposures(ctx context.Context) (exposed, error) {
	e := exposed{units: map[string]int64{}, buckets: map[string]map[uint64]int64{}}
	err := q.run(ctx, "units by arm of their first exposure", `SELECT arm, toUInt64(bucket), toInt64(count()) AS units, toInt64(sum(several)) AS several FROM (
		SELECT e.unit, argMin(e.arm, e.time) AS arm, min(e.arm) != max(e.arm) AS several, sipHash64('rollup_arm', {experiment:String}, any(`+bucketKey+`)) % 256 AS bucket
		FROM `+q.db+`.exposures AS e`+exposedWhere+` GROUP BY e.unit) GROUP BY arm, bucket`,
		func(scan func(...any) error) error {
			var arm string
			var bucket uint64
			var n, several int64
			if err := scan(&arm, &bucket, &n, &several); err != nil {
				return err
			}
			e.units[arm] += n
			e.several += several
			if e.buckets[arm] == nil {
				e.buckets[arm] = map[uint64]int64{}
			}
			e.buckets[arm][bucket] += n
			return nil
		})
	return e, err
}

// withTelemetry counts units and sessions that reported, by arm.
func (q *queries) withTelemetry(ctx context.Context) (map[string][2]int64, error) {
	n := map[string][2]int64{}
	err := q.run(ctx, "units and sessions with telemetry", `SELECT arm, toInt64(uniqExact(unit)), sum(sessions) FROM `+q.slices()+` GROUP BY arm`,
		func(scan func(...any) error) error {
			var arm string
			var units, sessions int64
			if err := scan(&arm, &units, &sessions); err != nil {
				return err
			}
			n[arm] = [2]int64{units, sessions}
			return nil
		})
	return n, err
}

// clusters gives all sums of all arms: by hash bucket from the roll-ups where units are many, by unit from the slices
// where they are streams or blocks.
func (q *queries) clusters(ctx context.Context, e exposed) (arms, error) {
	if q.x.Unit == schemas.UnitViewer || q.x.Unit == schemas.UnitSession {
		return q.byBucket(ctx, e)
	}
	return q.byUnit(ctx)
}

// byBucket reads whole hours from the roll-up by hour and the rest from that by minute.
func (q *queries) byBucket(ctx context.Context, e exposed) (arms, error) {
	sums := "sum(" + strings.Join(columns, "), sum(") + ")"
	list := strings.Join(columns, ", ")
	text := `WITH toStartOfHour({from:DateTime64(3, 'UTC')} + INTERVAL 3599 SECOND) AS first_hour, toStartOfHour({until:DateTime64(3, 'UTC')}) AS end_hour
		SELECT arm, toUInt64(bucket), ` + sums + `, sumMap(first_screen), sumMap(latency) FROM (
			SELECT arm, bucket, ` + list + `, first_screen, latency FROM ` + q.db + `.rollup_arm_hour
			WHERE experiment = {experiment:String} AND hour >= first_hour AND hour < end_hour
			UNION ALL
			SELECT arm, bucket, ` + list + `, first_screen, latency FROM ` + q.db + `.rollup_arm_minute
			WHERE experiment = {experiment:String} AND minute >= toStartOfMinute({from:DateTime64(3, 'UTC')}) AND minute < {until:DateTime64(3, 'UTC')}
			  AND NOT (minute >= first_hour AND minute < end_hour))
		GROUP BY arm, bucket`
	all := map[string]map[uint64]cluster{}
	err := q.run(ctx, "sums and histograms by arm and hash bucket, from the roll-ups", text, func(scan func(...any) error) error {
		var arm string
		var bucket uint64
		c := newCluster()
		var first, latency map[int64]int64
		dest := []any{&arm, &bucket}
		for i := range c.sums {
			dest = append(dest, &c.sums[i])
		}
		if err := scan(append(dest, &first, &latency)...); err != nil {
			return err
		}
		if err := c.addHists(first, latency); err != nil {
			return err
		}
		if all[arm] == nil {
			all[arm] = map[uint64]cluster{}
		}
		all[arm][bucket] = c
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := arms{}
	for _, a := range q.x.Arms {
		for b := range uint64(buckets) {
			c, ok := all[a.Name][b]
			n := e.buckets[a.Name][b]
			if !ok && n == 0 {
				continue // nobody of the arm is in this bucket
			}
			if !ok {
				c = newCluster() // exposed, and no telemetry came
			}
			c.units = n
			out[a.Name] = append(out[a.Name], c)
		}
	}
	return out, nil
}

// byUnit reads each unit's totals from the slices.
func (q *queries) byUnit(ctx context.Context) (arms, error) {
	text := `SELECT arm, unit, sum(` + strings.Join(columns, "), sum(") + `), sumMap(first_screen_bins, first_screen_counts), sumMap(latency_bins, latency_counts)
		FROM ` + q.slices() + ` GROUP BY arm, unit`
	out := arms{}
	err := q.run(ctx, "sums and histograms of each unit", text, func(scan func(...any) error) error {
		var arm, unit string
		var first, latency []any
		c := newCluster()
		dest := []any{&arm, &unit}
		for i := range c.sums {
			dest = append(dest, &c.sums[i])
		}
		if err := scan(append(dest, &first, &latency)...); err != nil {
			return err
		}
		f, err := pairs(first)
		if err != nil {
			return err
		}
		l, err := pairs(latency)
		if err != nil {
			return err
		}
		c.units = 1
		out[arm] = append(out[arm], c)
		return c.addHists(f, l)
	})
	return out, err
}

func newCluster() cluster {
	return cluster{sums: make([]int64, len(columns)), hist: map[string]stats.BucketHist{}}
}

func (c *cluster) addHists(first, latency map[int64]int64) error {
	for name, bins := range map[string]map[int64]int64{"first_screen": first, "latency": latency} {
		h, err := bucketHist(bins)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		c.hist[name] = h
	}
	return nil
}

// pairs reads the tuple of keys and counts that sumMap of two lists gives.
func pairs(m []any) (map[int64]int64, error) {
	if len(m) != 2 {
		return nil, fmt.Errorf("histogram has %d columns: bins and counts are expected", len(m))
	}
	bins, ok1 := m[0].([]int64)
	counts, ok2 := m[1].([]int64)
	if !ok1 || !ok2 || len(bins) != len(counts) {
		return nil, fmt.Errorf("histogram is of %T and %T: two lists of integers of one length are expected", m[0], m[1])
	}
	out := make(map[int64]int64, len(bins))
	for i, b := range bins {
		out[b] = counts[i]
	}
	return out, nil
}

func bucketHist(m map[int64]int64) (stats.BucketHist, error) {
	h := stats.BucketHist{Bins: make(map[int32]uint64, len(m))}
	for b, n := range m {
		switch {
		case n == 0:
		case n < 0:
			return h, fmt.Errorf("histogram bin %d has the count %d: corrections exceed what was counted", b, n)
		case b >= schemas.FailedStartBin:
			h.Inf += uint64(n)
		case b < 0 || b > math.MaxInt32:
			return h, fmt.Errorf("histogram bin %d is out of range", b)
		default:
			h.Bins[int32(b)] = uint64(n)
		}
	}
	return h, nil
}

// moments of one arm over its clusters.
func (a arms) moments(arm string, f formula) (stats.Moments, error) {
	var m stats.Moments
	for _, c := range a[arm] {
		den := c.units
		if f.den != nil {
			den = total(f.den, c.sums)
		}
		m.Add(stats.Totals{stats.Num: float64(total(f.num, c.sums)), stats.Den: float64(den)})
	}
	return m, nil
}

// exact gives each arm's sums over units of one ratio metric; squares are summed in 256 bits, because the difference
// of large squares is what variance is made of.
func (q *queries) exact(ctx context.Context, m schemas.Metric) (map[string]stats.Moments, error) {
	f := formulas[m.Name]
	rows, den := q.slices(), "sum("+sql(f.den)+")"
	if f.den == nil {
		// Units that were exposed and never reported played nothing, and count.
		den = "1"
		rows = `(SELECT arm, unit, ` + sql(f.num) + ` FROM ` + q.slices() + ` UNION ALL SELECT argMin(e.arm, e.time) AS arm, e.unit AS unit, toInt64(0) FROM ` + q.db + `.exposures AS e` + exposedWhere + ` GROUP BY e.unit)`
	}
	out := map[string]stats.Moments{}
	err := q.run(ctx, m.Title+", over each unit", `SELECT arm, toInt64(count()), toString(sum(x)), toString(sum(d)), toString(sum(x * x)), toString(sum(x * d)), toString(sum(d * d)) FROM (
			SELECT arm, unit, toInt256(sum(`+sql(f.num)+`)) AS x, toInt256(`+den+`) AS d FROM `+rows+` GROUP BY arm, unit) GROUP BY arm`,
		func(scan func(...any) error) error {
			var arm string
			var s [5]string
			sums := stats.IntSums{}
			if err := scan(&arm, &sums.Units, &s[0], &s[1], &s[2], &s[3], &s[4]); err != nil {
				return err
			}
			var v [5]*big.Int
			for i := range s {
				b, ok := new(big.Int).SetString(s[i], 10)
				if !ok {
					return fmt.Errorf("sum %q is not an integer", s[i])
				}
				v[i] = b
			}
			sums.Sum[stats.Num], sums.Sum[stats.Den] = v[0], v[1]
			sums.Product[stats.Num][stats.Num], sums.Product[stats.Den][stats.Den] = v[2], v[4]
			sums.Product[stats.Num][stats.Den], sums.Product[stats.Den][stats.Num] = v[3], v[3]
			mom, err := sums.Moments()
			out[arm] = mom
			return err
		})
	return out, err
}
