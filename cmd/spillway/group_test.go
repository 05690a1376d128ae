package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestGroupStopsInReverseOrder(t *testing.T) {
	g := newGroup(slog.New(slog.DiscardHandler), 10*time.Second)
	var mu sync.Mutex
	var order []string
	for _, name := range []string{"bus", "worker", "edge"} {
		g.start(name, func(ctx context.Context) error {
			<-ctx.Done()
			mu.Lock()
			order = append(order, name)
			mu.Unlock()
			return nil
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := g.wait(ctx); err != nil {
		t.Fatal(err)
	}
	if err := g.stop(); err != nil {
		t.Fatal(err)
	}
	if want := []string{"edge", "worker", "bus"}; !slices.Equal(order, want) {
		t.Errorf("stopped in order %v, want %v", order, want)
	}
}

func TestGroupReportsTheFirstFailureByName(t *testing.T) {
	for _, failure := range []error{errors.New("disk full"), nil} {
		g := newGroup(slog.New(slog.DiscardHandler), 10*time.Second)
		g.start("quiet", func(ctx context.Context) error { <-ctx.Done(); return nil })
		g.start("loader", func(context.Context) error { return failure })
		err := g.wait(context.Background())
		if err == nil || !strings.HasPrefix(err.Error(), "loader: ") {
			t.Errorf("failure %v is reported as %v", failure, err)
		}
		if err := g.stop(); err != nil {
			t.Error(err)
		}
	}
}

func TestGroupNamesWhatDoesNotStop(t *testing.T) {
	g := newGroup(slog.New(slog.DiscardHandler), 50*time.Millisecond)
	hang := make(chan struct{})
	defer close(hang)
	g.start("stuck", func(context.Context) error { <-hang; return nil })
	if err := g.stop(); err == nil || !strings.Contains(err.Error(), "stuck") {
		t.Errorf("error %v does not name the service", err)
	}
}
