// Package running keeps roles and services at work beside a test, with their log
// and their metrics.
package running

import (
	"context"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/testenv/await"
)

// Roles are what runs beside a test.
type Roles struct {
	t      testing.TB
	cancel context.CancelFunc
	ended  chan struct{}
	err    error
	stop   func()
}

// Start runs all of them at once until Stop or the end of the test. An error that
// any of them ends with fails the test, and ends the others.
func Start(t testing.TB, runs ...func(context.Context) error) *Roles {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &Roles{t: t, cancel: cancel, ended: make(chan struct{})}
	g, ctx := errgroup.WithContext(ctx)
	for _, run := range runs {
		g.Go(func() error { return run(ctx) })
	}
	go func() {
		defer close(r.ended)
		r.err = g.Wait()
	}()
	r.stop = sync.OnceFunc(func() {
		r.cancel()
		<-r.ended
		if r.err != nil {
			r.t.Errorf("run: %v", r.err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// Stop ends them and waits until they have; again it does nothing.
func (r *Roles) Stop() { r.stop() }

// Ready waits until ready is closed; that they end before it, or that it takes
// longer than await.Limit, fails the test.
func (r *Roles) Ready(ready <-chan struct{}) *Roles {
	r.t.Helper()
	select {
	case <-ready:
	case <-r.ended:
		r.t.Fatalf("ended before it was ready: %v", r.err)
	case <-time.After(await.Limit):
		r.t.Fatalf("not ready after %v", await.Limit)
	}
	return r
}
