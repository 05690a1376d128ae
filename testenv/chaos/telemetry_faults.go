package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spillway-live/spillway/schemas/nap"
)

// fault is something that is wrong for a while.
type fault struct {
	name string
	run  func(ctx context.Context, length time.Duration) error
}

// Kinds of faults, as the report names them.
const (
	faultSlow     = "ClickHouse slow (stopped for 9 of 10 tenths of a second)"
	faultReadOnly = "ClickHouse read-only (too little free disk for every table)"
	faultHalf     = "ClickHouse takes rows but not those of a roll-up of slices and one of logs"
	faultFull     = "disk of the bus full"
)

func (r *telemetryRun) faultKinds() []fault {
	out := []fault{
		{faultHalf, func(ctx context.Context, d time.Duration) error {
			return r.refuse(ctx, d, "rollup_hour", "rollup_cdn_hour")
		}},
		{faultSlow, r.slow},
		{faultReadOnly, func(ctx context.Context, d time.Duration) error {
			return r.refuse(ctx, d, "telemetry", "session_slices", "events", "rollup_minute", "rollup_stream_minute", "rollup_arm_minute",
				"sessions", "rollup_cdn_minute", "rollup_publisher_minute", "rollup_rows")
		}},
	}
	if r.s.BusDisk {
		out = append([]fault{{faultFull, r.fill}}, out...)
	}
	return out
}

// slow lets ClickHouse run for a tenth of the time.
func (r *telemetryRun) slow(ctx context.Context, d time.Duration) error {
	defer r.stack.db.signal(syscall.SIGCONT)
	for end := time.Now().Add(d); time.Now().Before(end); {
		r.stack.db.signal(syscall.SIGSTOP)
		if nap.For(ctx, 900*time.Millisecond) != nil {
			return nil
		}
		r.stack.db.signal(syscall.SIGCONT)
		if nap.For(ctx, 100*time.Millisecond) != nil {
			return nil
		}
	}
	return nil
}

// refuse lets ClickHouse find too little free disk for inserts into tables.
func (r *telemetryRun) refuse(ctx context.Context, d time.Duration, tables ...string) error {
	defer func() {
		for _, t := range tables {
			r.sure(context.WithoutCancel(ctx), "ALTER TABLE spillway."+t+" RESET SETTING min_free_disk_bytes_to_perform_insert")
		}
	}()
	for _, t := range tables {
		if err := r.sure(ctx, "ALTER TABLE spillway."+t+" MODIFY SETTING min_free_disk_bytes_to_perform_insert = 1000000000000000000"); err != nil {
			return err
		}
	}
	_ = nap.For(ctx, d)
	return nil
}

// sure repeats a statement until ClickHouse has done it: it may be down.
func (r *telemetryRun) sure(ctx context.Context, sql string) error {
	for deadline := time.Now().Add(2 * startWait); ; {
		qctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		err := r.stack.conn.Exec(qctx, sql)
		cancel()
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: %w", sql, err)
		}
		_ = nap.For(ctx, 100*time.Millisecond)
	}
}

// fill takes the last byte of the bus's file system, frees it after d, and waits until the bus takes messages again.
func (r *telemetryRun) fill(ctx context.Context, d time.Duration) (err error) {
	r.hand.busAway()
	defer r.hand.busAway()
	path := filepath.Join(r.s.Dir, "data", "nats", "filler")
	f, err := os.Create(path)
	if err != nil && !errors.Is(err, syscall.ENOSPC) {
		return err
	}
	chunk := make([]byte, 1<<20)
	for end := time.Now().Add(d); time.Now().Before(end) && ctx.Err() == nil; {
		if n, err := f.Write(chunk); errors.Is(err, syscall.ENOSPC) {
			if n == 0 {
				_ = nap.For(ctx, 20*time.Millisecond) // what the bus frees is taken, too
			}
		} else if err != nil {
			return errors.Join(err, f.Close())
		}
	}
	if err := errors.Join(f.Close(), os.Remove(path)); err != nil {
		return err
	}
	_, _, was := r.wire.state()
	for deadline := time.Now().Add(startWait); ; {
		if _, _, now := r.wire.state(); now > was {
			return nil
		}
		if time.Now().After(deadline) {
			r.found.add("bus", "takes nothing %s after its disk had room again", startWait)
			return nil
		}
		if nap.For(ctx, 100*time.Millisecond) != nil {
			return nil
		}
	}
}
