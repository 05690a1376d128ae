// Package demand tells who is watched. Whoever serves a stream to viewers says
// so on demand.<app>.<stream> once a second; whoever works only for watched
// streams (packagers, transcoders, pulls of cameras) listens.
//
// It rides core NATS and is not stored: what matters is now, and who starts late
// hears it within a second. It promises no more than that; an origin therefore
// makes itself what a worker that had not heard yet did not make.
package demand

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
)

// Every is how often a watched stream is said to be; HoldsFor is how long one saying holds.
const (
	Every    = time.Second
	HoldsFor = 4 * time.Second
)

// Subject is demand.<app>.<stream>.
func Subject(k schemas.StreamKey) string { return "demand." + k.App + "." + k.Stream }

// PartsSubject is partsdemand.<app>.<stream>: an origin that takes packagers'
// parts says so, for packagers work only then.
func PartsSubject(k schemas.StreamKey) string { return "partsdemand." + k.App + "." + k.Stream }

// SayParts tells packagers that the stream's parts are wanted now. It does not wait for the bus.
func SayParts(nc *nats.Conn, k schemas.StreamKey) error { return say(nc, k, PartsSubject(k), nil) }

// Say tells everybody that the stream is wanted now. It does not wait for the bus.
func Say(nc *nats.Conn, k schemas.StreamKey) error { return say(nc, k, Subject(k), nil) }

// elsewhere is the payload of what [SayElsewhere] says.
var elsewhere = []byte("elsewhere")

// SayElsewhere is Say for a stream that is wanted in another region. All but [ListenHere] hear it alike.
func SayElsewhere(nc *nats.Conn, k schemas.StreamKey) error {
	return say(nc, k, Subject(k), elsewhere)
}

func say(nc *nats.Conn, k schemas.StreamKey, subject string, data []byte) error {
	if err := k.Check(); err != nil {
		return err
	}
	if err := nc.Publish(subject, data); err != nil {
		return fmt.Errorf("say that %s is watched: %w", k, err)
	}
	return nil
}

// Watched knows what is wanted. Safe for concurrent use.
type Watched struct {
	nc     *nats.Conn
	filter string
	here   bool // what is said of other regions is passed over

	mu    sync.Mutex
	until map[schemas.StreamKey]time.Time
	first func(schemas.StreamKey) // called when a stream begins to be wanted
}

// Listen begins to listen; Run must be called too. began, which may be nil, is
// called for each stream when it begins to be wanted; it must not block.
func Listen(nc *nats.Conn, began func(schemas.StreamKey)) *Watched {
	return &Watched{nc: nc, filter: "demand.*.*", until: map[schemas.StreamKey]time.Time{}, first: began}
}

// ListenHere is Listen for what is wanted in this region itself.
func ListenHere(nc *nats.Conn, began func(schemas.StreamKey)) *Watched {
	w := Listen(nc, began)
	w.here = true
	return w
}

// ListenParts is Listen for what [SayParts] says.
func ListenParts(nc *nats.Conn, began func(schemas.StreamKey)) *Watched {
	w := Listen(nc, began)
	w.filter = "partsdemand.*.*"
	return w
}

// Run listens until ctx ends, and then returns nil.
func (w *Watched) Run(ctx context.Context) error {
	sub, err := w.nc.Subscribe(w.filter, func(m *nats.Msg) {
		if !w.here || len(m.Data) == 0 {
			w.heard(m.Subject, time.Now())
		}
	})
	if err != nil {
		return fmt.Errorf("listen for demand: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	t := time.NewTicker(HoldsFor)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-t.C:
			w.forget(now)
		}
	}
}

func (w *Watched) heard(subject string, now time.Time) {
	f := strings.Split(subject, ".")
	if len(f) != 3 {
		return
	}
	k := schemas.StreamKey{App: f[1], Stream: f[2]}
	if k.Check() != nil {
		return
	}
	w.mu.Lock()
	began := !now.Before(w.until[k])
	w.until[k] = now.Add(HoldsFor)
	w.mu.Unlock()
	if began && w.first != nil {
		w.first(k)
	}
}

// Is reports whether the stream is wanted at now.
func (w *Watched) Is(k schemas.StreamKey, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return now.Before(w.until[k])
}

// All gives the streams wanted at now.
func (w *Watched) All(now time.Time) []schemas.StreamKey {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []schemas.StreamKey
	for k, t := range w.until {
		if now.Before(t) {
			out = append(out, k)
		}
	}
	return out
}

func (w *Watched) forget(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k, t := range w.until {
		if !now.Before(t) {
			delete(w.until, k)
		}
	}
}
