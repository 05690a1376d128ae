package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// group runs named services until one ends or the context does, then stops the
// rest in reverse order of adding: what was added last depends on what came
// before, so it goes first. A service that returns nil before it was asked to
// stop is a bug and is reported as one.
type group struct {
	logger *slog.Logger
	// deadline for the whole stop; services that are still running then are named.
	deadline time.Duration

	mu       sync.Mutex
	services []*service
	failed   chan error
	once     sync.Once
}

type service struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{}
}

func newGroup(logger *slog.Logger, deadline time.Duration) *group {
	return &group{logger: logger, deadline: deadline, failed: make(chan error, 1)}
}

// start runs f in the background under a context that only stop ends, so that
// the order of stopping is ours and not that of a signal.
func (g *group) start(name string, f func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	s := &service{name: name, cancel: cancel, done: make(chan struct{})}
	g.mu.Lock()
	g.services = append(g.services, s)
	g.mu.Unlock()
	go func() {
		defer close(s.done)
		err := f(ctx)
		if ctx.Err() != nil {
			if err != nil && !errors.Is(err, context.Canceled) {
				g.logger.Warn("service stopped with an error", "service", name, "err", err)
			}
			return
		}
		if err == nil {
			err = errors.New("ended without being asked to")
		}
		g.once.Do(func() { g.failed <- fmt.Errorf("%s: %w", name, err) })
	}()
}

// wait blocks until ctx ends or a service fails; it gives the failure.
func (g *group) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-g.failed:
		g.logger.Error("a service failed; stopping the others", "err", err)
		return err
	}
}

// stop ends the services, last added first, and names those that did not make it in time.
func (g *group) stop() error {
	g.mu.Lock()
	services := g.services
	g.services = nil
	g.mu.Unlock()
	timeout := time.NewTimer(g.deadline)
	defer timeout.Stop()
	for i := len(services) - 1; i >= 0; i-- {
		s := services[i]
		s.cancel()
		select {
		case <-s.done:
		case <-timeout.C:
			var late []string
			for ; i >= 0; i-- {
				services[i].cancel()
				select {
				case <-services[i].done:
				default:
					late = append(late, services[i].name)
				}
			}
			return fmt.Errorf("still running %s after the signal to stop: %v", g.deadline, late)
		}
	}
	return nil
}
