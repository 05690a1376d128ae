package origin

import "time"

// endSpacing is the least time between telling a player of a segment's last part
// and telling it of the next segment. hls.js 1.7 must not get both playlists while
// it still parses the part before the last: it would take the segment for loaded
// and stall (docs/decisions/0016-a-segment-ends-with-the-next-part.md). Parts come
// 200 ms apart, so nobody waits, but those of a publisher whose network has held
// them up come together.
const endSpacing = 120 * time.Millisecond

// noteAppend keeps when the last part of the segment before the open one came.
// It must be called before a part is appended.
func (t *track) noteAppend(p *piece, now time.Time) {
	if t.begun && (t.closed || p.h.SegmentStart) {
		t.endedAt = t.appendedAt
	}
	t.appendedAt = now
}

// early is how long a request must wait that comes from a player that has been
// told of a segment's last part a moment ago, and whose answer has the next
// segment in it.
func (t *track) early(d directives, now time.Time) time.Duration {
	n := len(t.segs) - 1
	if !d.hasMSN || n <= t.oldest || t.closed && t.over() {
		return 0
	}
	before := t.segs[n-1]
	if d.msn < before.MSN || d.msn == before.MSN && (!d.hasPart || d.part < len(before.Parts)) {
		return 0
	}
	return max(0, t.endedAt.Add(endSpacing).Sub(now))
}
