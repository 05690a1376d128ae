package origin

import (
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/hls"
)

// partID places a part in its track.
type partID struct {
	epoch uint32
	msn   uint64
	part  int
}

// after orders the parts of one track.
func (a partID) after(b partID) bool {
	switch {
	case a.epoch != b.epoch:
		return a.epoch > b.epoch
	case a.msn != b.msn:
		return a.msn > b.msn
	default:
		return a.part > b.part
	}
}

// piece is a part with its bytes.
type piece struct {
	id   partID
	h    schemas.Part
	data []byte
	gap  bool
}

// segment is a media segment in memory.
type segment struct {
	hls.Segment
	cut int64 // microseconds, sum of the parts
	// settled: its date has been checked against a later part.
	settled bool
	data    []byte
	raw     [][]byte
	sum     checksum
	sums    []*checksum   // of the parts
	line    *schemas.Line // where its run stands in time; nil: not known

	chunks   []uint64 // sequences on MEDIA of what its parts are cut from
	released bool     // its bytes are no longer in memory; chunks says where they are
	readers  int      // who sends it while it is made
}

// Ingest takes its estimate of the wall-clock as it comes during an epoch's first
// second, and changes it slowly from then on.
const (
	clockSettledUs = 1_100_000
	clockSlackUs   = 100_000 // reordered frames make the date of a later part uncertain by this
)

// opens reports whether it is the first segment of its epoch.
func (s *segment) opens() bool {
	return s.line != nil && s.line.ID == 0 && s.line.FirstMSN == s.MSN
}

// settle gives an epoch's first segment the date that follows from a part after
// ingest's first second. With that of its first part it would be off by the third of
// a second that a publisher's first frames are late, by another amount for each
// track, and players, which place the tracks by their dates, would look for audio
// where it is not.
func (s *segment) settle(p *piece) {
	if s.cut < clockSettledUs || s.settled || p.gap || !s.opens() {
		return
	}
	s.settled = true
	us := p.h.WallUnixUs - s.cut
	if d := us - s.WallUnixUs; d > clockSlackUs || d < -clockSlackUs {
		s.WallUnixUs = us
	}
}

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

// maxPending bounds parts that wait for an earlier one: a segment of single frames.
const maxPending = 256

func newTrack(rendition string, kind schemas.Track, w window, targetUs int64) *track {
	return &track{
		rendition: rendition, kind: kind, w: w, targetUs: targetUs,
		pending: map[partID]*piece{}, waiting: map[partID]string{}, sources: map[partID]uint64{}, changed: make(chan struct{}),
	}
}

// expect notes that MEDIA holds a chunk with this part. It reports whether the
// part is still to come.
func (t *track) expect(id partID, start bool, chunk string) bool {
	if id.epoch < t.mediaEpoch || !t.begun && !start && len(t.waiting) == 0 {
		return false
	}
	t.mediaEpoch = id.epoch
	if t.announced == (partID{}) {
		t.announcedFrom = id
	}
	if id.after(t.announced) {
		t.announced = id
	}
	if t.has(id) {
		return false
	}
	t.waiting[id] = chunk
	return true
}

// has reports whether a part is here, or too late to be of use.
func (t *track) has(id partID) bool {
	if _, ok := t.pending[id]; ok {
		return true
	}
	return t.begun && !id.after(t.last)
}

// sawEpoch notes that an epoch was opened on MEDIA: lower ones have ended.
func (t *track) sawEpoch(epoch uint32, now time.Time) {
	t.mediaEpoch = max(t.mediaEpoch, epoch)
	t.advance(now)
}

// sawEnd notes that the publisher left: nothing follows in this epoch.
func (t *track) sawEnd(epoch uint32, now time.Time) {
	was := t.over()
	t.ended = max(t.ended, epoch)
	t.advance(now)
	if !was && t.over() {
		t.announce()
	}
}

// offer takes a part that arrived, in whatever order.
func (t *track) offer(p *piece, now time.Time) {
	_, expected := t.waiting[p.id]
	delete(t.waiting, p.id)
	switch {
	case t.has(p.id):
	case p.id.epoch < t.mediaEpoch && !expected && t.begun:
		// A publisher that lost the stream and does not know it.
	case len(t.pending) >= maxPending && !t.makeRoom(p.id):
	default:
		t.pending[p.id] = p
	}
	t.advance(now)
}

// makeRoom drops the latest pending part if id comes before it. Before the
// first segment start everything goes: nothing can be shown without it.
func (t *track) makeRoom(id partID) bool {
	if !t.begun {
		clear(t.pending)
		return true
	}
	var latest partID
	for k := range t.pending {
		if k.after(latest) {
			latest = k
		}
	}
	if !latest.after(id) {
		return false
	}
	delete(t.pending, latest)
	return true
}

