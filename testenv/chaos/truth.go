package chaos

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
)

// digest is the SHA-256 of a part or segment.
type digest [sha256.Size]byte

// fragment is one part as the bus has it.
type fragment struct {
	name         string // as in URLs
	epoch        uint32
	msn          uint64
	part         uint32
	base, dur    uint64
	disc         bool
	sum          digest
	at           time.Time // when it was read from the bus
	segmentStart bool
}

// truth is what the bus acknowledged, by playlist: <stream>/<rendition>/<track>.
type truth struct {
	mu       sync.Mutex
	lists    map[string][]fragment
	segments map[string]hash.Hash // by <playlist>/<segment's name>
	bad      []string
}

func newTruth() *truth {
	return &truth{lists: map[string][]fragment{}, segments: map[string]hash.Hash{}}
}

// follow reads MEDIA from now on, until ctx ends.
func (t *truth) follow(ctx context.Context, js jetstream.JetStream) error {
	c, err := js.OrderedConsumer(ctx, schemas.StreamMedia, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverNewPolicy})
	if err != nil {
		return fmt.Errorf("read %s: %w", schemas.StreamMedia, err)
	}
	if _, err := c.Info(ctx); err != nil { // it is there now: nothing published from here on is missed
		return fmt.Errorf("read %s: %w", schemas.StreamMedia, err)
	}
	cc, err := c.Consume(t.take)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, cc.Stop)
	return nil
}

func (t *truth) take(m jetstream.Msg) {
	if m.Headers().Get(schemas.HeaderKind) != schemas.KindChunk {
		return
	}
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	c, err := schemas.DecodeChunk([]byte(m.Headers().Get(schemas.HeaderChunk)), m.Data())
	if err != nil {
		t.bad = append(t.bad, fmt.Sprintf("%s holds a chunk that cannot be read: %v", m.Subject(), err))
		return
	}
	for _, f := range c.Fragments {
		data := m.Data()[f.Offset : f.Offset+f.Size]
		list := c.Stream + "/" + c.Rendition + "/" + string(f.Track)
		t.lists[list] = append(t.lists[list], fragment{
			name:  fmt.Sprintf("%s.%d.m4s", schemas.SegmentBase(c.Epoch, f.MSN), f.Part),
			epoch: c.Epoch, msn: f.MSN, part: f.Part, base: f.BaseTime, dur: f.Duration,
			disc: f.Discontinuity, sum: sha256.Sum256(data), at: now, segmentStart: f.SegmentStart,
		})
		name := list + "/" + schemas.SegmentFileName(c.Epoch, f.MSN)
		if t.segments[name] == nil {
			t.segments[name] = sha256.New()
		}
		t.segments[name].Write(data)
	}
}

// get gives a copy of a playlist's parts.
func (t *truth) get(list string) []fragment {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]fragment(nil), t.lists[list]...)
}

func (t *truth) names() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for n := range t.lists {
		out = append(out, n)
	}
	return out
}

// segment gives the digest of a whole segment as far as it has been read.
func (t *truth) segment(name string) (d digest, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.segments[name]
	if h == nil {
		return d, false
	}
	h.Sum(d[:0])
	return d, true
}

// holes checks that a playlist's parts follow one another on the bus: within an epoch nothing is missing, doubled
// or out of order, neither number nor media time; another epoch begins a segment, with a discontinuity.
func holes(list string, f []fragment) (bad []string, epochs int) {
	add := func(format string, a ...any) { bad = append(bad, list+": "+fmt.Sprintf(format, a...)) }
	for i := range f {
		b := &f[i]
		if i == 0 {
			epochs = 1
			continue
		}
		a := &f[i-1]
		if b.epoch != a.epoch {
			epochs++
			switch {
			case b.epoch < a.epoch:
				add("epoch went back from %s to %s", a.name, b.name)
			case b.part != 0 || b.msn <= a.msn:
				add("a new epoch begins with %s after %s, not with a new segment", b.name, a.name)
			case !b.disc:
				add("a new epoch begins with %s without a discontinuity", b.name)
			}
			continue
		}
		next := b.msn == a.msn && b.part == a.part+1 || b.msn == a.msn+1 && b.part == 0
		if !next {
			add("after %s comes %s", a.name, b.name)
		} else if a.base+a.dur != b.base {
			add("%s ends at %d, %s begins at %d", a.name, a.base+a.dur, b.name, b.base)
		}
	}
	return bad, epochs
}
