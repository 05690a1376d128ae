package viewer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"
)

// TestAccess: an answer comes no faster than the access carries it, whole, and not at all once the viewer has left.
func TestAccess(t *testing.T) {
	body := bytes.Repeat([]byte("m"), 20_000)
	v := &view{c: Config{AccessBps: 800_000}} // 0.2 s
	begin := time.Now()
	got, err := io.ReadAll(v.access(t.Context(), bytes.NewReader(body)))
	if err != nil || !bytes.Equal(got, body) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if d := time.Since(begin); d < 190*time.Millisecond {
		t.Errorf("%d bytes came in %v", len(got), d)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	v.c.AccessBps = 8
	if _, err := io.ReadAll(v.access(ctx, bytes.NewReader(body))); !errors.Is(err, context.Canceled) {
		t.Errorf("after leaving: %v", err)
	}
}