// next is the part that would follow the last one.
func (t *track) next() partID {
	if t.closed {
		return partID{t.last.epoch, t.last.msn + 1, 0}
	}
	return partID{t.last.epoch, t.last.msn, t.last.part + 1}
}

// How long a hole holds up what came after it.
const (
	epochPatience = time.Second     // MEDIA has not confirmed that the lower epoch is complete
	holePatience  = 3 * time.Second // a part never came and MEDIA cannot say why
)

// advance appends every pending part that is in turn.
func (t *track) advance(now time.Time) {
	appended := false
	for t.step(now) {
		appended = true
		t.stalledSince = time.Time{}
	}
	if t.ended >= t.last.epoch && t.begun && !t.closed && !t.outstanding(t.last.epoch+1) {
		t.close()
		appended = true
	}
	if len(t.pending) == 0 {
		t.stalledSince = time.Time{}
	} else if t.stalledSince.IsZero() {
		t.stalledSince = now
	}
	if appended {
		t.trim()
		t.announce()
	}
}

// announce wakes those who wait: the playlist changed.
func (t *track) announce() {
	t.full, t.delta, t.fullBefore, t.deltaBefore = nil, nil, nil, nil
	close(t.changed)
	t.changed = make(chan struct{})
}

func (t *track) step(now time.Time) bool {
	if len(t.pending) == 0 {
		return false
	}
	if t.begun {
		if p, ok := t.pending[t.next()]; ok {
			t.append(p, now)
			return true
		}
	}
	// The first segment start beyond the last part.
	var start *piece
	for _, p := range t.pending {
		if p.h.SegmentStart && (start == nil || start.id.after(p.id)) {
			start = p
		}
	}
	if start == nil {
		return false
	}
	if t.begun && t.holdBack(start, now) || !t.begun && t.outstandingBefore(start.id) && !t.stalledFor(holePatience, now) {
		return false
	}
	if t.begun {
		t.close()
		if start.id.msn != t.last.msn+1 {
			t.segs, t.first, t.oldest = nil, 0, 0 // numbers must be consecutive: start again
		}
	}
	t.append(start, now)
	return true
}

// holdBack reports whether a segment start that is not the next part has to
// wait for what is missing before it.
func (t *track) holdBack(start *piece, now time.Time) bool {
	switch {
	case t.outstandingBefore(start.id):
		return !t.stalledFor(holePatience, now)
	case start.id.epoch == t.last.epoch:
		// Ingest may send a segment's last part before it knows that it is the last
		// (the next frame was late). MEDIA tells it: nothing lies between.
		return !t.announcedBetween(start.id) && !t.stalledFor(holePatience, now)
	case t.mediaEpoch < start.id.epoch:
		return !t.stalledFor(epochPatience, now)
	default: // a new epoch, and all of the last one is here
		return false
	}
}

// announcedBetween reports whether MEDIA has announced all there is from the last part to this one.
func (t *track) announcedBetween(id partID) bool {
	return t.announced != (partID{}) && !t.announcedFrom.after(t.last) && !id.after(t.announced)
}

func (t *track) stalledFor(d time.Duration, now time.Time) bool {
	return !t.stalledSince.IsZero() && now.Sub(t.stalledSince) >= d
}

// outstanding reports whether a part of an epoch below this one is still to come.
func (t *track) outstanding(epoch uint32) bool {
	return t.outstandingBefore(partID{epoch: epoch})
}

func (t *track) outstandingBefore(id partID) bool {
	for k := range t.waiting {
		if id.after(k) {
			return true
		}
	}
	return false
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

// size is the sum of the parts' bytes.
func (s *segment) size() int { return bytesOf(s.raw) }

func bytesOf(parts [][]byte) int {
	n := 0
	for _, b := range parts {
		n += len(b)
	}
	return n
}

// whole gives a complete segment's bytes. They are put together when they are
// first asked for, which low-latency players seldom do, and kept once: the parts
// alias them from then on, which lets go of the bus's messages. A segment that has
// left memory has none.
func (s *segment) whole() []byte {
	if s.data == nil && !s.released {
		s.data = make([]byte, 0, s.size())
		raw := make([][]byte, len(s.raw)) // the old one may be in use by a reader of the parts
		for i, b := range s.raw {
			at := len(s.data)
			s.data = append(s.data, b...)
			raw[i] = s.data[at:len(s.data):len(s.data)]
		}
		s.raw = raw
	}
	return s.data
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

// aheadParts is how far beyond the newest part a request may wait.
const aheadParts = 3

func hasGap(s *segment) bool {
	for i := range s.Parts {
		if s.Parts[i].Gap {
			return true
		}
	}
	return false
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
