package nap_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas/nap"
)

// TestFor: a wait ends with its time or with its context, whichever is first, and one that is over is none.
func TestFor(t *testing.T) {
	if err := nap.For(t.Context(), time.Millisecond); err != nil {
		t.Errorf("a wait of a millisecond: %v", err)
	}
	if err := nap.For(t.Context(), -time.Second); err != nil {
		t.Errorf("a wait that is over: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- nap.For(ctx, time.Hour) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("a wait that was stopped: %v", err)
	}
	if err := nap.For(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("no wait, stopped before: %v", err)
	}
}
