package origin

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spillway-live/spillway/workers/archive"
	"github.com/spillway-live/spillway/workers/hls"
)

// shelf is what the object store holds of one track, as far as this origin has
// listed it. The list of a folder is the index: names say everything.
type shelf struct {
	d      *dvr
	track  archive.Track
	window atomic.Int64 // nanoseconds
	used   atomic.Int64 // Unix nanoseconds

	mu      sync.Mutex
	segs    []archive.Segment // in the order in which they were received
	rev     uint64            // changes with segs and seen
	listed  time.Time         // when the last list that succeeded was asked for; zero: never
	tried   time.Time
	listing chan struct{}        // closed when the list under way is there
	seen    map[uint64]memorised // by MSN
	first   uint64               // the first number listed; it only grows

	made        madeOf
	full, delta []byte
	length      time.Duration // of all that is listed
}

// memorised is a segment that was complete in memory. Until lists can have it,
// it counts as recorded.
type memorised struct {
	hls.DVRSegment
	at time.Time
}

// madeOf says what a rendered playlist was made of.
type madeOf struct {
	rev    uint64
	window int64
	epoch  uint32
	msn    uint64
	n      int
}

const (
	listEvery = 4 * time.Second
	// A list is asked for again at once, but not more often, for a segment that was not in the last.
	listAtMost = time.Second
	// listPatience is how long the first request waits for a list.
	listPatience = 3 * time.Second
	listTimeout  = 15 * time.Second
	// relist is how much of ingest's clock is listed again each time: recorders
	// that were held up write late.
	relist = 3 * time.Minute
	// memoryHolds is how long a segment that was in memory may be missing from lists.
	memoryHolds = 90 * time.Second
	// maxHole is how many missing segments are listed as gaps; behind a larger
	// hole the playlist begins anew.
	maxHole = 4096
)

// refresh sees to a list that is not old. It waits only for the first.
func (s *shelf) refresh(ctx context.Context) {
	s.mu.Lock()
	first := s.listed.IsZero()
	wait := s.list(listEvery)
	s.mu.Unlock()
	if first && wait != nil {
		s.await(ctx, wait)
	}
}

func (s *shelf) await(ctx context.Context, wait <-chan struct{}) {
	t := time.NewTimer(listPatience)
	defer t.Stop()
	select {
	case <-wait:
	case <-t.C:
	case <-ctx.Done():
	}
}

// list asks for a list unless one was asked for less than age ago. It gives a
// channel while one is under way. The lock is held.
func (s *shelf) list(age time.Duration) <-chan struct{} {
	if s.listing != nil {
		return s.listing
	}
	if time.Since(s.tried) < age {
		return nil
	}
	s.tried = time.Now()
	done := make(chan struct{})
	s.listing = done
	s.d.o.fetches.Go(func() {
		defer close(done)
		s.load()
	})
	return done
}

// load lists what is new and takes it in.
func (s *shelf) load() {
	ctx, cancel := context.WithTimeout(s.d.o.work, listTimeout)
	defer cancel()
	asked := time.Now()
	s.mu.Lock()
	since := asked.Add(-time.Duration(s.window.Load()))
	if n := len(s.segs); n > 0 && !s.listed.IsZero() {
		since = time.UnixMicro(s.segs[n-1].ReceivedUnixUs).Add(-relist)
	}
	s.mu.Unlock()
	prefix := s.track.Prefix()
	after := prefix + archive.Block(since.UnixMicro())
	var found []archive.Segment
	for {
		l, err := s.d.o.Store.List(ctx, prefix, after, 1000)
		if err != nil {
			s.failed(err)
			return
		}
		for i := range l {
			if seg, ok := s.track.Parse(l[i].Key); ok {
				found = append(found, seg)
			}
		}
		if len(l) < 1000 {
			break
		}
		after = l[len(l)-1].Key
	}
	s.take(found, since, asked)
}

