package transcode

import (
	"slices"
)

// join is where a rung's chunks begin to be published: at a source chunk, from
// one of its video parts on.
type join struct {
	seq  uint64
	part int
	// fresh: nothing of the rung stands before it; it must begin a segment.
	fresh bool
}

// beginning says how an encoder is started.
type beginning struct {
	chunk, part int    // of the chunks at hand: the key frame that decoding starts at
	joins       []join // by rung
}

// begin chooses where decoding starts and where each rung goes on. have holds
// the source's chunks at hand, oldest first; after gives the source chunk that
// each rung has last, or nil. ok is false while no key frame is at hand.
//
// A rung that another worker made goes on with the chunk after its last one, in
// the middle of a segment, with a key frame there: nothing is missing, and what
// follows the key frame is of one encoder. A rung that is new begins with the
// newest segment.
func begin(have []*planned, after []*uint64) (b beginning, ok bool) {
	b.joins = make([]join, len(after))
	first := len(have) // oldest chunk that a rung needs
	for i, last := range after {
		j, at := joinAfter(have, last)
		if at < 0 {
			if j, at = joinFresh(have); at < 0 {
				return b, false
			}
		}
		b.joins[i], first = j, min(first, at)
	}
	// The newest key frame that is not behind any of them.
	for c := min(first, len(have)-1); c >= 0; c-- {
		for p := len(have[c].parts) - 1; p >= 0; p-- {
			if c == first && p > firstPart(b.joins, have[c].chunk.Seq) {
				continue
			}
			if have[c].parts[p].frag.Independent {
				b.chunk, b.part = c, p
				return b, true
			}
		}
	}
	// A rung that goes on has no key frame before it: it begins anew.
	if slices.ContainsFunc(b.joins, func(j join) bool { return !j.fresh }) {
		return begin(have, make([]*uint64, len(after)))
	}
	return b, false
}

func firstPart(joins []join, seq uint64) int {
	p := 1 << 30
	for _, j := range joins {
		if j.seq == seq {
			p = min(p, j.part)
		}
	}
	return p
}

// joinAfter goes on after chunk *last; at is -1 if chunks between are not at hand.
func joinAfter(have []*planned, last *uint64) (j join, at int) {
	if last == nil || len(have) == 0 || have[0].chunk.Seq > *last+1 {
		return j, -1
	}
	for i, p := range have {
		if p.chunk.Seq > *last {
			return join{seq: p.chunk.Seq}, i
		}
	}
	return join{seq: *last + 1}, len(have) // the next one to come
}

// joinFresh begins with the newest segment whose start can be decoded.
func joinFresh(have []*planned) (j join, at int) {
	key := false
	at = -1
	for i, p := range have {
		for k := range p.parts {
			f := &p.parts[k].frag
			key = key || f.Independent
			if key && f.SegmentStart {
				j, at = join{seq: p.chunk.Seq, part: k, fresh: true}, i
			}
		}
	}
	return j, at
}

// trimmed gives the chunk without the parts before part.
func (p *planned) trimmed(part int) *planned {
	if part == 0 {
		return p
	}
	t := *p
	t.parts = p.parts[part:]
	return &t
}

// marker decides which source frames become key frames: in the order of
// presentation, the first of each segment and of each joint.
type marker struct {
	times   []int64 // presentation times that were fed, ascending, the newest only
	dropped int     // how many older ones there were
	count   int     // places so far
	force   map[int64]bool
}

// maxTimes bounds the memory of a marker; frames are not reordered farther than this.
const maxTimes = 4096

// plan takes a chunk before it is fed. joint says that a key frame is wanted at its first frame.
func (m *marker) plan(p *planned, joint bool) {
	if m.force == nil {
		m.force = map[int64]bool{}
	}
	var wanted []int
	for i := range p.parts {
		if p.parts[i].frag.SegmentStart || joint && i == 0 {
			wanted = append(wanted, m.count)
		}
		for j := range p.parts[i].samples {
			pts := p.parts[i].samples[j].pts()
			at, _ := slices.BinarySearch(m.times, pts)
			m.times = slices.Insert(m.times, at, pts)
			m.count++
		}
	}
	for _, n := range wanted {
		// The very first frame is a key frame anyway and must not be marked; see remux.go.
		if at := n - m.dropped; n > 0 && at >= 0 && at < len(m.times) {
			m.force[m.times[at]] = true
		}
	}
	if n := len(m.times) - maxTimes; n > 0 {
		for _, t := range m.times[:n] {
			delete(m.force, t)
		}
		m.times, m.dropped = slices.Delete(m.times, 0, n), m.dropped+n
	}
}
