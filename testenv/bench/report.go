package bench

import (
	"math"
	"slices"
	"time"
)

// Report is what Run measured: every run, and sums over the rounds.
type Report struct {
	// Bench is "media".
	Bench   string    `json:"bench"`
	Began   time.Time `json:"began"`
	Machine Machine   `json:"machine"`
	// Publishers is the number of streams, Seconds the length of each window.
	Publishers int     `json:"publishers"`
	Seconds    float64 `json:"seconds"`
	Rounds     int     `json:"rounds"`

	Runs []Result `json:"runs"`
	// Summary has one entry for each server and number of readers.
	Summary []Summary `json:"summary"`
	// Ratios compare the first server with each other one, round by round.
	Ratios []Ratio `json:"ratios"`
}

// Result is one server in one round.
type Result struct {
	Server           string `json:"server"`
	Version          string `json:"version"`
	Round            int    `json:"round"`
	ReadersPerStream int    `json:"readers_per_stream"`
	// WindowSeconds is the time that passed between the two looks at the accounts.
	WindowSeconds float64 `json:"window_s"`
	// CPUSeconds is user plus system time of the server's whole process tree within the window.
	CPUSeconds float64 `json:"server_cpu_s"`
	// PeakRSSBytes is the most memory that was resident since the server started (VmHWM).
	PeakRSSBytes int64 `json:"server_peak_rss_bytes"`
	// GeneratorCPUSeconds is that of publishers and readers, which is not in CPUSeconds.
	GeneratorCPUSeconds float64 `json:"generator_cpu_s"`
	// OtherCPUSeconds is what the rest of the machine used meanwhile: the noise. StolenCPUSeconds is what the
	// hypervisor gave to others.
	OtherCPUSeconds  float64 `json:"other_cpu_s"`
	StolenCPUSeconds float64 `json:"stolen_cpu_s"`
	// MbpsPerStream is what was sent, in Mbit/s with RTMP's framing.
	MbpsPerStream float64 `json:"mbps_per_stream"`
	// MaxLagMs is the most by which the generator was late with a message, milliseconds.
	MaxLagMs int64 `json:"generator_max_lag_ms"`
	// Interruptions counts connections that broke; 0 in a good run.
	Interruptions int64 `json:"interruptions"`
	// StreamsPackaged is how many streams had a playlist with media after the window.
	StreamsPackaged int `json:"streams_packaged"`
	// PartsOnBus is the number of parts the packager sent in the three seconds after the window, before anybody read
	// them, for servers that can tell.
	PartsOnBus int64 `json:"parts_on_bus,omitempty"`
	// Reading is what the readers saw; absent without readers.
	Reading *Reading `json:"reading,omitempty"`
}

// thousandths rounds: the kernel counts hundredths of a second.
func thousandths(x float64) float64 { return math.Round(x*1000) / 1000 }

func (r *Result) fill(before, after moment, publishers int) {
	window := after.at.Sub(before.at).Seconds()
	r.WindowSeconds = thousandths(window)
	r.CPUSeconds = thousandths(after.server.CPUSeconds - before.server.CPUSeconds)
	r.GeneratorCPUSeconds = thousandths(after.generator - before.generator)
	r.OtherCPUSeconds = thousandths(max(0, after.machine.busy-before.machine.busy-r.CPUSeconds-r.GeneratorCPUSeconds))
	r.StolenCPUSeconds = thousandths(after.machine.stolen - before.machine.stolen)
	r.MbpsPerStream = thousandths(float64(after.sentBytes-before.sentBytes) * 8 / 1e6 / window / float64(publishers))
}

// Reading is what all readers of a run saw within the window.
type Reading struct {
	// VideoLatency and AudioLatency are of every part: the time at which its last byte had arrived less the
	// EXT-X-PROGRAM-DATE-TIME of its end, milliseconds.
	VideoLatency Distribution `json:"video_part_latency_ms"`
	AudioLatency Distribution `json:"audio_part_latency_ms"`
	Parts        int64        `json:"parts"`
	Bytes        int64        `json:"bytes"`
	Requests     int64        `json:"requests"`
	// Errors counts requests that failed, Missed parts that had left the playlist before they were seen.
	Errors int64 `json:"errors"`
	Missed int64 `json:"missed_parts"`
}

// Distribution sums up samples.
type Distribution struct {
	Samples int     `json:"samples"`
	Mean    float64 `json:"mean"`
	P50     float64 `json:"p50"`
	P95     float64 `json:"p95"`
	Max     float64 `json:"max"`
}

