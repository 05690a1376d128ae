package relay

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/busclock"
)

const (
	// pingEvery is how often a neighbour is asked whether it is there; silentFor is
	// how long it may be silent before its ways are none any more.
	pingEvery = time.Second
	silentFor = 4 * time.Second
	// maxOffers bounds the streams a neighbour may offer.
	maxOffers = 100_000
)

// link is to one neighbouring region: whether it is there, how far it is, and
// what its registry says.
type link struct {
	n      *node
	region string
	js     jetstream.JetStream // of its domain

	heard    chan struct{}   // closed when it has answered once
	way      busclock.Offset // its clock against ours, and the round trip
	mu       sync.Mutex
	answered time.Time // when it last answered
	was      bool      // it had answered before
	offers   map[schemas.StreamKey]heardOffer
}

// heardOffer is an entry of the neighbour's registry and when it came.
type heardOffer struct {
	loc *schemas.Location
	at  time.Time
}

func (l *link) run(ctx context.Context) {
	done := make(chan struct{})
	go func() { defer close(done); l.ping(ctx) }()
	var next map[schemas.StreamKey]heardOffer // what is there, until it is complete
	followBucket(ctx, l.js, l.n.Region, schemas.BucketLocations,
		func() { next = map[schemas.StreamKey]heardOffer{} },
		func() error {
			l.mu.Lock()
			l.offers, next = next, nil
			l.mu.Unlock()
			l.n.wake()
			return nil
		},
		func(key string, value []byte, put bool) error {
			l.take(next, key, value, put)
			if next == nil {
				l.n.wake()
			}
			return nil
		})
	<-done
}

// take notes an entry of the neighbour's registry, in next if that is being read.
func (l *link) take(next map[schemas.StreamKey]heardOffer, key string, value []byte, put bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.offers
	if next != nil {
		m = next
	}
	k, err := schemas.ParseKVKey(key)
	if err != nil {
		return
	}
	if !put {
		delete(m, k)
		return
	}
	loc, err := schemas.ParseLocation(key, value)
	if err != nil {
		l.n.Logger.Warn("a neighbour's entry is not understood", "neighbour", l.region, "key", key, "err", err)
		return
	}
	if _, there := m[k]; there || len(m) < maxOffers {
		m[k] = heardOffer{loc, time.Now()}
	}
}

// offered gives what the neighbour offers now, by stream.
func (l *link) offered(now time.Time, add func(k schemas.StreamKey, o offer)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.answered) >= silentFor {
		return
	}
	rtt := l.way.RTT()
	for k, o := range l.offers {
		if now.Sub(o.at) < schemas.LocationKept {
			add(k, offer{l.region, rtt, o.loc})
		} else {
			delete(l.offers, k)
		}
	}
}

// clock is how much the neighbour's clock is ahead of ours.
func (l *link) clock() time.Duration {
	ahead, _ := l.way.Ahead()
	return ahead
}

// awaitClock waits until the neighbour has answered once, so that its clock is known: ages are reckoned by it.
func (l *link) awaitClock(ctx context.Context) {
	select {
	case <-l.heard:
	case <-ctx.Done():
	}
}

func (l *link) ping(ctx context.Context) {
	t := time.NewTicker(pingEvery)
	defer t.Stop()
	up := l.n.m.up.WithLabelValues(l.region)
	for {
		l.once(ctx)
		l.mu.Lock()
		there := time.Since(l.answered) < silentFor
		l.mu.Unlock()
		if there {
			up.Set(1)
		} else {
			up.Set(0)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (l *link) once(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, remoteTimeout)
	defer cancel()
	start := time.Now()
	m, err := l.n.Conn.RequestWithContext(ctx, schemas.RegionPing(l.region, l.n.Region), nil)
	if err != nil {
		return
	}
	now := time.Now()
	took := now.Sub(start)
	l.mu.Lock()
	defer l.mu.Unlock()
	back := now.Sub(l.answered) >= silentFor
	l.answered = now
	if back {
		l.way.Again()
	}
	theirs, err := time.Parse(time.RFC3339Nano, string(m.Data))
	if err != nil { // it does not say
		theirs = start.Add(took / 2)
	}
	l.way.Heard(start, took, theirs)
	l.n.m.rtt.WithLabelValues(l.region).Set(l.way.RTT().Seconds())
	if back {
		if l.was {
			l.n.m.reconnects.WithLabelValues(l.region).Inc()
		}
		l.n.Logger.Info("neighbouring region answers", "neighbour", l.region, "rtt", took)
		l.n.wake()
	}
	if !l.was {
		close(l.heard)
	}
	l.was = true
}
