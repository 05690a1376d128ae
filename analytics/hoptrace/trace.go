// Package hoptrace makes sense of what hops tell of a stream's parts: delay and
// loss by hop, which hop is bad, and whose clock is wrong. Pure: notes go in, a
// report comes out.
//
// It promises that a hop is named only for what its own notes and those of the
// hop before it show. Our own hops see every part, so a part that one lacks is
// missing; origins, edges and players see what is asked for, so there only
// failures count. Clocks are each machine's own: one that is behind shows as a
// part that is somewhere before ingest had it, one that is ahead looks like delay.
package hoptrace

import (
	"cmp"
	"slices"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/hops"
)

// Trace gathers notes of one stream. Not safe for concurrent use.
type Trace struct {
	key    schemas.StreamKey
	groups map[groupID]*group
	notes  int
	lastUs int64 // newest time of ingest
	// Packets between publisher and ingest that were missing, and those of them that came again.
	packetsLost, packetsAgain uint64
}

// groupID tells hops apart: our own by process, edges and players by CDN.
type groupID struct{ hop, cdn, server string }

type group struct {
	seen   map[schemas.PartName]*at
	probes []hops.Note
	ok     int // notes
	failed int
	why    map[string]int
	bound  float64
}

// at is a part at a hop.
type at struct {
	delayMs float64 // of the first note
	known   bool
	ok      bool
	atUs    int64
	waitMs  float64 // from request, or from ingest if that was later, to the first byte (players: the last); -1: not known
}

// maxParts bounds what is remembered of a hop: hours of a stream.
const maxParts = 20_000

// New makes a Trace of a stream.
func New(k schemas.StreamKey) *Trace { return &Trace{key: k, groups: map[groupID]*group{}} }

// Notes is the number of notes that have come.
func (t *Trace) Notes() int { return t.notes }

// Link takes the stream's state when listening began and ended: what was lost on the way from
// the publisher has no part that could be missed. Either may be nil, and where they are of two
// publications nothing is known.
func (t *Trace) Link(began, ended *schemas.StreamState) {
	if began == nil || ended == nil || began.Epoch.Epoch != ended.Epoch.Epoch ||
		ended.Stats.PacketsLost < began.Stats.PacketsLost || ended.Stats.PacketsRetransmitted < began.Stats.PacketsRetransmitted {
		return
	}
	t.packetsLost = ended.Stats.PacketsLost - began.Stats.PacketsLost
	t.packetsAgain = ended.Stats.PacketsRetransmitted - began.Stats.PacketsRetransmitted
}

// Add takes a note.
func (t *Trace) Add(n hops.Note) {
	t.notes++
	id := groupID{hop: n.Hop}
	switch n.Hop {
	case schemas.HopPackaged, schemas.HopOrigin:
		id.server = n.Server
	case schemas.HopEdge, schemas.HopPlayer, schemas.HopProbe:
		id.cdn = n.CDN
	}
	g := t.groups[id]
	if g == nil {
		g = &group{seen: map[schemas.PartName]*at{}, why: map[string]int{}}
		t.groups[id] = g
	}
	if n.Failed() {
		g.failed++
		g.why[reason(&n)]++
	} else {
		g.ok++
	}
	if n.Hop == schemas.HopProbe {
		g.probes = append(g.probes, n)
		return
	}
	if n.Hop == schemas.HopIngest {
		t.lastUs = max(t.lastUs, n.AtUs)
	}
	g.bound = max(g.bound, n.BoundMs)
	name := n.Name(t.key)
	a := g.seen[name]
	if a == nil {
		if len(g.seen) >= maxParts {
			return
		}
		a = &at{waitMs: -1}
		g.seen[name] = a
	}
	if n.Failed() {
		return
	}
	if n.DelayMs != nil && (!a.known || *n.DelayMs < a.delayMs) {
		a.delayMs, a.known = *n.DelayMs, true
	}
	took := n.FirstByteMs
	if n.Hop == schemas.HopPlayer {
		took = n.LastByteMs
	}
	if n.DelayMs != nil && took != nil {
		a.waitMs = max(a.waitMs, min(*n.DelayMs, float64(*took)))
	}
	if !a.ok || n.AtUs < a.atUs {
		a.atUs = n.AtUs
	}
	a.ok = true
}

func reason(n *hops.Note) string {
	switch {
	case n.Error != "":
		return n.Error
	case n.Code < 0:
		return "no answer"
	}
	return "HTTP " + itoa(n.Code)
}

// settle: what ingest had so late before the end of listening need not be further on yet.
const settle = 3 * time.Second

// missing are the parts that were at the hop before, between the first and the last
// that this one had of their track, and not here.
func (t *Trace) missing(g, before *group) int {
	if before == nil {
		return 0
	}
	type track struct {
		rendition string
		kind      schemas.Track
		epoch     uint32
	}
	first, last := map[track]schemas.PartName{}, map[track]schemas.PartName{}
	for n, a := range g.seen {
		if !a.ok {
			continue
		}
		k := track{n.Rendition, n.Track, n.Epoch}
		if f, ok := first[k]; !ok || less(n, f) {
			first[k] = n
		}
		if l, ok := last[k]; !ok || less(l, n) {
			last[k] = n
		}
	}
	count := 0
	for n, a := range before.seen {
		k := track{n.Rendition, n.Track, n.Epoch}
		f, ok := first[k]
		if !ok || !a.ok || !less(f, n) || !less(n, last[k]) || t.lastUs-a.atUs < settle.Microseconds() {
			continue
		}
		if here := g.seen[n]; here == nil || !here.ok {
			count++
		}
	}
	return count
}

func less(a, b schemas.PartName) bool {
	return cmp.Or(cmp.Compare(a.MSN, b.MSN), cmp.Compare(a.Part, b.Part)) < 0
}

// first gives the earliest delay of a part at any group of a hop.
func (t *Trace) first(hop, cdn string, n schemas.PartName) (ms float64, ok bool) {
	for id, g := range t.groups {
		if id.hop != hop || cdn != "" && id.cdn != cdn {
			continue
		}
		if a := g.seen[n]; a != nil && a.known && (!ok || a.delayMs < ms) {
			ms, ok = a.delayMs, true
		}
	}
	return ms, ok
}

// before names the hop that a part comes from; added delay is counted from there.
func before(hop string) string {
	i := slices.Index(schemas.Hops(), hop)
	if i <= 0 {
		return ""
	}
	return schemas.Hops()[i-1]
}
