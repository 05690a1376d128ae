package hops

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
)

// Bounds of what is remembered of parts: longer than logs of edges take to come,
// and about 40 MB at the most. Parts that ingest has not told of (those of
// renditions and shares, whole segments, and whatever a player makes up) have
// room of their own at each hop, so they cannot push out ingest's.
const (
	knownFor   = 5 * time.Minute
	maxKnown   = 200_000
	maxUnheard = 20_000
	maxKinds   = 64 // of rows about one part: hop, CDN, failed or not
)

// PerCDN rows are wanted of a part and hop at each CDN, failed and other ones
// apart: the first ones tell what there is to tell, however many viewers ask.
const PerCDN = 3

// Known remembers when ingest had the parts that are looked at, and how often a
// part has been told of. Safe for concurrent use.
type Known struct {
	limit int

	mu      sync.Mutex
	heard   *parts
	unheard map[string]*parts // by hop
}

type known struct {
	doneUs int64 // 0: not known
	told   map[toldOf]int
}

type toldOf struct {
	hop, cdn string
	failed   bool
}

// NewKnown makes an empty Known that wants at most so many rows of one kind.
func NewKnown(limit int) *Known {
	return &Known{limit: limit, heard: newParts(maxKnown), unheard: map[string]*parts{}}
}

// Run hears what ingest tells until ctx ends.
func (k *Known) Run(ctx context.Context, nc *nats.Conn) error {
	sub, err := nc.Subscribe("hops.*.*", func(m *nats.Msg) {
		key, err := schemas.ParseHopsSubject(m.Subject)
		if err != nil {
			return
		}
		notes, err := DecodeNotes(m.Data)
		if err != nil {
			return
		}
		k.hear(key, notes, time.Now())
	})
	if err != nil {
		return fmt.Errorf("listen to hops: %w", err)
	}
	<-ctx.Done()
	return sub.Unsubscribe()
}

func (k *Known) hear(key schemas.StreamKey, notes []Note, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range notes {
		if n := &notes[i]; n.Hop == schemas.HopIngest {
			if p := k.heard.make(n.Name(key), now); p != nil {
				p.doneUs = n.AtUs
			}
		}
	}
}

// Learn notes when ingest had a part, Unix microseconds.
func (k *Known) Learn(n schemas.PartName, doneUs int64, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if p := k.heard.make(n, now); p != nil {
		p.doneUs = doneUs
	}
}

// Take says when ingest had the part (Unix microseconds, 0: not known), and whether
// one more row about it at this hop and CDN is wanted. hop is one of the constants of
// schemas and cdn a name that viewers cannot choose. That a part which ingest never
// had is not there is not wanted: whoever asked made it up.
func (k *Known) Take(n schemas.PartName, hop, cdn string, failed bool, now time.Time) (doneUs int64, wanted bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.heard.find(n)
	if p == nil {
		if failed && !k.begun(n) {
			return 0, false
		}
		if p = k.of(hop).make(n, now); p == nil {
			return 0, false
		}
	}
	what := toldOf{hop, cdn, failed}
	times, ok := p.told[what]
	if times >= k.limit || !ok && len(p.told) >= maxKinds {
		return p.doneUs, false
	}
	if p.told == nil {
		p.told = map[toldOf]int{}
	}
	p.told[what]++
	return p.doneUs, true
}

// begun says whether n is a whole segment whose first picture ingest had: nobody
// tells of segments. Renditions' segments have the numbers of the publisher's.
func (k *Known) begun(n schemas.PartName) bool {
	if n.Part >= 0 {
		return false
	}
	n.Rendition, n.Track, n.Part = schemas.SourceRendition, schemas.Video, 0
	return k.heard.find(n) != nil
}

// of gives the parts at a hop that ingest has not told of. The lock is held.
func (k *Known) of(hop string) *parts {
	p := k.unheard[hop]
	if p == nil {
		p = newParts(maxUnheard)
		k.unheard[hop] = p
	}
	return p
}

// parts are at most so many, each kept for one to two times [knownFor].
type parts struct {
	limit    int
	now, old map[schemas.PartName]*known // old is forgotten when now becomes old
	turned   time.Time
}

func newParts(limit int) *parts { return &parts{limit: limit, now: map[schemas.PartName]*known{}} }

// find gives what is remembered of a part, or nil.
func (p *parts) find(n schemas.PartName) *known {
	if x := p.now[n]; x != nil {
		return x
	}
	return p.old[n]
}

// make is find for a part that is remembered from now on; nil when there is no room.
func (p *parts) make(n schemas.PartName, now time.Time) *known {
	if x := p.find(n); x != nil {
		return x
	}
	if now.Sub(p.turned) > knownFor {
		p.old, p.now, p.turned = p.now, map[schemas.PartName]*known{}, now
	}
	if len(p.now) >= p.limit/2 {
		return nil
	}
	x := &known{}
	p.now[n] = x
	return x
}
