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
// and about 40 MB at the most.
const (
	knownFor = 5 * time.Minute
	maxKnown = 200_000
)

// PerCDN rows are wanted of a part and hop at each CDN, failed and other ones
// apart: the first ones tell what there is to tell, however many viewers ask.
const PerCDN = 3

// Known remembers when ingest had the parts that are looked at, and how often a
// part has been told of. Safe for concurrent use.
type Known struct {
	limit int

	mu       sync.Mutex
	now, old map[schemas.PartName]*known // old is forgotten when now becomes old
	turned   time.Time
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
	return &Known{limit: limit, now: map[schemas.PartName]*known{}, old: map[schemas.PartName]*known{}}
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
			if p := k.part(n.Name(key), now); p != nil {
				p.doneUs = n.AtUs
			}
		}
	}
}

// Learn notes when ingest had a part, Unix microseconds.
func (k *Known) Learn(n schemas.PartName, doneUs int64, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if p := k.part(n, now); p != nil {
		p.doneUs = doneUs
	}
}

// part gives what is remembered of a part, made when missing; nil when there is no room. The lock is held.
func (k *Known) part(n schemas.PartName, now time.Time) *known {
	if p := k.now[n]; p != nil {
		return p
	}
	if p := k.old[n]; p != nil {
		return p
	}
	if now.Sub(k.turned) > knownFor {
		k.old, k.now, k.turned = k.now, map[schemas.PartName]*known{}, now
	}
	if len(k.now) >= maxKnown/2 {
		return nil
	}
	p := &known{}
	k.now[n] = p
	return p
}

// Take says when ingest had the part (Unix microseconds, 0: not known), and whether
// one more row about it at this hop and CDN is wanted.
func (k *Known) Take(n schemas.PartName, hop, cdn string, failed bool, now time.Time) (doneUs int64, wanted bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.part(n, now)
	if p == nil {
		return 0, false
	}
	if p.told == nil {
		p.told = map[toldOf]int{}
	}
	what := toldOf{hop, cdn, failed}
	if p.told[what] >= k.limit {
		return p.doneUs, false
	}
	p.told[what]++
	return p.doneUs, true
}
