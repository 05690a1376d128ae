package loader

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas/ordered"
)

// repeat reads the recorded block again and inserts it again.
func (l *lane) repeat(ctx context.Context) error {
	if err := l.open(ctx, l.pos.From); err != nil {
		return err
	}
	l.begin()
	quiet := 0
	for l.b.to < l.pos.To {
		msg, err := l.in.Next(ctx, time.Second)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, ordered.ErrNothing) {
			if quiet++; quiet < 3 {
				continue
			}
			// Nothing comes: the bus is away, and then the block is waited for, or it has dropped the end of it.
			if dropped, err := l.dropped(ctx, l.b.to+1, l.pos.To); err != nil || !dropped {
				continue
			}
			break
		}
		if err != nil {
			return fmt.Errorf("read %s for %s: %w", l.stream, l.name, err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("read %s for %s: %w", l.stream, l.name, err)
		}
		if meta.Sequence.Stream > l.pos.To {
			break
		}
		if err := l.take(ctx, msg); err != nil {
			return err
		}
	}
	if l.b.sum != l.pos.Sum || l.block.rows() != l.pos.Rows {
		// What is gone from the bus can only be in ClickHouse already; what is left must not go in twice.
		l.Logger.Error("the recorded block is no longer whole on the bus", "lane", l.name, "from", l.pos.From, "to", l.pos.To,
			"rows", l.pos.Rows, "rows_found", l.block.rows())
	}
	if err := l.insert(ctx); err != nil {
		return err
	}
	if err := l.tellLeftOut(ctx); err != nil {
		return err
	}
	l.settle()
	return nil
}

// dropped says that the bus holds none of the lane's messages between two sequences, both included. An error leaves it open.
func (l *lane) dropped(ctx context.Context, from, to uint64) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	st, err := l.JetStream.Stream(ctx, l.stream)
	if err != nil {
		return false, err
	}
	for _, subject := range l.subjects {
		m, err := st.GetMsg(ctx, max(from, 1), jetstream.WithGetMsgSubject(subject))
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
		case err != nil:
			return false, err
		case m.Sequence <= to:
			return false, nil
		}
	}
	return true, nil
}
