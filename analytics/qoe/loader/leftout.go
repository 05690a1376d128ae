package loader

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
)

// tellLeftOut says as an event what the block leaves out: rows of batches that
// were in before, and messages nobody can read. The event's id is the block's,
// so a repeated block tells the same thing again and readers count it once.
func (l *lane) tellLeftOut(ctx context.Context) error {
	b := &l.b
	if b.dupBatches == 0 && b.dead == 0 {
		return nil
	}
	e := &schemas.Event{
		ID: fmt.Sprintf("loader/%s/%d-%d", l.name, b.from, b.to), TimeUs: b.lastMsgUnixMs * 1000, Kind: schemas.EventLoaderLeftOut,
		Detail: map[string]string{
			"lane":              l.name,
			"duplicate_rows":    strconv.FormatInt(b.dupRows, 10),
			"duplicate_batches": strconv.FormatInt(b.dupBatches, 10),
			"dead_messages":     strconv.FormatInt(b.dead, 10),
		},
	}
	data, err := schemas.EncodeRecord(e)
	if err != nil {
		return fmt.Errorf("tell what %s left out: %w", l.name, err)
	}
	m := nats.NewMsg(schemas.EventSubject(e))
	m.Data = data
	m.Header.Set(nats.MsgIdHdr, "e/"+e.ID)
	for {
		_, err := l.JetStream.PublishMsg(ctx, m)
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		l.Logger.Warn("cannot tell what was left out", "lane", l.name, "err", err)
		if !pause(ctx, time.Second) {
			return ctx.Err()
		}
	}
}

// bury puts a message that cannot be read among the dead letters.
func (l *lane) bury(ctx context.Context, msg jetstream.Msg, seq uint64, why error) error {
	l.Logger.Warn("message cannot be read", "lane", l.name, "subject", msg.Subject(), "seq", seq, "err", why)
	m := nats.NewMsg(schemas.DeadSubject("loader"))
	m.Data = msg.Data()
	reason := why.Error()
	m.Header.Set(schemas.HeaderReason, reason[:min(len(reason), 512)])
	m.Header.Set(schemas.HeaderOrigin, msg.Subject()+" "+strconv.FormatUint(seq, 10))
	m.Header.Set(nats.MsgIdHdr, "loader/"+l.stream+"/"+strconv.FormatUint(seq, 10)) // a repeated block buries it again
	for {
		_, err := l.JetStream.PublishMsg(ctx, m)
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		l.Logger.Warn("cannot write a dead letter", "lane", l.name, "err", err)
		if !pause(ctx, time.Second) {
			return ctx.Err()
		}
	}
}