func (s *shelf) failed(err error) {
	s.mu.Lock()
	s.listing = nil
	s.mu.Unlock()
	o := s.d.o
	if o.work.Err() != nil {
		return
	}
	o.m.storeFails.Inc()
	if !s.d.away.Swap(true) {
		o.m.storeAway.Set(1)
		o.Logger.Error("the object store cannot be listed: live goes on, seeking back is limited to what is known", "err", err)
	}
}

// take puts a list in place of what was known of that time.
func (s *shelf) take(found []archive.Segment, since, asked time.Time) {
	if s.d.away.Swap(false) {
		s.d.o.m.storeAway.Set(0)
		s.d.o.Logger.Info("the object store can be listed again")
	}
	slices.SortStableFunc(found, func(a, b archive.Segment) int { return int(a.ReceivedUnixUs - b.ReceivedUnixUs) })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listing, s.listed = nil, asked
	// The list began with since's block.
	from := since.Truncate(archive.BlockDuration).UnixMicro()
	keep := 0
	for keep < len(s.segs) && s.segs[keep].ReceivedUnixUs < from {
		keep++
	}
	old := asked.Add(-time.Duration(s.window.Load()) - 2*archive.BlockDuration).UnixMicro()
	drop := 0
	for drop < keep && s.segs[drop].ReceivedUnixUs < old {
		drop++
	}
	changed := drop > 0 || !slices.Equal(s.segs[keep:], found)
	if changed {
		s.segs = append(slices.Clone(s.segs[drop:keep]), found...)
	}
	have := make(map[uint64]bool, len(found))
	for i := range found {
		have[found[i].MSN] = true
	}
	for msn, m := range s.seen {
		if have[msn] || asked.Sub(m.at) > memoryHolds {
			delete(s.seen, msn)
			changed = true
		}
	}
	if changed {
		s.rev++
	}
}

// find gives a recorded segment. One that is not known is looked for.
func (s *shelf) find(ctx context.Context, id partID) (archive.Segment, bool) {
	for attempt := range 2 {
		s.mu.Lock()
		for i := len(s.segs) - 1; i >= 0; i-- {
			if seg := s.segs[i]; seg.MSN == id.msn && seg.Epoch == id.epoch {
				s.mu.Unlock()
				return seg, true
			}
		}
		wait := s.list(listAtMost)
		s.mu.Unlock()
		if attempt > 0 || wait == nil {
			break
		}
		s.await(ctx, wait)
	}
	return archive.Segment{}, false
}

// initKey gives the key of an init segment that a recorded segment needs.
func (s *shelf) initKey(ctx context.Context, id string) (string, bool) {
	s.refresh(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.segs) - 1; i >= 0; i-- {
		if s.segs[i].InitID == id {
			return s.track.Init(&s.segs[i]), true
		}
	}
	return "", false
}

// playlist renders what is recorded and then live, which are the segments in
// memory; nil when there is nothing. The bytes must not be changed.
func (s *shelf) playlist(live []hls.DVRSegment, delta bool) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.render(live) {
		return nil
	}
	if delta {
		return s.delta
	}
	return s.full
}

// reach is how far back the playlist reaches.
func (s *shelf) reach(live []hls.DVRSegment) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.render(live) {
		return 0
	}
	return s.length
}

// render makes both forms of the playlist anew where something has changed. It
// is false when there is nothing to list. The lock is held.
func (s *shelf) render(live []hls.DVRSegment) bool {
	made := madeOf{rev: s.rev, window: s.window.Load(), n: len(live)}
	if n := len(live); n > 0 {
		made.epoch, made.msn = live[n-1].Epoch, live[n-1].MSN
	}
	if s.full != nil && made == s.made {
		return true
	}
	list := s.arrange(live)
	if len(list) == 0 {
		return false
	}
	s.first = max(s.first, list[0].MSN)
	d := hls.DVR{Segments: list}
	s.full, s.delta, s.made, s.length = d.Append(nil), d.AppendDelta(nil), made, 0
	for i := range list {
		s.length += time.Duration(list[i].DurationUs) * time.Microsecond
	}
	s.memorise(live)
	return true
}

