// Package lease shares a set of partitions among the processes of a role
// through a JetStream key-value bucket. The set is fixed, or changes while the
// processes run (streams that are worked on).
//
// It promises: every partition has a holder within about two lease times as
// long as one process lives that has room, holders are balanced by their
// capacity to within one partition, and a clean stop hands over at once. A holder is judged dead by whoever watches
// it, on the watcher's own clock, so clocks need not agree. It does not promise
// that two holders never overlap: whoever writes on behalf of a partition must
// fence its writes (expected sequence, compare-and-set).
package lease

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Pool is one process's share in a role.
type Pool struct {
	KV    jetstream.KeyValue
	Role  string   // names the keys: lease.<role>.<partition>
	Names []string // the partitions; the same in every process of the role
	// NamesNow, if set, gives the partitions instead of Names at every round, in
	// any order. Processes may differ for a moment. A name may hold dots but is not "member".
	NamesNow func() []string
	// Capacity is this process's weight when partitions are shared out; default 1.
	Capacity int
	// Max bounds the partitions held at once; 0: not bounded.
	Max int
	// Fits, if set, is asked before a partition is taken beside those held; false leaves it to others.
	Fits func(ctx context.Context, name string, held []string) bool
	// Work runs while the partition is held. Its context ends when the lease is
	// lost or the pool stops; an error makes it start anew after a pause, here or elsewhere.
	Work func(ctx context.Context, name string) error
	TTL  time.Duration // a holder silent for this long is dead; defaults to 3 s
	ID   string        // of this process; defaults to a random one
	// Conn, if set, lets holders notice within about 200 ms that another's connection is closed, as a kill does,
	// and take over without waiting for its lease to run out: half a lease time after their start where they begin
	// after the kill. It must be the bucket's own connection, and set in every process of the role.
	Conn   *nats.Conn
	Logger *slog.Logger // nil is silent
}

type seen struct {
	value string
	rev   uint64
	at    time.Time // when this process learned of it
}

type held struct {
	rev     uint64
	renewed time.Time
	cancel  context.CancelFunc
	done    chan struct{} // closed when Work has returned
	err     error         // of Work, valid once done is closed
	release bool          // given up for balance or shutdown
	gone    bool          // the partition is no more
}

type runner struct {
	Pool
	mu    sync.Mutex // guards known and gone
	known map[string]seen
	gone  map[string]bool // ids of holders that are not there any more
	wake  chan struct{}   // a round is due at once
	mine  map[string]*held
	pause map[string]time.Time // do not take before
}

// Run takes part until ctx ends, then hands every partition over. It returns
// nil after a clean stop; errors are those of the bucket at the start.
func (p Pool) Run(ctx context.Context) error {
	p.TTL = cmp.Or(p.TTL, 3*time.Second)
	p.Capacity = max(1, p.Capacity)
	if p.Logger == nil {
		p.Logger = slog.New(slog.DiscardHandler)
	}
	if p.ID == "" {
		var b [8]byte
		if _, err := rand.Read(b[:]); err != nil {
			return fmt.Errorf("draw an id for %s: %w", p.Role, err)
		}
		p.ID = hex.EncodeToString(b[:])
	}
	r := &runner{Pool: p, known: map[string]seen{}, gone: map[string]bool{}, wake: make(chan struct{}, 1), mine: map[string]*held{}, pause: map[string]time.Time{}}
	w, err := p.KV.Watch(ctx, "lease."+p.Role+".>")
	if err != nil {
		if ctx.Err() != nil {
			return nil // asked to stop while starting
		}
		return fmt.Errorf("watch leases of %s: %w", p.Role, err)
	}
	defer func() { _ = w.Stop() }()
	ready := make(chan struct{})
	go r.learn(w, ready)
	select {
	case <-ready:
	case <-ctx.Done():
		return nil
	}
	if p.Conn != nil {
		defer r.answer()()
		pctx, stop := context.WithCancel(ctx)
		probing := make(chan struct{})
		go func() { defer close(probing); r.probe(pctx) }()
		defer func() { stop(); <-probing }()
	}
	t := time.NewTicker(p.TTL / 4)
	defer t.Stop()
	for {
		r.round(ctx)
		select {
		case <-r.wake:
		case <-t.C:
		case <-ctx.Done():
			r.leave()
			return nil
		}
	}
}

