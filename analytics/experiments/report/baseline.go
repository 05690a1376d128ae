package report

import (
	"context"
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/spillway-live/spillway/analytics/stats"
	"github.com/spillway-live/spillway/schemas"
)

// Baseline is what planning needs to know of the past.
type Baseline struct {
	// Mean of the primary metric and its variance over one unit, in the metric's own unit.
	Mean, Variance float64
	// UnitsPerDay is how many different units came in the days looked at, divided by their number. Fewer than that are
	// new on later days.
	UnitsPerDay float64
}

// ReadBaseline looks back days on the primary metric of an experiment, as if all were in one arm.
func ReadBaseline(ctx context.Context, conn driver.Conn, x *schemas.Experiment, days float64, o Options) (Baseline, error) {
	m, ok := schemas.MetricNamed(x.PrimaryMetric)
	if !ok || m.Quantile != 0 {
		return Baseline{}, fmt.Errorf("primary_metric %q: mean and variance of a quantile are not read from the past: give them in the plan", x.PrimaryMetric)
	}
	if x.Unit == schemas.UnitBlock {
		return Baseline{}, fmt.Errorf("unit block: mean and variance of blocks are not read from the past: give them in the plan")
	}
	if !(days > 0) {
		return Baseline{}, fmt.Errorf("%v days to look back on: give more than 0", days)
	}
	db := o.Database
	if db == "" {
		db = "spillway"
	}
	f := formulas[m.Name]
	den := "sum(" + sql(f.den) + ")"
	if f.den == nil {
		den = "1"
	}
	var sums stats.Sums
	row := conn.QueryRow(ctx, fmt.Sprintf(`SELECT toInt64(count()), sum(x), sum(d), sum(x * x), sum(x * d), sum(d * d) FROM (
		SELECT %s AS unit, toFloat64(sum(%s)) AS x, toFloat64(%s) AS d FROM %s.session_slices
		WHERE time >= now64() - toIntervalSecond(%d) GROUP BY unit)`, unitOfSlices(x.Unit), sql(f.num), den, db, int64(days*86400)))
	if err := row.Scan(&sums.Units, &sums.Sum[stats.Num], &sums.Sum[stats.Den], &sums.Product[stats.Num][stats.Num],
		&sums.Product[stats.Num][stats.Den], &sums.Product[stats.Den][stats.Den]); err != nil {
		return Baseline{}, fmt.Errorf("look back on %s: %w", m.Name, err)
	}
	moments, err := sums.Moments()
	if err != nil {
		return Baseline{}, fmt.Errorf("look back on %s: %w", m.Name, err)
	}
	e, err := stats.Ratio(moments)
	if err != nil {
		return Baseline{}, fmt.Errorf("look back on %s over %g days: %w: give mean, variance and units_per_day in the plan", m.Name, days, err)
	}
	return Baseline{Mean: e.Value * f.scale, Variance: e.Var * e.Units * f.scale * f.scale, UnitsPerDay: float64(sums.Units) / days}, nil
}
