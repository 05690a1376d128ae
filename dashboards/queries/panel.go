package queries

// Kind is how a panel is drawn.
type Kind string

// Kinds of panels.
const (
	TimeSeries Kind = "timeseries" // columns: time, label, one value or more
	Stat       Kind = "stat"       // one row of values
	Table      Kind = "table"      // rows of labels and values
	Bar        Kind = "bar"        // rows of one label and values
)

// Units are named as Grafana names them.
const (
	UnitNone    = "short"
	UnitPercent = "percentunit" // 0 to 1
	UnitMs      = "ms"
	UnitBps     = "bps"
	UnitBytes   = "bytes"
	UnitPerSec  = "cps"
	UnitFPS     = "fps"
	UnitUSD     = "currencyUSD"
	UnitTime    = "dateTimeAsIso"
	UnitText    = "string"
)

// Column is one column that a panel's SQL gives, in order.
type Column struct {
	Name string
	// Unit of the values; UnitText for labels, UnitTime for times.
	Unit string
}

// Link is what a click on a value of Column opens: the wall of that UID, each
// variable set to the same row's value of a column.
type Link struct {
	Column, Wall string
	// Vars maps variables of the wall to columns of the panel.
	Vars map[string]string
}

// Panel is one query and how it is drawn.
type Panel struct {
	// ID is stable: it names the panel in links and is its place in the console.
	ID, Title, Description string
	Kind                   Kind
	// Unit of the values, where columns have none of their own.
	Unit string
	SQL  string
	// Columns expected, in order; a test checks them on a real server.
	Columns []Column
	// Warn and Bad colour values at or above them; 0 and 0: no thresholds.
	Warn, Bad float64
	// Width of 24, Height in rows of the grid.
	Width, Height int
	// MinInterval is the finest step that the source has, as Grafana writes it: "1m", "10s".
	MinInterval string
	Links       []Link
}

// Variable is a template variable with several values and All; without SQL, a text that people type.
type Variable struct {
	Name, Label, SQL string
}

// Annotation marks moments on all time series of a wall. Its SQL gives the columns time, text and tags.
type Annotation struct {
	Name, Color, SQL string
}

// Section is a titled row of panels.
type Section struct {
	Title  string
	Panels []Panel
}

// Wall is a page of panels.
type Wall struct {
	// UID is stable: pushing a wall again replaces it.
	UID, Title, Description string
	Tags                    []string
	Variables               []Variable
	Annotations             []Annotation
	Sections                []Section
	// From is the default start of the range, e.g. now-1h; Refresh how often it is asked again.
	From, Refresh string
}

// Panels gives every panel of the wall in order.
func (w *Wall) Panels() []Panel {
	var out []Panel
	for _, s := range w.Sections {
		out = append(out, s.Panels...)
	}
	return out
}

// Thresholds colour values: from Warn on worth a look, from Bad on bad.
type Thresholds struct {
	// Stall and Errors are ratios, 0 to 1; FirstScreenMs and LatencyMs milliseconds; Load a share of capacity.
	StallWarn, StallBad                 float64
	ErrorsWarn, ErrorsBad               float64
	FirstScreenWarnMs, FirstScreenBadMs float64
	LatencyWarnMs, LatencyBadMs         float64
	LoadWarn, LoadBad                   float64
}

// DefaultThresholds are those of who sets none.
func DefaultThresholds() Thresholds {
	return Thresholds{
		StallWarn: 0.01, StallBad: 0.05, ErrorsWarn: 0.01, ErrorsBad: 0.05, FirstScreenWarnMs: 1500, FirstScreenBadMs: 3000,
		LatencyWarnMs: 5000, LatencyBadMs: 10000, LoadWarn: 0.8, LoadBad: 0.95,
	}
}

var (
	appVar = Variable{Name: "app", Label: "Application", SQL: "SELECT DISTINCT app FROM " + rolled("", "1", "app") + " ORDER BY app"}
	cdnVar = Variable{Name: "cdn", Label: "CDN", SQL: "SELECT DISTINCT cdn FROM " + rolled("", "cdn != ''", "cdn") + " ORDER BY cdn"}
	// streamVar offers the largest only: others are named in the address.
	streamVar = Variable{Name: "stream", Label: "Stream", SQL: "SELECT stream FROM " + rolled("stream_", whereApp, "stream", "played_ms") +
		" GROUP BY stream ORDER BY sum(played_ms) DESC LIMIT 500"}
	experimentVar = Variable{Name: "experiment", Label: "Experiment", SQL: "SELECT DISTINCT experiment FROM " + rolled("arm_", "1", "experiment") + " ORDER BY experiment"}
)

// annotations mark what explains a change of the figures.
func annotations() []Annotation {
	return []Annotation{
		{Name: "Faults and changes of CDNs", Color: "red", SQL: `SELECT time, concat(cdn, ': ', reason) AS text, toString(kind) AS tags
FROM events
WHERE kind IN ('cdn_fault', 'cdn_changed') AND $__timeFilter(time)
ORDER BY time
LIMIT 500`},
		{Name: "Alerts", Color: "orange", SQL: `SELECT time, reason AS text, concat(toString(kind), ',', detail['rule']) AS tags
FROM events
WHERE kind IN ('alert_opened', 'alert_resolved') AND $__timeFilter(time)
ORDER BY time
LIMIT 500`},
		{Name: "Experiments", Color: "purple", SQL: `SELECT time, reason AS text, toString(kind) AS tags
FROM events
WHERE kind = 'experiment_changed' AND $__timeFilter(time)
ORDER BY time
LIMIT 500`},
		{Name: "Sessions moved away", Color: "blue", SQL: `SELECT slot AS time, concat(toString(moved), ' sessions moved to ', cdn, ': ', reason) AS text, reason AS tags
FROM (
    SELECT toStartOfInterval(minute, toIntervalSecond(` + stepS + `)) AS slot, chosen AS cdn, toString(reason_code) AS reason, sum(d.moved) AS moved
    FROM rollup_decisions AS d
    WHERE $__timeFilter(minute) AND ` + whereApp + ` AND d.moved > 0
    GROUP BY slot, cdn, reason
)
ORDER BY moved DESC
LIMIT 100`},
	}
}

// Walls gives every wall, its values coloured by th.
func Walls(th Thresholds) []Wall {
	walls := []Wall{cdnHealth(th), streams(th), session(), qoe(th), experiments(th), pipeline()}
	for i := range walls {
		walls[i].Tags = []string{"spillway"}
	}
	return walls
}