func (r *runner) key(name string) string { return "lease." + r.Role + "." + name }
func (r *runner) memberKey() string      { return r.memberPrefix() + r.ID }
func (r *runner) memberPrefix() string   { return "lease." + r.Role + ".member." }
func (r *runner) isMember(k string) bool { return strings.HasPrefix(k, r.memberPrefix()) }

func (r *runner) learn(w jetstream.KeyWatcher, ready chan struct{}) {
	for e := range w.Updates() {
		if e == nil { // everything that was there at the start has been told
			close(ready)
			continue
		}
		r.mu.Lock()
		if e.Operation() == jetstream.KeyValuePut {
			r.known[e.Key()] = seen{string(e.Value()), e.Revision(), time.Now()}
		} else {
			delete(r.known, e.Key())
		}
		r.mu.Unlock()
	}
}

func (r *runner) snapshot() map[string]seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[string]seen, len(r.known))
	for k, v := range r.known {
		out[k] = v
	}
	return out
}

// round renews what is held, gives up what is too much and takes what is free.
func (r *runner) round(ctx context.Context) {
	opCtx, cancel := context.WithTimeout(ctx, r.TTL/2)
	defer cancel()
	if _, err := r.KV.PutString(opCtx, r.memberKey(), strconv.Itoa(r.Capacity)); err != nil && ctx.Err() == nil {
		r.Logger.Warn("cannot announce membership", "role", r.Role, "err", err)
	}
	r.renew(opCtx, ctx)
	names := r.Names
	if r.NamesNow != nil {
		names = slices.Sorted(slices.Values(r.NamesNow()))
	}
	known, now := r.snapshot(), time.Now()
	all := r.Capacity // this one's, whether its own announcement has come back or not
	for k, s := range known {
		if r.isMember(k) && k != r.memberKey() {
			if id := strings.TrimPrefix(k, r.memberPrefix()); now.Sub(s.at) < r.TTL && !r.isGone(id) {
				all += capacityOf(s.value)
			} else if now.Sub(s.at) > 20*r.TTL {
				_ = r.KV.Delete(opCtx, k, jetstream.LastRevision(s.rev))
			}
		}
	}
	fair := (len(names)*r.Capacity + all - 1) / all
	if r.Max > 0 {
		fair = min(fair, r.Max)
	}
	r.giveUp(opCtx, names, fair)
	for _, name := range names {
		if len(r.mine) >= fair {
			return
		}
		if r.mine[name] != nil || now.Before(r.pause[name]) {
			continue
		}
		s, exists := known[r.key(name)]
		if exists && s.value != "" && now.Sub(s.at) < r.TTL && !r.isGone(s.value) {
			continue
		}
		if r.Fits != nil && !r.Fits(opCtx, name, slices.Collect(maps.Keys(r.mine))) {
			continue
		}
		rev, err := r.KV.Update(opCtx, r.key(name), []byte(r.ID), s.rev)
		if !exists && err != nil {
			rev, err = r.KV.Create(opCtx, r.key(name), []byte(r.ID))
		}
		if err != nil {
			continue // another was faster, or the bucket is away: the next round sees
		}
		r.start(ctx, name, rev, exists && s.value != "")
	}
}

func (r *runner) start(ctx context.Context, name string, rev uint64, takeover bool) {
	wctx, cancel := context.WithCancel(ctx)
	h := &held{rev: rev, renewed: time.Now(), cancel: cancel, done: make(chan struct{})}
	r.mine[name] = h
	r.Logger.Info("partition taken", "role", r.Role, "partition", name, "from_dead_holder", takeover)
	go func() {
		defer close(h.done)
		h.err = r.Work(wctx, name)
	}()
}

