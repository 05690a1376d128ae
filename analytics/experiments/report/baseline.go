package report

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	chgo "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/spillway-live/spillway/analytics/stats"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/clickhouse"
)

// Baseline is what planning needs to know of the past.
type Baseline struct {
	// Mean of the primary metric and its variance over one unit, in the metric's own unit.
	Mean, Variance float64
	// UnitsPerDay is how many different units that the experiment targets came in the days looked at, divided by their
	// number. Fewer than that are new on later days.
	UnitsPerDay float64
}

// ReadBaseline looks back days on the primary metric of the sessions that an experiment is for, as if all were in one
// arm. Rows are kept for clickhouse.SlicesKeptDays: it refuses to look back further.
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
	if days > clickhouse.SlicesKeptDays {
		return Baseline{}, fmt.Errorf("%g days to look back on: rows are kept for %d", days, clickhouse.SlicesKeptDays)
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
	targets, parameters := targeted(x.Targeting)
	ctx = chgo.Context(ctx, chgo.WithParameters(parameters))
	row := conn.QueryRow(ctx, fmt.Sprintf(`SELECT toInt64(count()), sum(x), sum(d), sum(x * x), sum(x * d), sum(d * d) FROM (
		SELECT %s AS unit, toFloat64(sum(%s)) AS x, toFloat64(%s) AS d FROM %s.session_slices
		WHERE time >= now64() - toIntervalSecond(%d)%s GROUP BY unit)`, unitOfSlices(x.Unit), sql(f.num), den, db, int64(days*86400), targets))
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

// targeted is the condition on slices, with its parameters, that a session is one an experiment is for.
func targeted(t *schemas.Targeting) (where string, parameters chgo.Parameters) {
	parameters = chgo.Parameters{}
	if t == nil {
		return "", parameters
	}
	for column, list := range map[string][]string{"region": t.Regions, "isp": t.ISPs} {
		if len(list) > 0 {
			parameters[column+"s"] = stringArray(list)
			where += " AND has({" + column + "s:Array(String)}, toString(" + column + "))"
		}
	}
	if len(t.Streams) > 0 {
		each := make([]string, len(t.Streams))
		for i, p := range t.Streams {
			each[i] = regexpOf(p)
		}
		parameters["streams"] = strings.ReplaceAll("^("+strings.Join(each, "|")+")$", `\`, `\\`) // read with escapes
		where += " AND match(concat(app, '/', stream), {streams:String})"
	}
	return where, parameters
}

// stringArray writes strings as ClickHouse reads an array of them in a parameter.
func stringArray(list []string) string {
	quote := strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`, "\t", `\t`)
	quoted := make([]string, len(list))
	for i, v := range list {
		quoted[i] = "'" + quote.Replace(v) + "'"
	}
	return "[" + strings.Join(quoted, ",") + "]"
}

// regexpOf is a pattern of path.Match, which has passed its check, as a regular expression.
func regexpOf(pattern string) string {
	var b strings.Builder
	inClass := false
	for i := 0; i < len(pattern); i++ {
		c := pattern[i]
		switch {
		case c == '\\' && i+1 < len(pattern):
			i++
			b.WriteString(regexp.QuoteMeta(pattern[i : i+1]))
		case inClass && c == ']':
			inClass = false
			b.WriteByte(c)
		case inClass && (c == '-' || c == '^'):
			b.WriteByte(c)
		case c == '[' && !inClass:
			inClass = true
			b.WriteByte(c)
		case c == '*' && !inClass:
			b.WriteString("[^/]*")
		case c == '?' && !inClass:
			b.WriteString("[^/]")
		case c >= 0x80:
			b.WriteByte(c)
		default:
			b.WriteString(regexp.QuoteMeta(string(rune(c))))
		}
	}
	return b.String()
}