func distribution(samples []float64) Distribution {
	if len(samples) == 0 {
		return Distribution{}
	}
	slices.Sort(samples)
	sum := 0.0
	for _, x := range samples {
		sum += x
	}
	// The nearest rank: the least sample that at least this share does not exceed.
	rank := func(q float64) float64 {
		return samples[min(int(q*float64(len(samples))+0.999999), len(samples))-1]
	}
	return Distribution{
		Samples: len(samples), Mean: thousandths(sum / float64(len(samples))),
		P50: rank(0.5), P95: rank(0.95), Max: samples[len(samples)-1],
	}
}

// Range is a figure over rounds.
type Range struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

func rangeOf(v []float64) Range {
	if len(v) == 0 {
		return Range{}
	}
	v = slices.Clone(v)
	slices.Sort(v)
	mid := v[len(v)/2]
	if len(v)%2 == 0 {
		mid = (v[len(v)/2-1] + mid) / 2
	}
	return Range{Median: thousandths(mid), Min: thousandths(v[0]), Max: thousandths(v[len(v)-1])}
}

// Summary is one server over all rounds with one number of readers.
type Summary struct {
	Server           string `json:"server"`
	ReadersPerStream int    `json:"readers_per_stream"`
	CPUSeconds       Range  `json:"server_cpu_s"`
	PeakRSSBytes     Range  `json:"server_peak_rss_bytes"`
	// The latencies are of each round's mean, median and 95th percentile over video parts; absent without readers.
	LatencyMeanMs *Range `json:"latency_mean_ms,omitempty"`
	LatencyP50Ms  *Range `json:"latency_p50_ms,omitempty"`
	LatencyP95Ms  *Range `json:"latency_p95_ms,omitempty"`
}

// Ratio is the first server's figure over a peer's in the same round; below 1 the first server is better.
type Ratio struct {
	Server           string `json:"server"`
	Peer             string `json:"peer"`
	ReadersPerStream int    `json:"readers_per_stream"`
	CPU              Range  `json:"server_cpu"`
	PeakRSS          Range  `json:"server_peak_rss"`
	// LatencyDifferenceMs is the first server's median latency less the peer's, milliseconds.
	LatencyDifferenceMs *Range `json:"latency_p50_difference_ms,omitempty"`
}

// sumUp fills Summary and Ratios from Runs.
func (r *Report) sumUp(first string) {
	type key struct {
		server  string
		readers int
	}
	var order []key
	by := map[key][]Result{}
	for _, run := range r.Runs {
		k := key{run.Server, run.ReadersPerStream}
		if by[k] == nil {
			order = append(order, k)
		}
		by[k] = append(by[k], run)
	}
	for _, k := range order {
		runs := by[k]
		s := Summary{Server: k.server, ReadersPerStream: k.readers,
			CPUSeconds:   over(runs, func(x *Result) float64 { return x.CPUSeconds }),
			PeakRSSBytes: over(runs, func(x *Result) float64 { return float64(x.PeakRSSBytes) }),
		}
		if k.readers > 0 {
			mean := over(runs, func(x *Result) float64 { return x.Reading.VideoLatency.Mean })
			p50 := over(runs, func(x *Result) float64 { return x.Reading.VideoLatency.P50 })
			p95 := over(runs, func(x *Result) float64 { return x.Reading.VideoLatency.P95 })
			s.LatencyMeanMs, s.LatencyP50Ms, s.LatencyP95Ms = &mean, &p50, &p95
		}
		r.Summary = append(r.Summary, s)
	}
	for _, k := range order {
		if k.server == first {
			continue
		}
		var cpu, rss, late []float64
		for _, peer := range by[k] {
			for _, own := range by[key{first, k.readers}] {
				if own.Round != peer.Round {
					continue
				}
				if peer.CPUSeconds > 0 {
					cpu = append(cpu, own.CPUSeconds/peer.CPUSeconds)
				}
				rss = append(rss, float64(own.PeakRSSBytes)/float64(peer.PeakRSSBytes))
				if k.readers > 0 {
					late = append(late, own.Reading.VideoLatency.P50-peer.Reading.VideoLatency.P50)
				}
			}
		}
		if len(rss) == 0 {
			continue
		}
		x := Ratio{Server: first, Peer: k.server, ReadersPerStream: k.readers, CPU: rangeOf(cpu), PeakRSS: rangeOf(rss)}
		if k.readers > 0 {
			d := rangeOf(late)
			x.LatencyDifferenceMs = &d
		}
		r.Ratios = append(r.Ratios, x)
	}
}

func over(runs []Result, f func(*Result) float64) Range {
	v := make([]float64, len(runs))
	for i := range runs {
		v[i] = f(&runs[i])
	}
	return rangeOf(v)
}
