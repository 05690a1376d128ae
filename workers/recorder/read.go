package recorder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
)

// stored is one message of MEDIA.
type stored struct {
	seq  uint64
	at   time.Time
	kind string
	head string
	data []byte
}

// getRequest asks a stream for several messages at once (ADR-31, direct get).
type getRequest struct {
	Seq       uint64     `json:"seq,omitempty"`
	StartTime *time.Time `json:"start_time,omitempty"`
	Batch     int        `json:"batch"`
	MaxBytes  int        `json:"max_bytes"`
	NextFor   string     `json:"next_by_subj"`
}

const (
	batchMessages = 64 // of about 200 ms each
	batchBytes    = 32 << 20
	answerWithin  = 5 * time.Second
)

// errGone: the bus has nothing from there on.
var errGone = errors.New("not on the bus any more")

// read visits the messages of a subject, from a sequence or a time on up to the
// one with sequence until, included.
func read(ctx context.Context, nc *nats.Conn, subject string, from getRequest, until uint64, visit func(stored)) error {
	for {
		from.Batch, from.MaxBytes, from.NextFor = batchMessages, batchBytes, subject
		last, more, err := batch(ctx, nc, from, until, visit)
		if err != nil {
			return err
		}
		if last >= until || !more {
			return nil
		}
		from = getRequest{Seq: last + 1}
	}
}

// batch visits what one request gives; more: there is more behind it.
func batch(ctx context.Context, nc *nats.Conn, q getRequest, until uint64, visit func(stored)) (last uint64, more bool, err error) {
	body, err := json.Marshal(q)
	if err != nil {
		return 0, false, err
	}
	inbox := nc.NewRespInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return 0, false, fmt.Errorf("read %s: %w", q.NextFor, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := nc.PublishRequest("$JS.API.DIRECT.GET."+schemas.StreamMedia, inbox, body); err != nil {
		return 0, false, fmt.Errorf("read %s: %w", q.NextFor, err)
	}
	for n := 0; ; n++ {
		actx, cancel := context.WithTimeout(ctx, answerWithin)
		m, err := sub.NextMsgWithContext(actx)
		cancel()
		if err != nil {
			return last, false, fmt.Errorf("read %s: the bus does not answer: %w", q.NextFor, err)
		}
		switch status := m.Header.Get("Status"); status {
		case "":
		case "204": // end of the batch
			return last, more, nil
		case "404":
			if n == 0 {
				return 0, false, errGone
			}
			return last, false, nil
		default:
			return last, false, fmt.Errorf("read %s: the bus answers %s %s", q.NextFor, status, m.Header.Get("Description"))
		}
		seq, err := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
		if err != nil {
			return last, false, fmt.Errorf("read %s: the bus's answer has no sequence: %w", q.NextFor, err)
		}
		last, more = seq, m.Header.Get("Nats-Num-Pending") != "0"
		if seq > until {
			return last, false, nil
		}
		at, err := time.Parse(time.RFC3339Nano, m.Header.Get("Nats-Time-Stamp"))
		if err != nil {
			return last, false, fmt.Errorf("read %s: the bus's answer has no time: %w", q.NextFor, err)
		}
		visit(stored{seq: seq, at: at, kind: m.Header.Get(schemas.HeaderKind), head: m.Header.Get(schemas.HeaderChunk), data: m.Data})
		if seq == until {
			return last, false, nil
		}
	}
}
