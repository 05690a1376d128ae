package web

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/analytics/experiments/control"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/mirror"
	"github.com/spillway-live/spillway/schemas/registry"
)

// Limits of waiting for the tables: for their first content, and for a change that was made here.
const (
	readyLimit = 5 * time.Second
	seenLimit  = 2 * time.Second
)

// maxPasts bounds the histories that are kept.
const maxPasts = 256

// entry is an experiment as the bucket has it, or why it cannot be read.
type entry struct {
	x   *schemas.Experiment
	err error
}

// past is the history of an experiment as it was when the bucket had this entry.
type past struct {
	of       entry
	versions []control.Version
}

// follow makes the tables.
func (s *Server) follow() {
	s.once.Do(func() {
		s.experiments = mirror.New(schemas.BucketExperiments, func(key string, value []byte) (entry, error) {
			x, err := schemas.ParseExperiment(key, value)
			return entry{x, err}, nil // one that cannot be read is shown, with the reason
		}, s.Logger)
		s.checks = mirror.New(schemas.BucketChecks, schemas.ParseExperimentCheck, s.Logger)
		s.pasts = map[string]past{}
	})
}

// Run follows experiments and what the closed loop says of them until ctx ends: once, for all browsers.
func (s *Server) Run(ctx context.Context) error {
	s.follow()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.experiments.Run(ctx, s.JS) })
	g.Go(func() error { return s.checks.Run(ctx, s.JS) })
	return g.Wait()
}

// ready waits for the first content.
func (s *Server) ready(ctx context.Context) error {
	s.follow()
	for _, t := range []<-chan struct{}{s.experiments.Ready(), s.checks.Ready()} {
		select {
		case <-t:
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(readyLimit):
			return errors.New("experiments are not read yet: the bus does not answer")
		}
	}
	return nil
}

// get gives an experiment; its error lists those there are.
func (s *Server) get(ctx context.Context, name string) (entry, error) {
	if err := schemas.CheckName("experiment", name); err != nil {
		return entry{}, err
	}
	if err := s.ready(ctx); err != nil {
		return entry{}, err
	}
	e, ok := s.experiments.Get(name)
	if !ok {
		return e, fmt.Errorf("there is no experiment %q; there are: %s: %w", name, strings.Join(s.names(), ", "), registry.ErrNone)
	}
	return e, e.err
}

func (s *Server) names() []string { return slices.Sorted(maps.Keys(maps.Collect(s.experiments.All()))) }

// check is what the closed loop said of an experiment at its last look.
func (s *Server) check(name string) *schemas.ExperimentCheck {
	if c, ok := s.checks.Get(name); ok {
		return c
	}
	return &schemas.ExperimentCheck{Experiment: name}
}

// history reads the versions of an experiment anew only when there is another one.
func (s *Server) history(ctx context.Context, name string, now entry) ([]control.Version, error) {
	s.mu.Lock()
	p, ok := s.pasts[name]
	s.mu.Unlock()
	if ok && p.of == now {
		return p.versions, nil
	}
	c := s.reading.DoChan(fmt.Sprintf("%s %p", name, now.x), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyLimit) // others wait for it
		defer cancel()
		versions, err := (&control.Control{JS: s.JS}).History(ctx, name)
		if err == nil {
			s.mu.Lock()
			if len(s.pasts) >= maxPasts {
				clear(s.pasts)
			}
			s.pasts[name] = past{now, versions}
			s.mu.Unlock()
		}
		return versions, err
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-c:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.([]control.Version), nil
	}
}

// seen waits until the table has what a change has stored, so that who made it is shown it at once. What another change
// has overtaken is not waited for long.
func (s *Server) seen(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, seenLimit)
	defer cancel()
	stored, err := (&control.Control{JS: s.JS}).Get(ctx, name)
	for ctx.Err() == nil {
		changed := s.experiments.Changed()
		e, ok := s.experiments.Get(name)
		if gone := errors.Is(err, registry.ErrNone); gone && !ok || err == nil && ok && reflect.DeepEqual(e.x, stored) || err != nil && !gone {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}
