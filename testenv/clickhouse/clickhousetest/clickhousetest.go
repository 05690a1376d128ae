// Package clickhousetest gives a test a real ClickHouse server of its own: an empty one, on free ports, gone with
// the test. Starting one takes about a third of a second once the library is cached.
package clickhousetest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spillway-live/spillway/testenv/clickhouse"
	"github.com/spillway-live/spillway/testenv/need"
)

// stopLimit is how long an orderly stop may take at the end of a test.
const stopLimit = 20 * time.Second

// Start runs a server for the length of t, sharing nothing with any other. On a machine that can never run the
// embedded server see [need]; every other obstacle fails it.
func Start(t testing.TB) *clickhouse.Server {
	t.Helper()
	return StartOptions(t, clickhouse.Options{})
}

// StartOptions is Start with settings. An empty DataDir becomes a temporary one, MemoryLimitBytes 1 GiB.
func StartOptions(t testing.TB, opts clickhouse.Options) *clickhouse.Server {
	t.Helper()
	if opts.DataDir == "" {
		opts.DataDir = t.TempDir()
	}
	if opts.MemoryLimitBytes == 0 {
		opts.MemoryLimitBytes = 1 << 30
	}
	if opts.Progress == nil {
		opts.Progress = os.Stderr // a first fetch takes a while; t.Log would show it only at the end
	}
	s, err := clickhouse.Start(t.Context(), opts)
	if errors.Is(err, clickhouse.ErrUnsupported) {
		need.Missing(t, "%v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t testing.TB, s *clickhouse.Server) {
	select {
	case <-s.Done():
		if err := s.Err(); err != nil {
			t.Error(err)
		}
	default:
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), stopLimit)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	}
	if t.Failed() {
		log, err := os.ReadFile(filepath.Join(s.DataDir(), "server", "clickhouse.log"))
		if err == nil && len(log) > 0 {
			t.Logf("end of ClickHouse's log:\n%s", log[max(0, len(log)-4000):])
		}
	}
}
