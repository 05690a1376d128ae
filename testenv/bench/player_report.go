package bench

import (
	"time"
)

// PlayerReport is what RunPlayer measured: every view, and sums by server.
type PlayerReport struct {
	// Bench is "player".
	Bench          string    `json:"bench"`
	Began          time.Time `json:"began"`
	Machine        Machine   `json:"machine"`
	ViewSeconds    float64   `json:"view_s"`
	CPUSlowdown    float64   `json:"cpu_slowdown"`
	RequestDelayMs int64     `json:"request_delay_ms"`

	Views   []View          `json:"views"`
	Summary []PlayerSummary `json:"summary"`
}

// View is one view of one server.
type View struct {
	Server  string `json:"server"`
	Version string `json:"version"`
	Round   int    `json:"round"`
	// FirstFrameMs is from the moment hls.js got the address until a picture was shown, milliseconds; absent
	// when none was.
	FirstFrameMs *float64 `json:"first_frame_ms"`
	// LatencyMs is the wall clock less the playlist's EXT-X-PROGRAM-DATE-TIME of what is shown, mean over the
	// second half of the view, milliseconds. TrueLatencyMs is the wall clock less the clock in the picture: it
	// has in it what the publisher and the protocol before the server take.
	LatencyMs     float64 `json:"latency_ms"`
	TrueLatencyMs float64 `json:"true_latency_ms"`
	// Stalls are the times without progress after the first picture; StallMs is their sum. Seeks are jumps that
	// hls.js made to go on.
	Stalls  []Stall `json:"stalls"`
	StallMs float64 `json:"stall_ms"`
	Seeks   int     `json:"seeks"`
	// Requests are those that began before the first picture, in order.
	Requests []PlayerRequest `json:"requests"`
	// Repeated is how many requests for media asked for what had been asked for before.
	Repeated int `json:"repeated"`
	// PlayedSeconds is how far the playhead went.
	PlayedSeconds float64 `json:"played_s"`
	// Errors are what hls.js reported.
	Errors []PlayerError `json:"errors"`

	log []string
}

// Stall is one time without progress. Where tells playhead and buffers at its begin.
type Stall struct {
	AtMs  float64 `json:"atMs"`
	Ms    float64 `json:"ms"`
	Where string  `json:"where"`
}

// PlayerError is one error event of hls.js.
type PlayerError struct {
	AtMs    float64 `json:"atMs"`
	Details string  `json:"details"`
	Fatal   bool    `json:"fatal"`
	Where   string  `json:"where"`
}

// PlayerRequest is one request of the page: the last two steps of its path with the query, when it began, and how
// long it took.
type PlayerRequest struct {
	Name string  `json:"name"`
	AtMs float64 `json:"atMs"`
	Ms   float64 `json:"ms"`
}

// PlayerSummary is one server over all its views.
type PlayerSummary struct {
	Server string `json:"server"`
	Views  int    `json:"views"`
	// StalledViews had a stall, or never showed a picture.
	StalledViews  int          `json:"stalled_views"`
	StallMs       float64      `json:"stall_ms"`
	FirstFrameMs  Distribution `json:"first_frame_ms"`
	LatencyMs     Distribution `json:"latency_ms"`
	TrueLatencyMs Distribution `json:"true_latency_ms"`
}

// rawView is window.view of player.js.
type rawView struct {
	FirstFrameMs  *float64        `json:"firstFrameMs"`
	Stalls        []Stall         `json:"stalls"`
	Seeks         int             `json:"seeks"`
	Errors        []PlayerError   `json:"errors"`
	Latencies     []timed         `json:"latencies"`
	TrueLatencies []timed         `json:"trueLatencies"`
	Log           []string        `json:"log"`
	Requests      []PlayerRequest `json:"requests"`
	Repeated      int             `json:"repeated"`
	Now           float64         `json:"now"`
	PlayedS       float64         `json:"playedS"`
}

type timed struct {
	AtMs float64 `json:"atMs"`
	Ms   float64 `json:"ms"`
}

func (r *rawView) sumUp() *View {
	late := func(all []timed) float64 {
		var ms []float64
		for _, t := range all {
			if t.AtMs >= r.Now/2 {
				ms = append(ms, t.Ms)
			}
		}
		return distribution(ms).Mean
	}
	v := &View{
		FirstFrameMs: r.FirstFrameMs, LatencyMs: late(r.Latencies), TrueLatencyMs: late(r.TrueLatencies),
		Stalls: r.Stalls, Seeks: r.Seeks, PlayedSeconds: thousandths(r.PlayedS), Errors: r.Errors, log: r.Log,
		Requests: r.Requests, Repeated: r.Repeated,
	}
	for i := range v.Stalls {
		v.StallMs += v.Stalls[i].Ms
	}
	return v
}

func (r *PlayerReport) sumUp(servers []Starter) {
	for _, server := range servers {
		s := PlayerSummary{Server: server.Name}
		var first, latency, trueLatency []float64
		for i := range r.Views {
			v := &r.Views[i]
			if v.Server != server.Name {
				continue
			}
			s.Views++
			s.StallMs += v.StallMs
			if len(v.Stalls) > 0 || v.FirstFrameMs == nil {
				s.StalledViews++
			}
			if v.FirstFrameMs != nil {
				first = append(first, *v.FirstFrameMs)
				latency = append(latency, v.LatencyMs)
				trueLatency = append(trueLatency, v.TrueLatencyMs)
			}
		}
		s.FirstFrameMs, s.LatencyMs, s.TrueLatencyMs = distribution(first), distribution(latency), distribution(trueLatency)
		r.Summary = append(r.Summary, s)
	}
}

func deref(p *float64) float64 {
	if p == nil {
		return -1
	}
	return *p
}
