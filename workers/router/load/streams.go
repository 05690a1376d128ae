package load

import (
	"strings"
	"sync"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/health"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// maxStreams bounds the streams whose viewers are counted by CDN. Those beyond are not limited.
const maxStreams = 10_000

// fewOfStream is from how many viewers on a CDN on a stream is forecast there: of
// fewer a trend says nothing, and most streams have fewer.
const fewOfStream = 10

// streams are the viewers of each stream by CDN, counted only while some CDN
// limits them (schemas.CDN.StreamViewers).
type streams struct {
	mu  sync.RWMutex
	by  map[schemas.StreamKey]streamNo
	all []streamLoad // by number, from base+1 on
	// free are numbers that no session has any more. base rises when all is forgotten:
	// numbers that sessions have from before then are those of no stream.
	free []streamNo
	base streamNo
	full bool // maxStreams was reached, and said
}

// streamNo stands for a stream; 0: none.
type streamNo uint32

// streamLoad is who watches a stream, and where.
type streamLoad struct {
	key      schemas.StreamKey
	sessions int // that have its number
	on       map[name]*streamOn
}

// streamOn are a stream's viewers on a CDN.
type streamOn struct {
	viewers int
	trend   health.Trend
}

// get gives the stream of a number; nil: there is none. x.mu is held.
func (x *streams) get(no streamNo) *streamLoad {
	if no <= x.base || int(no-x.base) > len(x.all) {
		return nil
	}
	return &x.all[no-x.base-1]
}

// is says whether a number is that of a stream, of k if k is not empty.
func (x *streams) is(no streamNo, k schemas.StreamKey) bool {
	if no == 0 {
		return false
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	s := x.get(no)
	return s != nil && (s.key == k || k == schemas.StreamKey{})
}

// join takes a viewer on a CDN from the stream whose number it has, if any, to
// another, and gives that one's; 0: there are too many. first: that is to be said.
func (x *streams) join(was streamNo, k schemas.StreamKey, cdn name) (no streamNo, first bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.leave(was, cdn)
	no, known := x.by[k]
	if !known {
		if no = x.make(k); no == 0 {
			first, x.full = !x.full, true
			return 0, first
		}
	}
	s := x.get(no)
	s.sessions++
	s.change(cdn, 1)
	return no, false
}

// make gives a stream its number; 0: there are too many. x.mu is held.
func (x *streams) make(k schemas.StreamKey) streamNo {
	if len(x.by) >= maxStreams {
		return 0
	}
	if x.by == nil {
		x.by = map[schemas.StreamKey]streamNo{}
	}
	k = schemas.StreamKey{App: strings.Clone(k.App), Stream: strings.Clone(k.Stream)} // not the message that they are part of
	var no streamNo
	if n := len(x.free); n > 0 {
		no, x.free = x.free[n-1], x.free[:n-1]
	} else {
		x.all = append(x.all, streamLoad{})
		no = x.base + streamNo(len(x.all))
	}
	*x.get(no) = streamLoad{key: k, on: map[name]*streamOn{}}
	x.by[k] = no
	return no
}

// leave takes a viewer on a CDN from its stream, whose number is free when it was the last. x.mu is held.
func (x *streams) leave(no streamNo, cdn name) {
	s := x.get(no)
	if s == nil {
		return
	}
	s.change(cdn, -1)
	if s.sessions--; s.sessions == 0 {
		delete(x.by, s.key)
		*s = streamLoad{}
		x.free = append(x.free, no)
	}
}

// change counts viewers of a stream that come to a CDN or leave it.
func (s *streamLoad) change(cdn name, by int) {
	if cdn == nowhere {
		return
	}
	on := s.on[cdn]
	if on == nil {
		on = &streamOn{}
		s.on[cdn] = on
	}
	if on.viewers += by; on.viewers == 0 {
		delete(s.on, cdn)
	}
}

// moved takes a viewer of a stream from a CDN to another.
func (x *streams) moved(no streamNo, from, to name) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if s := x.get(no); s != nil {
		s.change(from, -1)
		s.change(to, 1)
	}
}

// forget notes that a viewer is gone.
func (x *streams) forget(no streamNo, cdn name) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.leave(no, cdn)
}

// tick lets trends see the time pass or, where no CDN limits streams any more, forgets all.
func (x *streams) tick(limited bool, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !limited {
		if len(x.all) > 0 {
			x.base += streamNo(len(x.all))
			x.by, x.all, x.free = nil, nil, nil
		}
		x.full = false
		return
	}
	x.full = x.full && len(x.by) >= maxStreams
	for i := range x.all {
		for _, on := range x.all[i].on {
			if on.viewers >= fewOfStream {
				on.trend.Add(float64(on.viewers), now)
			} else {
				on.trend = health.Trend{}
			}
		}
	}
}

// limitsStreams says whether a CDN limits the viewers of a stream. While the registry
// is not read yet, one may: a router that starts knows of them all when it answers.
func (l *Table) limitsStreams(cdns []schemas.CDN) bool {
	return len(cdns) == 0 || l.listing(cdns).limitsStreams
}

// CountsStreams says whether it matters which streams sessions are of.
func (l *Table) CountsStreams() bool { return l.limitsStreams(l.CDNs()) }

// enter notes which stream a session is of, while that matters. Its shard is locked.
func (l *Table) enter(s *session, k schemas.StreamKey) {
	if k == (schemas.StreamKey{}) || !l.CountsStreams() || l.streams.is(s.stream, k) {
		return
	}
	no, first := l.streams.join(s.stream, k, s.cdn)
	if s.stream = no; first {
		l.logger.Error("router knows too many streams: further ones are not held to the CDNs' limits of viewers of one stream", "streams", maxStreams)
	}
}

// OfStream adds to the facts of CDNs, as [Table.Facts] gives them for a place in a
// region, what is known of a stream there: its viewers on those CDNs that limit them,
// and how many of these must leave.
func (l *Table) OfStream(facts []policy.Facts, cdns []schemas.CDN, k schemas.StreamKey, region string) {
	if len(cdns) == 0 || !l.limitsStreams(cdns) {
		return
	}
	x := &l.streams
	x.mu.RLock()
	defer x.mu.RUnlock()
	no, known := x.by[k]
	if !known {
		return
	}
	s := x.get(no)
	for i := range cdns {
		c, f := &cdns[i], &facts[i]
		if c.StreamViewers <= 0 {
			continue
		}
		on := s.on[l.names.of(c.Name)]
		if on == nil {
			continue
		}
		f.StreamViewers, f.StreamGrowth, f.StreamSoon = on.viewers, on.trend.Growth(horizon), on.trend.Growth(soon)
		f.Shed = shed(c, f, region)
	}
}
