package hoptrace

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

func itoa(n int) string { return strconv.Itoa(n) }

// Report is what a Trace shows.
type Report struct {
	Stream  string  `json:"stream"`
	Seconds float64 `json:"seconds"` // listened
	Hops    []Hop   `json:"hops"`
	Probes  []Probe `json:"probes,omitempty"`
	// PacketsLost were missing on the way from the publisher while it was listened, PacketsAgain came
	// again, those that came too late or twice included; 0 also where the protocol does not tell (all but SRT).
	PacketsLost  uint64 `json:"packets_lost,omitempty"`
	PacketsAgain uint64 `json:"packets_again,omitempty"`
	// Bad says in plain words which hops are bad, worst first; empty: none. Clocks says whose clock is wrong.
	Bad    []Finding `json:"bad"`
	Clocks []string  `json:"clocks,omitempty"`
	Notes  []string  `json:"notes,omitempty"`
}

// Finding is a bad hop.
type Finding struct {
	Hop  string `json:"hop"`
	Name string `json:"name,omitempty"` // CDN or process
	Text string `json:"text"`
}

// Hop is one hop, or one of several equal ones. Delays are milliseconds; absent: not known.
type Hop struct {
	Hop  string `json:"hop"`
	Name string `json:"name,omitempty"` // CDN of edges and players, process of origins
	// Parts were there; Missing were at the hop before and not here; Failed are answers that failed, Answers all of them.
	Parts   int `json:"parts"`
	Missing int `json:"missing"`
	Failed  int `json:"failed"`
	Answers int `json:"answers"`
	// Since ingest had the part, and since the hop before.
	DelayP50Ms *float64 `json:"delay_p50_ms,omitempty"`
	DelayP95Ms *float64 `json:"delay_p95_ms,omitempty"`
	AddedP50Ms *float64 `json:"added_p50_ms,omitempty"`
	AddedP95Ms *float64 `json:"added_p95_ms,omitempty"`
	// WaitP50Ms is how long an edge took to begin an answer about a part that was there; of players,
	// how long such a part took to their last byte, from the edge's first where edges' logs come here.
	WaitP50Ms *float64 `json:"wait_p50_ms,omitempty"`
	// ClockBoundMs is how far the publisher's clock may be off.
	ClockBoundMs float64        `json:"clock_bound_ms,omitempty"`
	Reasons      map[string]int `json:"reasons,omitempty"`
}

// Probe is what synthetic requests through one CDN showed.
type Probe struct {
	CDN            string         `json:"cdn"`
	Requests       int            `json:"requests"`
	Failed         int            `json:"failed"`
	FirstByteP50Ms *float64       `json:"first_byte_p50_ms,omitempty"`
	ThroughputKbps *float64       `json:"throughput_p50_kbps,omitempty"`
	BitrateKbps    *float64       `json:"bitrate_p50_kbps,omitempty"` // the stream's
	PaceP50        *float64       `json:"pace_p50,omitempty"`         // throughput over the stream's bitrate
	StalenessP50Ms *float64       `json:"staleness_p50_ms,omitempty"`
	Reasons        map[string]int `json:"reasons,omitempty"`
}

// Report sums up what has come in the given time.
func (t *Trace) Report(listened time.Duration) Report {
	r := Report{Stream: t.key.String(), Seconds: listened.Seconds(), Bad: []Finding{}, PacketsLost: t.packetsLost, PacketsAgain: t.packetsAgain}
	ids := slices.SortedFunc(maps.Keys(t.groups), func(a, b groupID) int {
		order := schemas.Hops()
		return cmp.Or(cmp.Compare(slices.Index(order, a.hop), slices.Index(order, b.hop)), cmp.Compare(a.cdn, b.cdn), cmp.Compare(a.server, b.server))
	})
	for _, id := range ids {
		g := t.groups[id]
		if id.hop == schemas.HopProbe {
			r.Probes = append(r.Probes, probeOf(id.cdn, g))
			continue
		}
		r.Hops = append(r.Hops, t.hop(id, g))
	}
	t.judge(&r)
	return r
}

func (t *Trace) hop(id groupID, g *group) Hop {
	h := Hop{Hop: id.hop, Name: cmp.Or(id.cdn, id.server), Failed: g.failed, Answers: g.ok + g.failed, ClockBoundMs: g.bound}
	if len(g.why) > 0 {
		h.Reasons = g.why
	}
	if id.hop == schemas.HopStored || id.hop == schemas.HopPackaged {
		h.Missing = t.missing(g, t.groups[groupID{hop: before(id.hop)}])
	}
	var delays, added, waits []float64
	for n, a := range g.seen {
		if a.ok {
			h.Parts++
		}
		if a.waitMs >= 0 && id.hop == schemas.HopEdge {
			waits = append(waits, a.waitMs)
		}
		if !a.known {
			continue
		}
		delays = append(delays, a.delayMs)
		cdn := ""
		if id.hop == schemas.HopPlayer {
			cdn = id.cdn
		}
		wait := a.waitMs
		if ms, ok := t.first(before(id.hop), cdn, n); ok {
			added = append(added, a.delayMs-ms)
			wait = min(wait, a.delayMs-ms)
		}
		if a.waitMs >= 0 && id.hop == schemas.HopPlayer { // not what was added: who asks late has a part late
			waits = append(waits, wait)
		}
	}
	h.DelayP50Ms, h.DelayP95Ms = quantile(delays, 0.5), quantile(delays, 0.95)
	h.AddedP50Ms, h.AddedP95Ms = quantile(added, 0.5), quantile(added, 0.95)
	h.WaitP50Ms = quantile(waits, 0.5)
	return h
}

func probeOf(cdn string, g *group) Probe {
	p := Probe{CDN: cdn, Requests: g.ok + g.failed, Failed: g.failed}
	if len(g.why) > 0 {
		p.Reasons = g.why
	}
	var first, kbps, rate, pace, stale []float64
	for i := range g.probes {
		n := &g.probes[i]
		if n.FirstByteMs != nil && !n.Failed() {
			first = append(first, float64(*n.FirstByteMs))
		}
		if n.ThroughputKbps != nil {
			kbps = append(kbps, float64(*n.ThroughputKbps))
		}
		if n.BitrateKbps != nil && *n.BitrateKbps > 0 {
			rate = append(rate, float64(*n.BitrateKbps))
			if n.ThroughputKbps != nil {
				pace = append(pace, float64(*n.ThroughputKbps)/float64(*n.BitrateKbps))
			}
		}
		if n.StalenessMs != nil {
			stale = append(stale, float64(*n.StalenessMs))
		}
	}
	p.FirstByteP50Ms, p.StalenessP50Ms = quantile(first, 0.5), quantile(stale, 0.5)
	p.ThroughputKbps, p.BitrateKbps, p.PaceP50 = quantile(kbps, 0.5), quantile(rate, 0.5), quantile(pace, 0.5)
	return p
}

// quantile is the value at the nearest rank, to a tenth; nil without values.
func quantile(x []float64, q float64) *float64 {
	if len(x) == 0 {
		return nil
	}
	slices.Sort(x)
	v := math.Round(x[min(len(x)-1, int(q*float64(len(x))))]*10) / 10
	return &v
}
