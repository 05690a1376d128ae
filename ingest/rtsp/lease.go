package rtsp

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
)

// seen is what a puller that waits for a lease knows of it.
type seen struct {
	rev   uint64
	since time.Time // when rev was first seen, by our clock
	asked time.Time
}

// renewEvery is how often a lease is renewed; claimEvery how often one that another has is looked at.
const (
	renewEvery = time.Second
	claimEvery = 500 * time.Millisecond
)

// claim takes the lease of a camera when nobody has it, or its holder has said
// nothing for schemas.PullHoldsFor. Clocks are not compared: it is the change that counts.
func (p *Puller) claim(ctx context.Context, k schemas.StreamKey, now time.Time) (rev uint64, ok bool) {
	s := p.leases[k]
	if s == nil {
		s = &seen{}
		p.leases[k] = s
	}
	if now.Sub(s.asked) < claimEvery {
		return 0, false
	}
	s.asked = now
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	mine, err := json.Marshal(schemas.PullState{App: k.App, Stream: k.Stream, Holder: p.id, UpdatedUnixUs: now.UnixMicro()})
	if err != nil {
		return 0, false
	}
	e, err := p.kv.Get(ctx, k.KVKey())
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		rev, err = p.kv.Create(ctx, k.KVKey(), mine)
		return rev, err == nil
	}
	if err != nil {
		return 0, false // the bus is away; it is asked again
	}
	if e.Revision() != s.rev {
		s.rev, s.since = e.Revision(), now
	}
	st, err := schemas.ParsePullState(k.KVKey(), e.Value())
	if err == nil && st.Holder != "" && now.Sub(s.since) < schemas.PullHoldsFor {
		return 0, false
	}
	rev, err = p.kv.Update(ctx, k.KVKey(), mine, e.Revision())
	if err == nil && st != nil && st.Holder != "" {
		p.m.takeovers.Inc()
		p.s.Logger.Warn("puller of a camera is gone: taken over", "stream", k.String())
	}
	return rev, err == nil
}

// lease is a camera's lease that this process has, and what is told with it.
type lease struct {
	kv   jetstream.KeyValue
	id   string
	k    schemas.StreamKey
	kick chan struct{}

	mu      sync.Mutex
	state   schemas.PullState
	rev     uint64
	renewed time.Time // before the last renewal that worked
}

// tell changes what is told and has it written at once.
func (l *lease) tell(f func(*schemas.PullState)) {
	l.mu.Lock()
	before := l.state
	f(&l.state)
	changed := l.state != before
	l.mu.Unlock()
	if changed {
		select {
		case l.kick <- struct{}{}:
		default:
		}
	}
}

// keep renews until ctx ends, and gives errLost when the lease is another's or may be.
func (l *lease) keep(ctx context.Context) error {
	t := time.NewTicker(renewEvery)
	defer t.Stop()
	for {
		// A write that has begun is waited for: one that is given up may be stored all
		// the same, and the lease could not be given back.
		if err := l.write(context.WithoutCancel(ctx), l.id); errors.Is(err, jetstream.ErrKeyExists) {
			return errLost
		} else if err != nil && time.Since(l.renewed) >= schemas.PullHoldsFor-renewEvery {
			return errLost // the bus is away: another may think that we are gone
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		case <-l.kick:
		}
	}
}

func (l *lease) write(ctx context.Context, holder string) error {
	ctx, cancel := context.WithTimeout(ctx, renewEvery)
	defer cancel()
	l.mu.Lock()
	l.state.App, l.state.Stream, l.state.Holder, l.state.UpdatedUnixUs = l.k.App, l.k.Stream, holder, time.Now().UnixMicro()
	b, err := json.Marshal(&l.state)
	l.mu.Unlock()
	if err != nil {
		return err
	}
	begun := time.Now()
	rev, err := l.kv.Update(ctx, l.k.KVKey(), b, l.rev)
	if err == nil {
		l.rev, l.renewed = rev, begun
	}
	return err
}

// giveBack lets the next puller take the camera at once.
func (l *lease) giveBack() {
	_ = l.write(context.Background(), "") // if it fails it runs out by itself
}