// memorise keeps what is in memory now: it may have left memory before a list
// shows it. The lock is held.
func (s *shelf) memorise(live []hls.DVRSegment) {
	if s.seen == nil {
		s.seen = map[uint64]memorised{}
	}
	now := time.Now()
	for msn, m := range s.seen { // while the store is away nothing else takes them out
		if now.Sub(m.at) > time.Duration(s.window.Load())+memoryHolds {
			delete(s.seen, msn)
		}
	}
	for _, l := range live {
		if _, ok := s.seen[l.MSN]; !ok && !l.Gap {
			s.seen[l.MSN] = memorised{l, now}
		}
	}
}

// arrange gives the segments of the window, with consecutive numbers: those
// that are missing are gaps. The lock is held.
func (s *shelf) arrange(live []hls.DVRSegment) []hls.DVRSegment {
	var out []hls.DVRSegment
	add := func(seg hls.DVRSegment) {
		n := len(out)
		if n > 0 {
			last := &out[n-1]
			switch {
			case seg.MSN <= last.MSN || seg.MSN-last.MSN-1 > maxHole:
				out = out[:0] // the bus was set up anew, or a hole that nobody waits through
			case seg.MSN > last.MSN+1:
				out = append(out, gaps(*last, seg)...)
			}
		}
		if n := len(out); n > 0 && out[n-1].Epoch != seg.Epoch {
			seg.Discontinuity = true
		}
		out = append(out, seg)
	}
	for _, seg := range s.known(live) {
		add(seg)
	}
	for _, seg := range live {
		add(seg)
	}
	return s.cut(out)
}

// known gives what is recorded, or was in memory a moment ago, before live.
func (s *shelf) known(live []hls.DVRSegment) []hls.DVRSegment {
	var out []hls.DVRSegment
	before := func(msn uint64) bool { return len(live) == 0 || msn < live[0].MSN }
	listed := make(map[uint64]bool, len(s.segs))
	for i := range s.segs {
		a := &s.segs[i]
		listed[a.MSN] = true
		if before(a.MSN) {
			out = append(out, hls.DVRSegment{
				Epoch: a.Epoch, MSN: a.MSN, InitID: a.InitID, KID: a.KID, DiscontinuitySeq: a.DiscontinuitySeq, Discontinuity: a.Discontinuity,
				WallUnixUs: a.WallUnixUs, DurationUs: a.DurationUs,
			})
		}
	}
	extra := false
	for msn, m := range s.seen {
		if !listed[msn] && before(msn) {
			out, extra = append(out, m.DVRSegment), true
		}
	}
	if extra { // rare: lists keep up with memory nearly always
		slices.SortStableFunc(out, func(a, b hls.DVRSegment) int {
			if a.Epoch != b.Epoch {
				return int(a.Epoch) - int(b.Epoch)
			}
			return int(a.MSN) - int(b.MSN)
		})
	}
	return out
}

// gaps fills what is missing between two segments.
func gaps(from, to hls.DVRSegment) []hls.DVRSegment {
	n := int64(to.MSN - from.MSN - 1)
	const longest = 4_000_000
	at := from.WallUnixUs + from.DurationUs
	us := min(max((to.WallUnixUs-at)/n, 1_000_000), longest)
	out := make([]hls.DVRSegment, n)
	for i := range out {
		out[i] = hls.DVRSegment{
			Epoch: from.Epoch, MSN: from.MSN + uint64(i) + 1, InitID: from.InitID, KID: from.KID, DiscontinuitySeq: from.DiscontinuitySeq,
			WallUnixUs: at + int64(i)*us, DurationUs: us, Gap: true,
		}
	}
	return out
}

// cut leaves the window: the shortest suffix that is as long. Gaps at its
// beginning go.
func (s *shelf) cut(list []hls.DVRSegment) []hls.DVRSegment {
	window := time.Duration(s.window.Load()).Microseconds()
	from := 0
	var us int64
	for i := len(list) - 1; i >= 0; i-- {
		if us >= window || list[i].MSN < s.first && list[len(list)-1].MSN >= s.first {
			from = i + 1
			break
		}
		us += list[i].DurationUs
	}
	for from < len(list)-1 && list[from].Gap {
		from++
	}
	return list[from:]
}
