package loader

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/analytics/qoe/sessioniser"
	"github.com/spillway-live/spillway/schemas"
)

// purger removes from the lane's subjects what ClickHouse has held for longer
// than the horizon. After a start it waits that long first: what was held when
// is not kept anywhere.
func (l *lane) purger(ctx context.Context, points <-chan heldPoint) {
	t := time.NewTicker(l.PurgeEvery)
	defer t.Stop()
	var held []heldPoint
	said := false
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-points:
			// One point a second is enough, and bounds the list.
			if n := len(held); n == 0 || p.at.Sub(held[n-1].at) > time.Second {
				held = append(held, p)
			}
			continue
		case <-t.C:
		}
		bound := uint64(0)
		for len(held) > 0 && time.Since(held[0].at) >= l.Horizon {
			bound = held[0].seq
			held = held[1:]
		}
		if bound == 0 {
			continue
		}
		if err := l.purgeTo(ctx, bound); err != nil && ctx.Err() == nil {
			if !said {
				l.Logger.Warn("cannot purge what ClickHouse holds", "lane", l.name, "err", err)
			}
			said = true
		} else {
			said = false
		}
	}
}

// purgeTo removes the lane's messages up to and including sequence bound,
// except those that a sessioniser may still need.
func (l *lane) purgeTo(ctx context.Context, bound uint64) error {
	st, err := l.JetStream.Stream(ctx, l.stream)
	if err != nil {
		return fmt.Errorf("open stream %s: %w", l.stream, err)
	}
	var snapshots jetstream.ObjectStore
	if l.stream == schemas.StreamTelemetry {
		if snapshots, err = l.JetStream.ObjectStore(ctx, schemas.BucketSnapshots); err != nil {
			return fmt.Errorf("open object store %s: %w", schemas.BucketSnapshots, err)
		}
	}
	for _, subject := range l.subjects {
		keepFrom := bound + 1
		if l.stream == schemas.StreamTelemetry {
			p, err := schemas.ParsePartitionSubject("telemetry", subject)
			if err != nil {
				return err
			}
			seq, err := snapshotSeq(ctx, snapshots, p)
			if err != nil {
				return err
			}
			keepFrom = min(keepFrom, seq+1)
		} else {
			// The last message says to a sessioniser how far its partition is published: it stays.
			m, err := st.GetLastMsgForSubject(ctx, subject)
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				continue
			}
			if err != nil {
				return fmt.Errorf("read the last message of %s: %w", subject, err)
			}
			keepFrom = min(keepFrom, m.Sequence)
		}
		if keepFrom <= 1 {
			continue
		}
		if err := st.Purge(ctx, jetstream.WithPurgeSubject(subject), jetstream.WithPurgeSequence(keepFrom)); err != nil {
			return fmt.Errorf("purge %s below %d: %w", subject, keepFrom, err)
		}
	}
	return nil
}

// snapshotSeq is the last telemetry sequence that the partition's snapshot accounts for; 0 without one.
func snapshotSeq(ctx context.Context, store jetstream.ObjectStore, partition int) (uint64, error) {
	info, err := store.GetInfo(ctx, sessioniser.SnapshotName(partition))
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read snapshot of partition %d: %w", partition, err)
	}
	seq, err := strconv.ParseUint(info.Metadata[sessioniser.MetaSeq], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("snapshot of partition %d names no sequence: %w", partition, err)
	}
	return seq, nil
}