// patience is how many lease times a holder goes on while the bus does not answer. Nobody can take its partitions
// meanwhile without the bus, and doing all the work again because a busy machine answered late makes it busier.
const patience = 4

// renew prolongs each lease and notices those that are lost or whose work has ended.
func (r *runner) renew(opCtx, ctx context.Context) {
	type answer struct {
		rev uint64
		err error
	}
	var mu sync.Mutex
	answers := map[string]answer{}
	var wg sync.WaitGroup
	for name, h := range r.mine {
		select {
		case <-h.done:
			r.drop(opCtx, name, h)
			continue
		default:
		}
		wg.Go(func() { // all at once: a slow answer must not keep the others waiting
			rev, err := r.KV.Update(opCtx, r.key(name), []byte(r.ID), h.rev)
			if errors.Is(err, jetstream.ErrKeyExists) {
				rev, err = r.own(opCtx, name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			answers[name] = answer{rev, err}
		})
	}
	wg.Wait()
	for name, a := range answers {
		h := r.mine[name]
		switch {
		case a.err == nil:
			h.rev, h.renewed = a.rev, time.Now()
		case ctx.Err() != nil:
			return
		case errors.Is(a.err, jetstream.ErrKeyExists) || time.Since(h.renewed) > patience*r.TTL:
			r.Logger.Warn("partition lost", "role", r.Role, "partition", name, "err", a.err)
			h.cancel()
			<-h.done
			delete(r.mine, name)
		}
	}
}

// own tells whether a lease with another revision than expected is this process's all the same: the answer to an
// earlier renewal came too late. It gives that revision, or refused where the lease is not.
func (r *runner) own(ctx context.Context, name string, refused error) (uint64, error) {
	e, err := r.KV.Get(ctx, r.key(name))
	switch {
	case err != nil && !errors.Is(err, jetstream.ErrKeyNotFound):
		return 0, err // nobody knows yet: the next round asks again, until the lease has run out
	case err != nil || string(e.Value()) != r.ID:
		return 0, refused
	}
	return e.Revision(), nil
}

// drop ends a lease whose Work has returned and frees the partition.
func (r *runner) drop(opCtx context.Context, name string, h *held) {
	h.cancel()
	delete(r.mine, name)
	if h.err != nil && !h.release {
		r.Logger.Error("work on a partition ended", "role", r.Role, "partition", name, "err", h.err)
	}
	if !h.release {
		r.pause[name] = time.Now().Add(r.TTL / 3)
	}
	var err error
	if h.gone {
		err = r.KV.Delete(opCtx, r.key(name), jetstream.LastRevision(h.rev))
	} else {
		_, err = r.KV.Update(opCtx, r.key(name), nil, h.rev)
	}
	if err != nil {
		r.Logger.Debug("lease not freed", "role", r.Role, "partition", name, "err", err)
	}
}

// giveUp hands over partitions that are no more, and others until no more than fair are held.
func (r *runner) giveUp(opCtx context.Context, names []string, fair int) {
	end := func(name string, h *held) {
		h.release = true
		h.cancel()
		<-h.done
		r.drop(opCtx, name, h)
	}
	for name, h := range r.mine {
		if !slices.Contains(names, name) {
			h.gone = true
			end(name, h)
			delete(r.pause, name)
		}
	}
	for _, name := range slices.Backward(names) {
		if len(r.mine) <= fair {
			return
		}
		if h := r.mine[name]; h != nil {
			end(name, h)
		}
	}
}

// capacityOf reads a member's announcement; earlier versions said "alive".
func capacityOf(value string) int {
	if n, err := strconv.Atoi(value); err == nil && n > 0 {
		return n
	}
	return 1
}

// leave hands everything over at a clean stop.
func (r *runner) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for _, h := range r.mine {
		h.release = true
		h.cancel()
	}
	for name, h := range r.mine {
		<-h.done
		r.drop(ctx, name, h)
	}
	_ = r.KV.Delete(ctx, r.memberKey())
}
