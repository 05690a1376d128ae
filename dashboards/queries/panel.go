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
	// LinkWall is the UID of the wall that a click on a label opens, with LinkVar set to the label.
	LinkWall, LinkVar string
}

// Variable is a template variable with several values and All.
type Variable struct {
	Name, Label, SQL string
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

// Stall ratios at or above which a CDN is worth a look, and bad.
const (
	StallWarn = 0.01
	StallBad  = 0.05
)

var (
	appVar = Variable{Name: "app", Label: "Application", SQL: "SELECT DISTINCT app FROM rollup_minute WHERE $__timeFilter(minute) ORDER BY app"}
	cdnVar = Variable{Name: "cdn", Label: "CDN", SQL: "SELECT DISTINCT cdn FROM rollup_minute WHERE $__timeFilter(minute) AND cdn != '' ORDER BY cdn"}
)

// Conditions on the template variables.
const (
	whereApp = "$__conditionalAll(app IN (${app:sqlstring}), $app)"
	whereCDN = "$__conditionalAll(cdn IN (${cdn:sqlstring}), $cdn)"
)

// Walls gives every wall.
func Walls() []Wall { return []Wall{cdnHealth(), streams(), qoe(), pipeline()} }
