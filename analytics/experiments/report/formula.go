package report

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spillway-live/spillway/schemas"
)

// columns are the sums that metrics are made of, as session_slices and the roll-ups name them.
var columns = []string{
	"sessions", "attempts", "starts", "startup_ms", "exits_before_start", "start_failures", "playback_failures",
	"played_ms", "stalled_ms", "stalls", "switches", "cdn_moves",
	"latency_ms_sum", "latency_weight_ms", "bitrate_kbps_ms_sum", "bitrate_weight_ms",
	"dropped_frames", "frames_weight_ms", "requests", "request_errors", "request_bytes", "reports", "lost_reports",
}

// formula says how a metric comes from sums over units: num and den are sums of columns, scale brings the quotient to
// the metric's unit. No den: the number of units.
type formula struct {
	num, den []string
	scale    float64
	// hist is the histogram of a quantile metric: first_screen or latency.
	hist string
	// events: num counts what a unit has or has not, so that few of them can be compared by how many units have one.
	events bool
}

// text is the formula in the words of the statements' columns.
func (f formula) text(m schemas.Metric) string {
	if f.hist != "" {
		return fmt.Sprintf("quantile %g of the histogram %s, interpolated within its bin", m.Quantile, f.hist)
	}
	den := "exposed units"
	if f.den != nil {
		den = "sum(" + sql(f.den) + ")"
	}
	out := "sum(" + sql(f.num) + ") / " + den
	if f.scale != 1 {
		out = strconv.FormatFloat(f.scale, 'f', -1, 64) + " * " + out
	}
	return out
}

var viewed = []string{"played_ms", "stalled_ms"}

const perHour = 3_600_000 // of milliseconds

// formulas of all schemas.Metrics; see docs/metrics.md for the meaning of each.
var formulas = map[string]formula{
	"stall_ratio":             {num: []string{"stalled_ms"}, den: viewed, scale: 100, events: true},
	"stalls_per_hour":         {num: []string{"stalls"}, den: viewed, scale: perHour, events: true},
	"stall_mean_ms":           {num: []string{"stalled_ms"}, den: []string{"stalls"}, scale: 1},
	"start_failure_ratio":     {num: []string{"start_failures"}, den: []string{"attempts"}, scale: 100, events: true},
	failedStarts.Name:         {num: []string{"start_failures", "exits_before_start"}, den: []string{"attempts"}, scale: 100, events: true},
	"exit_before_start_ratio": {num: []string{"exits_before_start"}, den: []string{"attempts"}, scale: 100, events: true},
	"playback_failure_ratio":  {num: []string{"playback_failures"}, den: []string{"starts"}, scale: 100, events: true},
	"first_screen_mean":       {num: []string{"startup_ms"}, den: []string{"starts"}, scale: 1},
	"first_screen_p50":        {hist: "first_screen", scale: 1},
	"first_screen_p90":        {hist: "first_screen", scale: 1},
	"first_screen_p95":        {hist: "first_screen", scale: 1},
	"latency_mean":            {num: []string{"latency_ms_sum"}, den: []string{"latency_weight_ms"}, scale: 1},
	"latency_p50":             {hist: "latency", scale: 1},
	"latency_p90":             {hist: "latency", scale: 1},
	"played_per_unit":         {num: []string{"played_ms"}, scale: 0.001, events: true},
	"bitrate_mean":            {num: []string{"bitrate_kbps_ms_sum"}, den: []string{"bitrate_weight_ms"}, scale: 1},
	"switches_per_hour":       {num: []string{"switches"}, den: viewed, scale: perHour, events: true},
	"cdn_moves_per_hour":      {num: []string{"cdn_moves"}, den: viewed, scale: perHour, events: true},
	"dropped_frames_per_hour": {num: []string{"dropped_frames"}, den: []string{"frames_weight_ms"}, scale: perHour, events: true},
	"request_error_ratio":     {num: []string{"request_errors"}, den: []string{"requests"}, scale: 100, events: true},
	"bytes_per_hour":          {num: []string{"request_bytes"}, den: viewed, scale: perHour / 1e6},
}

// failedStarts is no metric of its own: the share of first screens that never came, which histograms hold as infinite.
var failedStarts = schemas.Metric{Name: "failed_starts", Title: "starts that failed or were given up"}

// columnIndex finds a column's place in a cluster's sums.
var columnIndex = func() map[string]int {
	m := map[string]int{}
	for i, c := range columns {
		m[c] = i
	}
	return m
}()

// total adds up a formula's columns in a cluster's sums.
func total(names []string, sums []int64) int64 {
	var v int64
	for _, n := range names {
		v += sums[columnIndex[n]]
	}
	return v
}

// sql is a sum of columns as an expression.
func sql(names []string) string { return strings.Join(names, " + ") }
