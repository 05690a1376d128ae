package lease

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// probeEvery is how often other holders are asked whether they are there. Two times without anybody who could
// answer mean that the holder's connection is closed, which a kill does at once.
const probeEvery = 100 * time.Millisecond

// maxProbes bounds the questions of one turn; where there are more others they are asked in turn.
const maxProbes = 8

func (r *runner) aliveSubject(id string) string { return "leasealive." + r.Role + "." + id }

// answer tells others that this process is there until stop is called. It must come before the first lease: over
// the same connection the bus then knows of it first.
func (r *runner) answer() (stop func()) {
	sub, err := r.Conn.Subscribe(r.aliveSubject(r.ID), func(m *nats.Msg) { _ = m.Respond(nil) })
	if err != nil {
		r.Logger.Warn("cannot tell others that this process is there", "role", r.Role, "err", err)
		return func() {}
	}
	return func() { _ = sub.Unsubscribe() }
}

// probe asks the other holders until ctx ends, and wakes the rounds when one is gone. A holder that has never
// answered, because it ended before this process began, must also have let half a lease time go by without
// renewing; and all are judged by their leases alone for a lease time after this process's own connection came
// back: the others' may still be on the way.
func (r *runner) probe(ctx context.Context) {
	answered, silent := map[string]bool{}, map[string]int{}
	reconnects, since, next := r.Conn.Stats().Reconnects, time.Time{}, 0
	t := time.NewTicker(probeEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if n := r.Conn.Stats().Reconnects; n != reconnects || !r.Conn.IsConnected() {
			reconnects, since = n, time.Now()
		}
		others := r.others()
		for id := range silent {
			if !slices.Contains(others, id) {
				delete(answered, id)
				delete(silent, id)
				r.judge(id, false)
			}
		}
		for range min(len(others), maxProbes) {
			next++
			id := others[next%len(others)]
			_, err := r.Conn.Request(r.aliveSubject(id), nil, probeEvery)
			switch {
			case err == nil:
				answered[id], silent[id] = true, 0
			case errors.Is(err, nats.ErrNoResponders) && time.Since(since) > r.TTL:
				silent[id]++
			}
			r.judge(id, silent[id] >= 2 && (answered[id] || r.quietFor(id) > r.TTL/2))
		}
	}
}

// others are the ids of processes that hold something or are members, sorted.
func (r *runner) others() []string {
	ids := map[string]bool{}
	for k, s := range r.snapshot() {
		id := s.value
		if r.isMember(k) {
			id = strings.TrimPrefix(k, r.memberPrefix())
		}
		if id != "" && id != r.ID {
			ids[id] = true
		}
	}
	return slices.Sorted(maps.Keys(ids))
}

// quietFor is how long nothing was written by a holder, as far as this process was there to see.
func (r *runner) quietFor(id string) time.Duration {
	last := time.Time{}
	for k, s := range r.snapshot() {
		if (s.value == id || k == r.memberPrefix()+id) && s.at.After(last) {
			last = s.at
		}
	}
	return time.Since(last)
}

// judge notes whether a holder is gone; news wakes the rounds.
func (r *runner) judge(id string, gone bool) {
	r.mu.Lock()
	news := gone && !r.gone[id]
	if gone {
		r.gone[id] = true
	} else {
		delete(r.gone, id)
	}
	r.mu.Unlock()
	if news {
		r.Logger.Info("a holder is gone", "role", r.Role, "holder", id)
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// isGone tells that a holder need not be waited for.
func (r *runner) isGone(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.gone[id]
}
