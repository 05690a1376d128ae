package hoptrace

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/hops"
)

// skewMs earlier than possible: clocks differ.
const skewMs = 5.0

// badAddedMs are medians that our own hops never reach in health. What an origin, an edge
// and a player add depends on when somebody asks: they are judged by how long they take.
var badAddedMs = map[string]float64{schemas.HopIngest: hops.BadIngestMs, schemas.HopStored: hops.BadStoredMs, schemas.HopPackaged: hops.BadPackagedMs}

type judged struct {
	Finding
	weight float64
}

// judge says which hops are bad and whose clocks are wrong.
func (t *Trace) judge(r *Report) {
	var found []judged
	add := func(hop, name string, weight float64, format string, a ...any) {
		found = append(found, judged{Finding{hop, name, fmt.Sprintf(format, a...)}, weight})
	}
	for i := range r.Hops {
		h := &r.Hops[i]
		if share := float64(h.Failed) / float64(max(h.Answers, 1)); h.Failed >= hops.MinFailed && share >= hops.BadFailedShare {
			add(h.Hop, h.Name, 2+share, "%s: %.0f %% of what was asked for failed (%d of %d: %s)", place(h.Hop, h.Name), 100*share, h.Failed, h.Answers, reasons(h.Reasons))
		}
		if h.Missing >= hops.BadMissing {
			add(h.Hop, h.Name, 3, "%s: %d parts that were at the hop before never came here", place(h.Hop, h.Name), h.Missing)
		}
		if limit := badAddedMs[h.Hop]; limit > 0 && h.AddedP50Ms != nil && *h.AddedP50Ms > limit {
			add(h.Hop, h.Name, 1+*h.AddedP50Ms/10_000, "%s: adds %.0f ms (median), more than %.0f", place(h.Hop, h.Name), *h.AddedP50Ms, limit)
		}
		if ms := h.WaitP50Ms; ms != nil && h.Hop == schemas.HopEdge && *ms > hops.BadEdgeMs {
			add(h.Hop, h.Name, 1+*ms/10_000, "%s: slow, %.0f ms (median) to begin an answer about a part that was there", place(h.Hop, h.Name), *ms)
		}
		if ms := h.WaitP50Ms; ms != nil && h.Hop == schemas.HopPlayer && *ms > hops.BadPlayerMs {
			add(h.Hop, h.Name, 1+*ms/10_000, "%s: slow, a part that is there takes %.0f ms (median) to reach them, more than %.0f", place(h.Hop, h.Name), *ms, hops.BadPlayerMs)
		}
		t.clock(r, h)
	}
	// The difference is not exact: some come again twice, and the last ones come after listening has ended.
	if gone := int64(r.PacketsLost) - int64(r.PacketsAgain); gone >= hops.BadMissing && gone*20 >= int64(r.PacketsLost) {
		add(schemas.HopIngest, "", 3, "%s: %d packets did not come again (%d were missing at first)", place(schemas.HopIngest, ""), gone, r.PacketsLost)
	}
	judgeProbes(r, add)
	slices.SortStableFunc(found, func(a, b judged) int { return cmp.Compare(b.weight, a.weight) })
	for _, f := range found {
		r.Bad = append(r.Bad, f.Finding)
	}
	t.note(r)
}

func judgeProbes(r *Report, add func(hop, name string, weight float64, format string, a ...any)) {
	for _, p := range r.Probes {
		name := place(schemas.HopEdge, p.CDN)
		if share := float64(p.Failed) / float64(max(p.Requests, 1)); p.Failed >= hops.MinFailed && share >= hops.BadFailedShare {
			add(schemas.HopEdge, p.CDN, 2+share, "%s: %d of %d probes failed (%s)", name, p.Failed, p.Requests, reasons(p.Reasons))
		}
		if p.StalenessP50Ms != nil && *p.StalenessP50Ms > hops.BadStalenessMs {
			add(schemas.HopEdge, p.CDN, 2, "%s: stale playlists, the newest part they list is %.1f s old", name, *p.StalenessP50Ms/1000)
		}
		if p.FirstByteP50Ms != nil && *p.FirstByteP50Ms > hops.BadFirstByteMs {
			add(schemas.HopEdge, p.CDN, 1, "%s: slow, probes wait %.0f ms (median) for the first byte", name, *p.FirstByteP50Ms)
		}
		if p.PaceP50 != nil && *p.PaceP50 < hops.BadPace {
			add(schemas.HopEdge, p.CDN, 2, "%s: starved, probes get %.2g Mbit/s (median) of a stream of %.2g Mbit/s", name, *p.ThroughputKbps/1000, *p.BitrateKbps/1000)
		}
	}
}

// clock says when a part was at a hop before it can have been.
func (t *Trace) clock(r *Report, h *Hop) {
	if h.DelayP50Ms == nil || h.Hop == schemas.HopPublish {
		return
	}
	// Not against the hop before: an edge's cache may be ahead of the origins that are seen, and the bus hands a
	// chunk on before it has acknowledged it.
	early := -*h.DelayP50Ms
	if early > skewMs {
		r.Clocks = append(r.Clocks, fmt.Sprintf("the clock of %s is at least %.0f ms behind: its delays are too short by that", place(h.Hop, h.Name), early))
	}
}

func (t *Trace) note(r *Report) {
	has := func(hop string) bool {
		return slices.ContainsFunc(r.Hops, func(h Hop) bool { return h.Hop == hop })
	}
	switch {
	case t.notes == 0:
		r.Notes = append(r.Notes, "nothing was heard: is the stream live? (spillway streams)")
		return
	case !has(schemas.HopIngest):
		r.Notes = append(r.Notes, "ingest tells nothing: the publisher is gone, or its process is")
	case !has(schemas.HopPackaged):
		r.Notes = append(r.Notes, "no origin reads the stream: nobody watches it")
	case !has(schemas.HopEdge):
		r.Notes = append(r.Notes, "no edge has told of a part: nobody watches through a CDN whose logs come here")
	}
	if has(schemas.HopIngest) && !has(schemas.HopPublish) {
		r.Notes = append(r.Notes, "the publisher does not tell when pictures were captured: delay begins at ingest")
	}
	if has(schemas.HopPlayer) {
		r.Notes = append(r.Notes, "players' times are by viewers' clocks")
	}
}

// place names a hop in words.
func place(hop, name string) string {
	switch hop {
	case schemas.HopPublish, schemas.HopIngest:
		return "publisher to ingest"
	case schemas.HopStored:
		return "the bus (MEDIA)"
	case schemas.HopPackaged, schemas.HopOrigin:
		return "origin " + name
	case schemas.HopEdge:
		return "CDN " + cmp.Or(name, "(unnamed)")
	case schemas.HopPlayer:
		return "players on CDN " + cmp.Or(name, "(unnamed)")
	}
	return hop + " " + name
}

func reasons(m map[string]int) string {
	var out []string
	for _, k := range slices.SortedFunc(maps.Keys(m), func(a, b string) int { return cmp.Or(cmp.Compare(m[b], m[a]), cmp.Compare(a, b)) }) {
		if len(out) == 3 {
			break
		}
		out = append(out, fmt.Sprintf("%s x %d", k, m[k]))
	}
	return strings.Join(out, ", ")
}
