package report

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/spillway-live/spillway/schemas"
	schema "github.com/spillway-live/spillway/schemas/clickhouse"
)

// queries read one experiment's data.
type queries struct {
	conn        driver.Conn
	x           *schemas.Experiment
	db          string
	from, until time.Time
	now         time.Time
	steps       steps
	// rolled: experiment_units and the segments hold everything since the experiment began.
	rolled bool
	// only are the columns and histograms that are read; nil: all.
	only []string
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
	const rows = `SELECT *, time AS at, extract(concat(',', arms), {arm_of:String}) AS arm`
	where := ` WHERE arms LIKE {pattern:String} AND time >= {from:DateTime64(3, 'UTC')} AND time < {until:DateTime64(3, 'UTC')} AND arm != ''`
	if q.x.Unit != schemas.UnitBlock {
		return `(` + rows + `, ` + unitOfSlices(q.x.Unit) + ` AS unit FROM ` + q.db + `.session_slices` + where + `)`
	}
	return `(` + rows + `, e.unit AS unit FROM ` + q.db + `.session_slices AS s GLOBAL INNER JOIN (` + q.exposedSessions() + `) AS e USING (session_id)` + where + `)`
}

// exposedSessions gives the first exposure of each session outside the burn-in of its block.
func (q *queries) exposedSessions() string {
	return `SELECT session_id, argMin(e.unit, e.time) AS unit FROM ` + q.db + `.exposures AS e` + exposedWhere +
		fmt.Sprintf(` GROUP BY session_id HAVING toInt64(min(toUnixTimestamp64Milli(time))) %% %d >= %d`, 1000*max(q.x.BlockSec, 1), 1000*q.x.BurnInSec)
}

const exposedWhere = ` WHERE experiment = {experiment:String} AND salt = {salt:String} AND reason != 'forced'
	AND time >= {from:DateTime64(3, 'UTC')} AND time < {until:DateTime64(3, 'UTC')}`

// rollups is the FROM clause of the roll-ups by hour (whole hours) and by minute (the rest), with the listed columns and
// the time of each row as "at". Hours are not used where a step of the time line is shorter.
func (q *queries) rollups(list string) string {
	minutes := `SELECT arm, bucket, minute AS at, ` + list + ` FROM ` + q.db + `.rollup_arm_minute
			WHERE experiment = {experiment:String} AND minute >= toStartOfMinute({from:DateTime64(3, 'UTC')}) AND minute < {until:DateTime64(3, 'UTC')}`
	if q.steps.width < time.Hour {
		return `(` + minutes + `)`
	}
	return `(SELECT arm, bucket, hour AS at, ` + list + ` FROM ` + q.db + `.rollup_arm_hour
			WHERE experiment = {experiment:String} AND hour >= toStartOfHour({from:DateTime64(3, 'UTC')} + INTERVAL 3599 SECOND) AND hour < toStartOfHour({until:DateTime64(3, 'UTC')})
			UNION ALL ` + minutes + `
			  AND NOT (minute >= toStartOfHour({from:DateTime64(3, 'UTC')} + INTERVAL 3599 SECOND) AND minute < toStartOfHour({until:DateTime64(3, 'UTC')})))`
}

func (q *queries) parameters() map[string]string {
	arms := make([]string, len(q.x.Arms))
	for i, a := range q.x.Arms {
		arms[i] = "'" + a.Name + "'" // of letters, digits, _ and - only: the experiment was checked
	}
	return map[string]string{
		"experiment": q.x.Name, "pattern": "%" + q.x.Name + "=%", "arm_of": "," + regexp.QuoteMeta(q.x.Name) + "=([^,]*)", "salt": q.x.Salt,
		"arms": "[" + strings.Join(arms, ",") + "]", "from": stamp(q.from), "until": stamp(q.until),
	}
}

// run asks and reads every row. The statement is kept, with those parameters that are in it.
func (q *queries) run(ctx context.Context, purpose, text string, row func(scan func(dest ...any) error) error) error {
	p := map[string]string{}
	for name, v := range q.parameters() {
		if strings.Contains(text, "{"+name+":") {
			p[name] = v
		}
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

// findRolled tells whether those tables were there when the experiment began.
func (q *queries) findRolled(ctx context.Context) error {
	return q.run(ctx, "", `SELECT toInt64(count()) FROM `+q.db+`.schema_migrations WHERE endsWith(name, '`+schema.FileUnits+`') AND applied_at <= {from:DateTime64(3, 'UTC')}`, func(scan func(...any) error) error {
		var n int64
		err := scan(&n)
		q.rolled = n > 0
		return err
	})
}

// steps divide the time of a report into at most maxSteps of equal width, the last of which may be shorter.
type steps struct {
	from, until time.Time
	width       time.Duration
	n           int
}

// maxSteps is how many points a line over time has at most.
const maxSteps = 28

// newSteps takes the smallest round width that gives few enough steps. Steps of an hour and more begin with an hour.
func newSteps(from, until time.Time) steps {
	for _, minutes := range []int{1, 2, 5, 10, 15, 60, 120, 180, 240, 360, 480, 720, 1440, 2 * 1440, 7 * 1440, 14 * 1440, 28 * 1440, 91 * 1440, 365 * 1440, 3650 * 1440} {
		s := steps{until: until, width: time.Duration(minutes) * time.Minute}
		s.from = from.Truncate(min(s.width, time.Hour))
		if n := int((until.Sub(s.from) + s.width - 1) / s.width); n <= maxSteps {
			s.n = max(n, 1)
			return s
		}
	}
	return steps{from: from, until: until, width: until.Sub(from), n: 1}
}

// sql is the number of the step of a time expression, from 0.
func (s steps) sql(at string) string {
	return fmt.Sprintf("toInt64(intDiv(greatest(toUnixTimestamp(%s) - %d, 0), %d))", at, s.from.Unix(), max(int64(s.width/time.Second), 1))
}

// end is when a step is over.
func (s steps) end(i int) time.Time {
	if e := s.from.Add(time.Duration(i+1) * s.width); e.Before(s.until) {
		return e
	}
	return s.until
}

// of clamps a step's number as the database gives it.
func (s steps) of(n int64) int { return int(min(max(n, 0), int64(s.n-1))) }
