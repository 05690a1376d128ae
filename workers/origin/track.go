package origin

import (
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/hls"
)

// window says how much a track lists and keeps.
type window struct {
	// segments and us: what DASH, MPEG-TS and playlists of key frames list, and
	// low-latency playlists at least, is the shortest suffix with at least this
	// many complete segments of at least this length together.
	segments int
	us       int64
	// listUs: low-latency playlists are at least this long, so that delta updates
	// have something to leave out; 0: not longer than the others.
	listUs int64
	// keepUs of media that have left the playlist can still be fetched.
	keepUs int64
	// heldUs of media before what DASH lists stay in memory; what is older is read
	// from MEDIA when it is asked for. Not used where listUs is 0.
	heldUs int64
}

// track is the state of one playlist. It is not safe for concurrent use: the
// feed's lock guards it.
type track struct {
	rendition string
	kind      schemas.Track
	w         window
	targetUs  int64

	segs   []*segment // consecutive MSNs, also those that have left the playlist
	oldest int        // index of the first one that the low-latency playlist lists
	first  int        // index of the first one that the other formats list
	begun  bool
	last   partID // the last part that was appended
	closed bool   // the last segment is complete

	pending map[partID]*piece // arrived before the parts in front of them
	waiting map[partID]string // parts that MEDIA has announced, and their chunk
	sources map[partID]uint64 // sequences on MEDIA of parts that are still to be appended
	// MEDIA has announced every part from announcedFrom to announced; its order is that of the publisher.
	announcedFrom, announced partID
	// mediaEpoch is the highest epoch that MEDIA has shown; ended the epoch whose end it has shown.
	mediaEpoch, ended uint32
	stalledSince      time.Time // pending parts cannot be appended since
	// appendedAt is when the last part was appended, endedAt when that of the segment before.
	appendedAt, endedAt time.Time

	reports     []hls.Report
	full, delta []byte // rendered, nil when out of date
	// The same as they were before the newest segment began.
	fullBefore, deltaBefore []byte
	changed                 chan struct{} // closed when a part is appended
}

func newTrack(rendition string, kind schemas.Track, w window, targetUs int64) *track {
	return &track{
		rendition: rendition, kind: kind, w: w, targetUs: targetUs,
		pending: map[partID]*piece{}, waiting: map[partID]string{}, sources: map[partID]uint64{}, changed: make(chan struct{}),
	}
}

func (t *track) append(p *piece, now time.Time) {
	t.noteAppend(p, now)
	if !t.begun || t.closed || p.h.SegmentStart {
		if t.begun && !t.closed {
			t.close()
		}
		t.segs = append(t.segs, &segment{Segment: hls.Segment{
			Epoch: p.id.epoch, MSN: p.id.msn, InitID: p.h.InitID, KID: p.h.KID, DiscontinuitySeq: p.h.DiscontinuitySeq,
			Discontinuity: p.h.Discontinuity || t.begun && len(t.segs) > 0 && p.id.epoch != t.last.epoch,
			WallUnixUs:    p.h.WallUnixUs,
		}, line: p.h.Line})
	}
	s := t.segs[len(t.segs)-1]
	s.settle(p)
	s.Parts = append(s.Parts, hls.Part{DurationUs: p.h.DurationUs, Independent: p.h.Independent, Gap: p.gap})
	s.raw, s.sums = append(s.raw, p.data), append(s.sums, new(checksum))
	s.cut += p.h.DurationUs
	if seq, ok := t.sources[p.id]; ok {
		s.source(seq)
	}
	t.begun, t.closed, t.last = true, false, p.id
	delete(t.pending, p.id)
	delete(t.waiting, p.id)
	for k := range t.pending {
		if !k.after(t.last) {
			delete(t.pending, k)
		}
	}
	for k := range t.waiting {
		if !k.after(t.last) {
			delete(t.waiting, k)
		}
	}
	for k := range t.sources {
		if !k.after(t.last) {
			delete(t.sources, k)
		}
	}
	if p.h.SegmentEnd {
		t.close()
	}
}

// close completes the last segment.
func (t *track) close() {
	if t.closed {
		return
	}
	t.closed = true
	t.segs[len(t.segs)-1].Complete = true
}

// trim moves the windows on and forgets what can no longer be fetched. Where
// they start depends only on what stands behind it, so origins that started at
// different times list the same.
func (t *track) trim() {
	complete, us, first, oldest := 0, int64(0), -1, 0
	for i := len(t.segs) - 1; i >= 0; i-- {
		if t.segs[i].Complete {
			complete++
		}
		us += t.segs[i].cut
		if first < 0 && complete >= t.w.segments && us >= t.w.us {
			first = i
		}
		if first >= 0 && us >= t.w.listUs {
			oldest = i
			break
		}
	}
	t.first, t.oldest = max(t.first, first), max(t.oldest, oldest)
	if t.w.listUs > 0 {
		t.release()
	}
	if drop := t.before(t.oldest, t.w.keepUs); drop > 0 {
		t.segs = append([]*segment(nil), t.segs[drop:]...)
		t.first, t.oldest = t.first-drop, t.oldest-drop
	}
}

// before gives the index below which segments end at least so long before the one at i begins.
func (t *track) before(i int, us int64) int {
	for i--; i >= 0; i-- {
		if us <= 0 {
			return i + 1
		}
		us -= t.segs[i].cut
	}
	return 0
}
