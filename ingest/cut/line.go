package cut

import "github.com/spillway-live/spillway/schemas"

// line keeps the run of segments that schemas.Line describes. Video, or audio
// where there is none, decides as each of its segments opens.
type line struct {
	cur       schemas.Line
	begun     bool
	index     uint64 // of the leading track's first segment of the run
	audio     uint64 // of audio's
	lastAudio uint64
	opens     [3]int64 // media times at which the last segments opened, oldest first
	n         int      // of opens in use
}

// equalUs: two segments this near in length are equal, up to a late frame.
const equalUs = 50_000

// open notes that the leading track opens its segment index at media time us,
// and that audio's next one is audioIndex.
func (l *line) open(us, offset int64, index, audioIndex uint64) {
	if l.n == len(l.opens) {
		copy(l.opens[:], l.opens[1:])
		l.n--
	}
	l.opens[l.n] = us
	l.n++
	paused := audioIndex == l.lastAudio // its numbers have fallen behind once it goes on
	l.lastAudio = audioIndex
	next := schemas.Line{ID: l.cur.ID, StartUs: us, ZeroUnixUs: offset, SegmentUs: l.cur.SegmentUs}
	behind := offset - l.cur.ZeroUnixUs
	keep := l.begun && behind <= schemas.LineLateUs && behind >= -schemas.LineEarlyUs
	if keep && l.cur.SegmentUs > 0 {
		off := us - l.cur.StartUs - int64(index-l.index)*l.cur.SegmentUs
		if keep = off <= schemas.LineSlackUs && off >= -schemas.LineSlackUs && (audioIndex-l.audio == index-l.index || paused); !keep {
			next.SegmentUs = 0
		}
	}
	if seg := l.regular(); seg > 0 && (!keep || l.cur.SegmentUs == 0) {
		keep, next.SegmentUs = false, seg
	}
	if keep {
		return
	}
	if l.begun {
		next.ID++
	}
	l.cur, l.begun, l.index, l.audio = next, true, index, audioIndex
}

// regular gives the length of the last two segments if they had the same. That
// of an epoch's first one is believed at once, so that new streams soon play
// with low latency.
func (l *line) regular() int64 {
	switch {
	case l.n < 2:
		return 0
	case l.n == 2:
		return l.opens[1] - l.opens[0]
	}
	a, b := l.opens[1]-l.opens[0], l.opens[2]-l.opens[1]
	if d := a - b; d > equalUs || d < -equalUs {
		return 0
	}
	return (a + b) / 2
}

// openSegment runs when t opens a segment at a media time.
func (c *Cutter) openSegment(t *track, at uint64) {
	leading, audio := c.video, t.segments
	if leading == nil {
		leading = c.audio
	} else if a := c.audio; a != nil {
		audio = a.segments
		// One that has just opened is this one's companion.
		if a.segOpen && a.us(a.segStart) < t.us(at)-schemas.SegmentMinUs/2 {
			audio++
		}
	}
	if t == leading {
		c.line.open(t.us(at), c.clock.offset, t.segments, audio)
	}
}

// lineOf gives the run of t's open segment; nil if it belongs to none. It is
// asked for when the segment's first part is finished: audio's may open before video's.
func (c *Cutter) lineOf(t *track) *schemas.Line {
	first := c.line.index
	if t == c.audio && c.video != nil {
		first = c.line.audio
	}
	if !c.line.begun || t.segments < first {
		return nil
	}
	l := c.line.cur
	l.FirstMSN = t.info.FirstMSN + first
	return &l
}
