package origin

import "github.com/spillway-live/spillway/workers/hls"

// aheadParts is how far beyond the newest part a request may wait.
const aheadParts = 3

// find gives the bytes of a part (part >= 0) or a complete segment (part = -1).
// They are nil where they must be read from MEDIA. later says that it may still come.
func (t *track) find(id partID) (data []byte, ok, later bool) {
	for _, s := range t.segs {
		if s.Epoch != id.epoch || s.MSN != id.msn {
			continue
		}
		switch {
		case id.part >= len(s.Parts):
			return nil, false, !s.Complete && id.part < len(s.Parts)+aheadParts
		case id.part < 0 && (!s.Complete || hasGap(s)):
			return nil, false, !s.Complete
		case id.part >= 0 && s.Parts[id.part].Gap:
			return nil, false, false
		case s.released:
			return nil, true, false
		case id.part < 0:
			return s.whole(), true, false
		}
		return s.raw[id.part], true, false
	}
	// Another origin may be a moment ahead, also into the next epoch: a player
	// that read its playlist there must not get an error here.
	near := t.begun && id.msn == t.last.msn+1 && id.part < aheadParts && (id.epoch == t.last.epoch || id.epoch == t.last.epoch+1)
	return nil, false, near
}

// over reports whether the publisher of the last segment has left.
func (t *track) over() bool { return t.closed && t.ended >= t.last.epoch }

// playlist renders what is listed now; the bytes must not be changed.
func (t *track) playlist(delta bool) []byte {
	b := &t.full
	if delta {
		b = &t.delta
	}
	if *b == nil {
		if m := t.media(len(t.segs)); delta {
			*b = m.AppendDelta(make([]byte, 0, 8<<10))
		} else {
			*b = m.Append(make([]byte, 0, 8<<10))
		}
	}
	return *b
}

// media is what the playlist lists of the segments before index end.
func (t *track) media(end int) *hls.Media {
	m := &hls.Media{PartTargetUs: t.targetUs, Reports: t.reports, Ended: end == len(t.segs) && t.over()}
	m.Segments = make([]hls.Segment, 0, end-t.oldest)
	for _, s := range t.segs[t.oldest:end] {
		m.Segments = append(m.Segments, s.Segment)
	}
	return m
}

// answer renders the playlist for directives that it meets. Whoever asks for the
// last part of a segment gets the playlist as it was when that part was the
// newest, even when the next segment has begun since: see hls.Media.Segments.
func (t *track) answer(d directives) []byte {
	n := len(t.segs) - 1
	if n <= t.oldest || !d.hasPart || d.msn != t.segs[n-1].MSN || d.part != len(t.segs[n-1].Parts)-1 {
		return t.playlist(d.skip)
	}
	b := &t.fullBefore
	if d.skip {
		b = &t.deltaBefore
	}
	if *b == nil {
		if m := t.media(n); d.skip {
			*b = m.AppendDelta(nil)
		} else {
			*b = m.Append(nil)
		}
	}
	return *b
}

// listed reports whether the playlist has segments that are complete.
func (t *track) listed() bool { return len(t.segs) > 1 || t.over() }

// lastMSN is that of the last complete segment; without one, the number before the first.
func (t *track) lastMSN() uint64 {
	if t.closed {
		return t.last.msn
	}
	if t.last.msn == 0 {
		return 0
	}
	return t.last.msn - 1
}
