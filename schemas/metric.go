package schemas

import "strings"

// Metric is a figure that an experiment may be judged by. Its formula is in docs/metrics.md, its SQL in
// analytics/experiments/report.
type Metric struct {
	// Name is what experiments and programs call it, Title what people read.
	Name, Title string
	// Unit of the value: %, ms, s, 1/h, kbit/s; empty for plain counts.
	Unit           string
	HigherIsBetter bool
	// Quantile level of a distribution, 0 to 1; 0: a mean or a ratio of sums.
	Quantile float64
}

// Metrics are all metrics in the order reports show them.
func Metrics() []Metric { return metrics }

// Read-only.
var metrics = []Metric{
	{Name: "stall_ratio", Title: "stall ratio", Unit: "%"},
	{Name: "stalls_per_hour", Title: "stalls per hour", Unit: "1/h"},
	{Name: "stall_mean_ms", Title: "mean stall", Unit: "ms"},
	{Name: "start_failure_ratio", Title: "start failures", Unit: "%"},
	{Name: "exit_before_start_ratio", Title: "exits before start", Unit: "%"},
	{Name: "playback_failure_ratio", Title: "playback failures", Unit: "%"},
	{Name: "first_screen_mean", Title: "first screen, mean of started", Unit: "ms"},
	{Name: "first_screen_p50", Title: "first screen, median", Unit: "ms", Quantile: 0.5},
	{Name: "first_screen_p90", Title: "first screen, p90", Unit: "ms", Quantile: 0.9},
	{Name: "first_screen_p95", Title: "first screen, p95", Unit: "ms", Quantile: 0.95},
	{Name: "latency_mean", Title: "live latency, mean", Unit: "ms"},
	{Name: "latency_p50", Title: "live latency, median", Unit: "ms", Quantile: 0.5},
	{Name: "latency_p90", Title: "live latency, p90", Unit: "ms", Quantile: 0.9},
	{Name: "played_per_unit", Title: "played per unit", Unit: "s", HigherIsBetter: true},
	{Name: "bitrate_mean", Title: "bitrate, mean", Unit: "kbit/s", HigherIsBetter: true},
	{Name: "switches_per_hour", Title: "bitrate changes per hour", Unit: "1/h"},
	{Name: "cdn_moves_per_hour", Title: "CDN moves per hour", Unit: "1/h"},
	{Name: "dropped_frames_per_hour", Title: "dropped frames per hour", Unit: "1/h"},
	{Name: "request_error_ratio", Title: "request errors at edges", Unit: "%"},
	{Name: "bytes_per_hour", Title: "edge bytes per hour viewed", Unit: "MB/h"},
}

// MetricNamed finds a metric; ok is false when there is none of the name.
func MetricNamed(name string) (m Metric, ok bool) {
	for _, m := range metrics {
		if m.Name == name {
			return m, true
		}
	}
	return Metric{}, false
}

// metricNames lists all names for error messages.
func metricNames() string {
	names := make([]string, len(metrics))
	for i, m := range metrics {
		names[i] = m.Name
	}
	return strings.Join(names, ", ")
}
