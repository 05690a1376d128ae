package bench

import "context"

// Growth is how a server's cost grows with the number of publishers.
type Growth struct {
	Bench string `json:"bench"`
	// Points has one entry for each server, number of readers and number of publishers.
	Points []Point `json:"points"`
	// Reports hold everything that was measured, one for each number of publishers.
	Reports []*Report `json:"reports"`
}

// Point is a server's median cost with one number of publishers.
type Point struct {
	Server           string `json:"server"`
	ReadersPerStream int    `json:"readers_per_stream"`
	Publishers       int    `json:"publishers"`
	// CPUSeconds are of the window; MsPerStreamSecond is what one stream costs, milliseconds of CPU a second:
	// the same for every number of publishers where the cost grows in proportion.
	CPUSeconds        float64 `json:"server_cpu_s"`
	MsPerStreamSecond float64 `json:"cpu_ms_per_stream_second"`
	PeakRSSBytes      float64 `json:"server_peak_rss_bytes"`
	// LatencyP50Ms and LatencyP95Ms are of video parts; absent without readers.
	LatencyP50Ms *float64 `json:"latency_p50_ms,omitempty"`
	LatencyP95Ms *float64 `json:"latency_p95_ms,omitempty"`
}

// Grow measures with each number of publishers in turn. What was measured before an error comes with it.
func Grow(ctx context.Context, s Settings, publishers []int) (*Growth, error) {
	g := &Growth{Bench: "media growth"}
	for _, n := range publishers {
		s.Publishers = n
		rep, err := Run(ctx, s)
		if rep != nil {
			g.Reports = append(g.Reports, rep)
			g.Points = append(g.Points, rep.points()...)
		}
		if err != nil {
			return g, err
		}
	}
	return g, nil
}

func (r *Report) points() []Point {
	var out []Point
	for _, s := range r.Summary {
		p := Point{
			Server: s.Server, ReadersPerStream: s.ReadersPerStream, Publishers: r.Publishers,
			CPUSeconds: s.CPUSeconds.Median, PeakRSSBytes: s.PeakRSSBytes.Median,
			MsPerStreamSecond: thousandths(1000 * s.CPUSeconds.Median / r.Seconds / float64(r.Publishers)),
		}
		if s.LatencyP50Ms != nil {
			p.LatencyP50Ms, p.LatencyP95Ms = &s.LatencyP50Ms.Median, &s.LatencyP95Ms.Median
		}
		out = append(out, p)
	}
	return out
}
