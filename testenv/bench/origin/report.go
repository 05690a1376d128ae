package origin

import (
	"math"
	"slices"
	"time"

	"github.com/spillway-live/spillway/testenv/bench"
)

// Report is what came out.
type Report struct {
	// Bench is "origin".
	Bench   string        `json:"bench"`
	Began   time.Time     `json:"began"`
	Machine bench.Machine `json:"machine"`
	Version string        `json:"version"`
	// Seconds is the length of each window.
	Seconds float64  `json:"seconds"`
	Parts   *Parts   `json:"parts_from_memory,omitempty"`
	Reloads *Reloads `json:"blocking_reloads,omitempty"`
	Delays  *Delays  `json:"part_delay,omitempty"`
	// ServerPeakRSSBytes is the most memory that was resident since the server began.
	ServerPeakRSSBytes int64 `json:"server_peak_rss_bytes"`
}

// Usage is what was used within a window.
type Usage struct {
	WindowSeconds       float64 `json:"window_s"`
	ServerCPUSeconds    float64 `json:"server_cpu_s"`
	GeneratorCPUSeconds float64 `json:"generator_cpu_s"`
	// OtherCPUSeconds is what the rest of the machine used meanwhile: the noise.
	OtherCPUSeconds float64 `json:"other_cpu_s"`
}

// Parts are requests for parts of the last five seconds, of one stream, over connections that stay open.
type Parts struct {
	Usage
	Connections int   `json:"connections"`
	Requests    int64 `json:"requests"`
	// MeanBytes is the size of a part, PerSecond the answers a second of the window.
	MeanBytes float64 `json:"part_bytes_mean"`
	PerSecond float64 `json:"requests_per_s"`
	// CPUUs is the server's CPU a request, microseconds, with ingest and bus of the one stream in it; LoadCPUUs
	// without what they use when nobody asks. CPUSecondsPer1000 is CPUUs for a thousand requests, PerCore what
	// one core can answer at that price.
	CPUUs             float64 `json:"server_cpu_us_per_request"`
	LoadCPUUs         float64 `json:"server_cpu_us_per_request_without_idle"`
	CPUSecondsPer1000 float64 `json:"server_cpu_s_per_1000_requests"`
	PerCore           float64 `json:"requests_per_s_per_core"`
}

// Reloads are blocking reloads (delta updates) of one playlist that all players wait for.
type Reloads struct {
	Usage
	Players   int     `json:"players"`
	Answers   int64   `json:"answers"`
	MeanBytes float64 `json:"playlist_bytes_mean"`
	// CPUUs and LoadCPUUs: as in [Parts], an answer.
	CPUUs     float64 `json:"server_cpu_us_per_answer"`
	LoadCPUUs float64 `json:"server_cpu_us_per_answer_without_idle"`
	// AnswerMs is from the part's existence to each answer's last byte. A part exists when the bus has announced
	// its chunk to this process, or any player has an answer that lists it.
	AnswerMs Distribution `json:"part_exists_to_answer_ms"`
	// Late counts requests that were sent when the part existed: they are not in AnswerMs.
	Late int64 `json:"late_requests"`
}

// Delays are of parts fetched by their name before they exist, as EXT-X-PRELOAD-HINT invites to.
type Delays struct {
	Usage
	Publishers int `json:"publishers"`
	// VideoMs and AudioMs are the definition: from the arrival of the part's last frame at ingest (done_us) to
	// the part's last byte at the player that waited for it. The players take a moment to read it, which is in.
	VideoMs Distribution `json:"video_received_to_fetched_ms"`
	AudioMs Distribution `json:"audio_received_to_fetched_ms"`
	// SentMs is the same from the moment the publisher's socket had taken the last frame's last byte: ingest's
	// gathering of what arrives is in it. GatherMs is that part alone, from there to done_us; BusMs from done_us
	// to the announcement of the chunk, with the wait for the other track in it; OriginMs the rest. Video.
	SentMs   Distribution `json:"video_sent_to_fetched_ms"`
	GatherMs Distribution `json:"video_sent_to_received_ms"`
	BusMs    Distribution `json:"video_received_to_announced_ms"`
	OriginMs Distribution `json:"video_announced_to_fetched_ms"`
	// Late counts parts that were asked for when they existed: they are in no distribution.
	Late int64 `json:"late_requests"`
}

// Distribution sums up samples, milliseconds.
type Distribution struct {
	Samples int     `json:"samples"`
	Mean    float64 `json:"mean"`
	P50     float64 `json:"p50"`
	P95     float64 `json:"p95"`
	P99     float64 `json:"p99"`
	Max     float64 `json:"max"`
}

func distribution(samples []time.Duration) Distribution {
	n := len(samples)
	if n == 0 {
		return Distribution{}
	}
	slices.Sort(samples)
	ms := func(d time.Duration) float64 { return math.Round(float64(d.Microseconds())/10) / 100 }
	// The nearest rank: the least sample that at least this share does not exceed.
	rank := func(q float64) float64 { return ms(samples[min(int(math.Ceil(q*float64(n))), n)-1]) }
	var sum time.Duration
	for _, x := range samples {
		sum += x
	}
	return Distribution{Samples: n, Mean: ms(sum / time.Duration(n)), P50: rank(0.5), P95: rank(0.95), P99: rank(0.99), Max: ms(samples[n-1])}
}
