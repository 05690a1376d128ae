package erase

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/mirror"
)

// Ask leaves on the bus that everything about the viewer with these hashes is to
// be deleted, also what arrives within schemas.ErasureKept.
func Ask(ctx context.Context, js jetstream.JetStream, hashes []string, now time.Time) error {
	e := schemas.Erasure{Hashes: hashes, TimeUnixUs: now.UnixMicro()}
	if err := e.Check(); err != nil {
		return fmt.Errorf("ask for erasure: %w", err)
	}
	kv, err := js.KeyValue(ctx, schemas.BucketErasures)
	if err != nil {
		return fmt.Errorf("ask for erasure: open bucket %s: %w", schemas.BucketErasures, err)
	}
	v, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("ask for erasure: %w", err)
	}
	if _, err := kv.Create(ctx, rand.Text(), v); err != nil {
		return fmt.Errorf("ask for erasure: %w", err)
	}
	return nil
}

// Sweeper deletes rows of viewers who were erased as they arrive. Several do the
// same work twice, which harms nothing.
type Sweeper struct {
	JetStream jetstream.JetStream
	Settings
	// Soon is the time between sweeps in the hour after a request, when most of
	// what was on its way arrives; default 10 min. Every is it afterwards; default 1 h.
	Soon, Every time.Duration
	Logger      *slog.Logger
	Registerer  prometheus.Registerer
}

// Run sweeps after each request and then at intervals, until ctx ends.
func (s Sweeper) Run(ctx context.Context) error {
	soon, every := cmp.Or(s.Soon, 10*time.Minute), cmp.Or(s.Every, time.Hour)
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	deleted := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "spillway", Subsystem: "eraser", Name: "deleted_rows_total", Help: "rows of erased viewers deleted after they had arrived",
	}, []string{"table"})
	failures := prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: "spillway", Subsystem: "eraser", Name: "failures_total", Help: "sweeps that failed and are repeated",
	})
	if s.Registerer != nil {
		s.Registerer.MustRegister(deleted, failures)
	}
	table := mirror.New(schemas.BucketErasures, schemas.ParseErasure, s.Logger)
	followed := make(chan error, 1)
	go func() { followed <- table.Run(ctx, s.JetStream) }()
	select {
	case <-table.Ready():
	case <-ctx.Done():
		return <-followed
	}
	for {
		changed := table.Changed()
		wait := every
		hashes, newest := due(table.All(), time.Now())
		if len(hashes) > 0 {
			if err := s.sweep(ctx, hashes, deleted); err != nil && ctx.Err() == nil {
				failures.Inc()
				s.Logger.Error("rows of erased viewers cannot be deleted; trying again", "err", err)
				newest = time.Now()
			}
			if time.Since(newest) < time.Hour {
				wait = soon
			}
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-t.C:
		}
		t.Stop()
		if ctx.Err() != nil {
			return <-followed
		}
	}
}

// due gives the hashes of requests that are still followed, and the time of the
// newest. The bucket drops old ones by itself, but tells nobody.
func due(all iter.Seq2[string, *schemas.Erasure], now time.Time) (hashes []string, newest time.Time) {
	for _, e := range all {
		at := time.UnixMicro(e.TimeUnixUs)
		if now.Sub(at) > schemas.ErasureKept {
			continue
		}
		hashes = append(hashes, e.Hashes...)
		if at.After(newest) {
			newest = at
		}
	}
	slices.Sort(hashes)
	return slices.Compact(hashes), newest
}

func (s *Sweeper) sweep(ctx context.Context, hashes []string, deleted *prometheus.CounterVec) error {
	for part := range slices.Chunk(hashes, chunk) {
		r, err := Viewer(ctx, s.Settings, part)
		if err != nil {
			return err
		}
		for _, t := range r.Tables {
			if t.Deleted > 0 {
				deleted.WithLabelValues(t.Table).Add(float64(t.Deleted))
				s.Logger.Info("rows of erased viewers had arrived and are deleted", "table", t.Table, "rows", t.Deleted)
			}
		}
	}
	return nil
}
