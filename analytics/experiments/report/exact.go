package report

import (
	"cmp"
	"context"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/spillway-live/spillway/analytics/stats"
	"github.com/spillway-live/spillway/schemas"
)

// unitSums are an arm's sums over units, or over clusters of them.
type unitSums struct {
	stats.Moments
	// active is how many of them have a numerator above 0.
	active int64
}

// exact gives sums over units of ratio metrics, by metric and arm, from every slice; squares are summed in 256 bits,
// because the difference of large squares is what variance is made of, and how many units have a numerator above 0. All metrics are read together: most of the time
// goes into the totals of each unit. A unit is known by the hash of its id there, of 64 bits.
func (q *queries) exact(ctx context.Context, metrics []schemas.Metric) (map[string]map[string]unitSums, error) {
	var used []string // columns
	var outer []string
	perUnit := false
	for _, m := range metrics {
		f := formulas[m.Name]
		for _, c := range slices.Concat(f.num, f.den) {
			if !slices.Contains(used, c) {
				used = append(used, c)
			}
		}
		x, d := "toInt256("+sql(f.num)+")", "toInt256("+sql(f.den)+")"
		if f.den == nil {
			// Units that were exposed and never reported played nothing, and count.
			d, perUnit = "toInt256(1)", true
		}
		for _, e := range []string{x, d, x + " * " + x, x + " * " + d, d + " * " + d} {
			outer = append(outer, "toString(sum("+e+"))")
		}
		outer = append(outer, "toString(countIf("+x+" > 0))")
	}
	out := map[string]map[string]unitSums{}
	if len(metrics) == 0 {
		return out, nil
	}
	totals := make([]string, len(used))
	for i, c := range used {
		totals[i] = "sum(" + c + ") AS " + c
	}
	rows := `SELECT arm, sipHash64(unit) AS unit_hash, ` + strings.Join(used, ", ") + ` FROM ` + q.slices()
	if perUnit {
		zeros := strings.Repeat(", toInt64(0)", len(used))
		if q.rolled {
			rows += ` UNION ALL SELECT argMin(u.arm, u.first) AS arm, u.unit_hash AS unit_hash` + zeros + ` FROM ` + q.db + `.experiment_units AS u
				WHERE experiment = {experiment:String} AND salt = {salt:String} AND u.last >= toDateTime({from:DateTime64(3, 'UTC')}) AND u.first < {until:DateTime64(3, 'UTC')} GROUP BY u.unit_hash`
		} else {
			rows += ` UNION ALL SELECT argMin(e.arm, e.time) AS arm, sipHash64(e.unit) AS unit_hash` + zeros + ` FROM ` + q.db + `.exposures AS e` + exposedWhere + ` GROUP BY e.unit`
		}
	}
	text := `SELECT arm, toInt64(count()), ` + strings.Join(outer, ", ") + ` FROM (
			SELECT arm, ` + strings.Join(totals, ", ") + ` FROM (` + rows + `) AS r GROUP BY arm, unit_hash) GROUP BY arm`
	names := make([]string, len(metrics))
	for i, m := range metrics {
		names[i] = m.Title
		out[m.Name] = map[string]unitSums{}
	}
	err := q.run(ctx, strings.Join(names, ", ")+": over each unit", text, func(scan func(...any) error) error {
		var arm string
		var n int64
		s := make([]string, len(outer))
		dest := []any{&arm, &n}
		for i := range s {
			dest = append(dest, &s[i])
		}
		if err := scan(dest...); err != nil {
			return err
		}
		for i, m := range metrics {
			mom, err := moments(n, s[6*i:6*i+5])
			active, err2 := strconv.ParseInt(s[6*i+5], 10, 64)
			if err = cmp.Or(err, err2); err != nil {
				return fmt.Errorf("%s: %w", m.Title, err)
			}
			out[m.Name][arm] = unitSums{mom, active}
		}
		return nil
	})
	return out, err
}

// moments of sums and products as the database prints them: x, d, xx, xd, dd.
func moments(units int64, printed []string) (stats.Moments, error) {
	var v [5]*big.Int
	for i, s := range printed {
		b, ok := new(big.Int).SetString(s, 10)
		if !ok {
			return stats.Moments{}, fmt.Errorf("sum %q is not an integer", s)
		}
		v[i] = b
	}
	sums := stats.IntSums{Units: units}
	sums.Sum[stats.Num], sums.Sum[stats.Den] = v[0], v[1]
	sums.Product[stats.Num][stats.Num], sums.Product[stats.Den][stats.Den] = v[2], v[4]
	sums.Product[stats.Num][stats.Den], sums.Product[stats.Den][stats.Num] = v[3], v[3]
	return sums.Moments()
}
