package sessioniser

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
)

// maxSlices is the number of slices in one message: about 4 MB, half of what a message may have.
const maxSlices = 8000

// output is the slices subject of a partition and what is on it already.
type output struct {
	js      jetstream.JetStream
	subject string
	log     *slog.Logger

	last  uint64 // sequence of the last message: the fence
	input uint64 // last input that is accounted for in full, or in part when part < parts
	part  int    // of that input's messages, the last one there is
	parts int
	said  bool
}

// open learns what is published.
func (o *output) open(ctx context.Context) error {
	st, err := o.js.Stream(ctx, schemas.StreamSlices)
	if err != nil {
		return fmt.Errorf("open stream %s: %w", schemas.StreamSlices, err)
	}
	m, err := st.GetLastMsgForSubject(ctx, o.subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the last message of %s: %w", o.subject, err)
	}
	return o.note(m.Sequence, m.Header)
}

func (o *output) note(seq uint64, h nats.Header) error {
	in, err := strconv.ParseUint(h.Get(schemas.HeaderInputSeq), 10, 64)
	if err != nil {
		return fmt.Errorf("message %d of %s: header %s is %q, not a number", seq, o.subject, schemas.HeaderInputSeq, h.Get(schemas.HeaderInputSeq))
	}
	o.last, o.input, o.part, o.parts = seq, in, 1, 1
	if i, n, ok := strings.Cut(h.Get(HeaderPart), "/"); ok {
		if o.part, err = strconv.Atoi(i); err != nil {
			return fmt.Errorf("message %d of %s: header %s: %w", seq, o.subject, HeaderPart, err)
		}
		if o.parts, err = strconv.Atoi(n); err != nil {
			return fmt.Errorf("message %d of %s: header %s: %w", seq, o.subject, HeaderPart, err)
		}
	}
	return nil
}

// mark writes a message without slices, so that the last one with some need not
// stay on the bus to say how far the partition is published: it may bear a
// viewer's hash, and an idle partition would keep it for ever.
func (o *output) mark(ctx context.Context, input uint64) error {
	if input <= o.input {
		return nil
	}
	m := nats.NewMsg(o.subject)
	m.Header.Set(schemas.HeaderKind, KindMark)
	m.Header.Set(schemas.HeaderInputSeq, strconv.FormatUint(input, 10))
	m.Header.Set(schemas.HeaderRows, "0")
	return o.write(ctx, m, input, 1)
}

// publish writes what of the slices is not there yet and gives their number.
// It retries until it is done, ctx ends, or another reader has written (ErrFenced).
func (o *output) publish(ctx context.Context, slices []schemas.Slice, input uint64) (n int, err error) {
	if len(slices) == 0 || input < o.input {
		return 0, nil
	}
	parts := (len(slices) + maxSlices - 1) / maxSlices
	for i := range parts {
		if input == o.input && i < o.part {
			continue
		}
		chunk := slices[i*maxSlices : min((i+1)*maxSlices, len(slices))]
		data, err := schemas.EncodeSlices(chunk)
		if err != nil {
			return n, fmt.Errorf("encode slices: %w", err)
		}
		m := nats.NewMsg(o.subject)
		m.Data = data
		m.Header.Set(schemas.HeaderInputSeq, strconv.FormatUint(input, 10))
		m.Header.Set(schemas.HeaderRows, strconv.Itoa(len(chunk)))
		if parts > 1 {
			m.Header.Set(HeaderPart, fmt.Sprintf("%d/%d", i+1, parts))
		}
		if err := o.write(ctx, m, input, i+1); err != nil {
			return n, err
		}
		n += len(chunk)
	}
	return n, nil
}

func (o *output) write(ctx context.Context, m *nats.Msg, input uint64, part int) error {
	wait := 50 * time.Millisecond
	for {
		pctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		ack, err := o.js.PublishMsg(pctx, m, jetstream.WithExpectLastSequencePerSubject(o.last))
		cancel()
		if err == nil {
			if o.said {
				o.log.Info("slices are published again", "subject", o.subject)
				o.said = false
			}
			o.last, o.input, o.part = ack.Sequence, input, part
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		// The write may have happened although no answer came: what is on the subject decides.
		fence := o.last
		was := *o
		if oerr := o.open(ctx); oerr == nil && o.last != fence {
			if o.input == input && o.part == part {
				return nil
			}
			*o = was
			return fmt.Errorf("publish slices on %s: %w", o.subject, ErrFenced)
		}
		*o = was
		var api *jetstream.APIError
		if errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
			return fmt.Errorf("publish slices on %s: %w", o.subject, ErrFenced)
		}
		if !o.said {
			o.said = true
			o.log.Warn("slices cannot be published, trying again", "subject", o.subject, "err", err)
		}
		select {
		case <-time.After(wait):
			wait = min(2*wait, 2*time.Second)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
