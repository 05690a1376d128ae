package sink

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/nap"
)

const (
	minRetry = 50 * time.Millisecond
	maxRetry = 2 * time.Second
	// publishTimeout is for one attempt from the spool, where nobody waits.
	publishTimeout = 5 * time.Second
)

// drain brings the spool to the bus until ctx ends.
func (k *Sink) drain(ctx context.Context) {
	var failing bool
	send := func(b *batch) error {
		for pause := minRetry; ; pause = min(2*pause, maxRetry) {
			err := k.replay(ctx, b)
			if err == nil {
				if failing {
					k.s.Logger.Info("bus takes telemetry from the spool again")
					failing = false
				}
				k.count(wayReplay, b)
				return nil
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			k.m.failures.Inc()
			if schemas.RefusedForGood(err) {
				return k.bury(b, err)
			}
			if !failing {
				k.s.Logger.Warn("bus does not take telemetry: it is kept in the spool", "err", err)
				failing = true
			}
			_ = nap.For(ctx, pause)
		}
	}
	bad := func(path string, n int64, why error) {
		k.m.damaged.Add(float64(n))
		k.s.Logger.Error("spool file cannot be read to its end", "file", path, "bytes_left", n, "err", why)
	}
	// The only error is that of ctx.
	if err := k.spool.drain(ctx, send, bad); err != nil && ctx.Err() == nil {
		k.s.Logger.Error("spool", "err", err)
	}
}

func (k *Sink) replay(ctx context.Context, b *batch) error {
	if s := k.s.JS.Conn().Status(); s != nats.CONNECTED {
		return fmt.Errorf("publish telemetry batch: connection is %s", s)
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	return k.publish(ctx, b)
}

// bury keeps a batch that the bus refuses for good, so that it does not stop those behind it.
func (k *Sink) bury(b *batch, why error) error {
	k.m.dead.Inc()
	dir := filepath.Join(k.s.SpoolDir, "dead")
	path := filepath.Join(dir, fmt.Sprintf("%s-%d-%d.arrow", b.producer, b.partition, b.seq))
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = os.WriteFile(path, b.data, 0o600)
	}
	k.s.Logger.Error("bus refuses a telemetry batch for good", "rows", b.rows, "kept", path, "err", why, "write_err", err)
	return nil
}
