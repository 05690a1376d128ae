// Package keys gives the keys that encrypt streams (schemas.Encryption), and
// prepares tracks for it, for all who package: packagers, origins, recorders.
//
// It promises that packaging never waits: a key that is not here yet is fetched
// in the background, ahead of its period where the stream says so, and the
// caller is told why it has none. It leaves out encrypting itself (workers/cenc)
// and what to do without a key: nobody who uses it may send the samples clear.
package keys

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/cenc"
)

// ErrNoKey is wrapped by errors about keys that are not here: later there may be one.
var ErrNoKey = errors.New("no key")

// Ring finds keys and keeps them. The zero value works; it may be used by
// several at once.
type Ring struct {
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Client asks key services; default one with a timeout of 3 s that follows no redirects.
	Client *http.Client

	once   sync.Once
	m      metrics
	mu     sync.Mutex
	found  map[period]*held
	files  map[string]*keyFile
	latest time.Time // the last sweep
}

// period names what has one key.
type period struct {
	url string
	key schemas.StreamKey
	n   uint64
}

type held struct {
	key  cenc.Key
	used time.Time
}

// Limits of what a ring keeps: keys that were not used for keepFor are forgotten
// and asked for again; so are key files.
const (
	keepFor   = time.Hour
	sweepEach = time.Minute
)

func (r *Ring) init() {
	r.once.Do(func() {
		if r.Logger == nil {
			r.Logger = slog.New(slog.DiscardHandler)
		}
		if r.Client == nil {
			r.Client = &http.Client{Timeout: 3 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		}
		r.found, r.files = map[period]*held{}, map[string]*keyFile{}
		r.m = newMetrics(r.Registerer)
	})
}

// Key gives the key of a stream's period, from memory or its source. Errors wrap
// [ErrNoKey] and say what to do; they never hold the key or the source's address.
func (r *Ring) Key(ctx context.Context, e *schemas.Encryption, k schemas.StreamKey, n uint64) (cenc.Key, error) {
	r.init()
	p := period{e.KeyURL, k, n}
	now := time.Now()
	r.mu.Lock()
	r.sweep(now)
	if h := r.found[p]; h != nil {
		h.used = now
		r.mu.Unlock()
		return h.key, nil
	}
	r.mu.Unlock()
	key, err := r.fetch(ctx, p)
	if err != nil {
		r.m.failed.Inc()
		return key, fmt.Errorf("%w of %s for key period %d: %w", ErrNoKey, k, n, err)
	}
	r.m.fetched.Inc()
	r.mu.Lock()
	defer r.mu.Unlock()
	if h := r.found[p]; h != nil { // somebody was quicker; what is in use stays
		return h.key, nil
	}
	r.found[p] = &held{key, now}
	return key, nil
}

func (r *Ring) sweep(now time.Time) {
	if now.Sub(r.latest) < sweepEach {
		return
	}
	r.latest = now
	for p, h := range r.found {
		if now.Sub(h.used) > keepFor {
			delete(r.found, p)
		}
	}
	for u, f := range r.files {
		if now.Sub(f.read) > keepFor {
			delete(r.files, u)
		}
	}
}

func (r *Ring) fetch(ctx context.Context, p period) (cenc.Key, error) {
	if path, ok := filePath(p.url); ok {
		f, err := r.file(path)
		if err != nil {
			return cenc.Key{}, err
		}
		return f.key(p.key, p.n)
	}
	return r.ask(ctx, p.url, p.key, "period", fmt.Sprint(p.n))
}

// ByKID gives the key of a stream that a key id names: what a player asks for.
func (r *Ring) ByKID(ctx context.Context, e *schemas.Encryption, k schemas.StreamKey, kid cenc.KID) (cenc.Key, error) {
	r.init()
	r.mu.Lock()
	for p, h := range r.found {
		if h.key.KID == kid && p.key == k && p.url == e.KeyURL {
			r.mu.Unlock()
			return h.key, nil
		}
	}
	r.mu.Unlock()
	var key cenc.Key
	var err error
	if path, ok := filePath(e.KeyURL); ok {
		var f *keyFile
		if f, err = r.file(path); err == nil {
			key, err = f.byKID(k, kid)
		}
	} else {
		key, err = r.ask(ctx, e.KeyURL, k, "kid", kid.String())
	}
	if err == nil && key.KID != kid {
		err = fmt.Errorf("the key service answers with another key than %s", kid)
	}
	if err != nil {
		return cenc.Key{}, fmt.Errorf("%w of %s with id %s: %w", ErrNoKey, k, kid, err)
	}
	return key, nil
}

type metrics struct{ fetched, failed, events prometheus.Counter }

func newMetrics(reg prometheus.Registerer) metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "spillway", Subsystem: "keys", Name: name, Help: help})
		if reg == nil {
			return c
		}
		var again prometheus.AlreadyRegisteredError
		if err := reg.Register(c); errors.As(err, &again) { // several roles of one process
			if was, ok := again.ExistingCollector.(prometheus.Counter); ok {
				return was
			}
		}
		return c
	}
	return metrics{
		fetched: counter("fetched_total", "Keys read from key files and key services."),
		failed:  counter("failed_total", "Attempts to get a key that failed: nothing is packaged without."),
		events:  counter("held_up_total", "Times a track could not be encrypted when its samples were there, once in ten seconds."),
	}
}
