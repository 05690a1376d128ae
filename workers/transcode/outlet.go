package transcode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
)

// outlet publishes one rendition's messages. Each names the subject's last
// sequence, so that of two workers that both believe the stream theirs only one
// gets each message in, and what stands between two key frames is of one encoder.
type outlet struct {
	bus       *busHandles
	key       schemas.StreamKey
	rendition string
	subject   string
	last      uint64 // sequence of the subject's last message
	// epoch and seq are of the last message; had is false where no chunk of the epoch is known.
	epoch  uint32
	seq    uint64
	had    bool
	opened bool   // the epoch's opening, or a chunk of it, is the last message
	initID string // of the last chunk
	// known is what the last maker of the rendition said of it; nil if nobody has.
	known *schemas.RenditionState
}

// errLost: another worker publishes the rendition.
var errLost = errors.New("another worker publishes this rendition")

// openOutlet reads where the rendition stands.
func openOutlet(ctx context.Context, b *busHandles, key schemas.StreamKey, rendition string) (*outlet, error) {
	o := &outlet{bus: b, key: key, rendition: rendition, subject: schemas.MediaSubject(key, rendition)}
	m, err := b.media.GetLastMsgForSubject(ctx, o.subject)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
	case err != nil:
		return nil, fmt.Errorf("read the last message on %s: %w", o.subject, err)
	default:
		o.last = m.Sequence
		o.learn(m)
	}
	e, err := b.renditions.Get(ctx, key.KVKey()+"."+rendition)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return o, nil
	} else if err != nil {
		return nil, fmt.Errorf("read the state of rendition %s: %w", rendition, err)
	}
	var s schemas.RenditionState
	if json.Unmarshal(e.Value(), &s) == nil && len(s.Epoch.Tracks) == 1 {
		o.known = &s
	}
	return o, nil
}

func (o *outlet) learn(m *jetstream.RawStreamMsg) {
	switch m.Header.Get(schemas.HeaderKind) {
	case schemas.KindChunk:
		var c schemas.Chunk
		if json.Unmarshal([]byte(m.Header.Get(schemas.HeaderChunk)), &c) == nil {
			o.epoch, o.seq, o.had, o.opened = c.Epoch, c.Seq, true, true
			if len(c.Fragments) > 0 {
				o.initID = c.Fragments[0].InitID
			}
		}
	case schemas.KindEpoch:
		var e schemas.EpochOpen
		if json.Unmarshal(m.Data, &e) == nil {
			o.epoch, o.opened = e.Epoch, true
		}
	case schemas.KindEnd:
		o.epoch = endOf(m.Data)
	}
}

// endMark is what an end message holds.
type endMark struct {
	Epoch  uint32 `json:"epoch"`
	Reason string `json:"reason"`
}

func endOf(data []byte) uint32 {
	var e endMark
	if json.Unmarshal(data, &e) != nil {
		return 0
	}
	return e.Epoch
}

// open publishes the rendition's epoch.
func (o *outlet) open(ctx context.Context, e *schemas.EpochOpen) error {
	data, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode epoch: %w", err)
	}
	m := &nats.Msg{Subject: o.subject, Data: data, Header: nats.Header{schemas.HeaderKind: {schemas.KindEpoch}}}
	// The id holds the time: of two workers that open it one must be refused, not deduplicated.
	if err := o.publish(ctx, m, fmt.Sprintf("o/%s/%d/%d", o.subject, e.Epoch, time.Now().UnixNano())); err != nil {
		return err
	}
	o.epoch, o.opened, o.had = e.Epoch, true, false
	return nil
}

// end says that nothing follows in the epoch.
func (o *outlet) end(ctx context.Context, epoch uint32, reason string) error {
	data, err := json.Marshal(endMark{epoch, reason})
	if err != nil {
		return fmt.Errorf("encode end of epoch: %w", err)
	}
	m := &nats.Msg{Subject: o.subject, Data: data, Header: nats.Header{schemas.HeaderKind: {schemas.KindEnd}}}
	return o.publish(ctx, m, fmt.Sprintf("x/%s/%d", o.subject, epoch))
}

// chunk publishes a chunk; the first one under its id wins.
func (o *outlet) chunk(ctx context.Context, c *schemas.Chunk, payload []byte) error {
	head, err := c.EncodeHeader(payload)
	if err != nil {
		return fmt.Errorf("encode chunk: %w", err)
	}
	m := &nats.Msg{Subject: o.subject, Data: payload, Header: nats.Header{
		schemas.HeaderKind: {schemas.KindChunk}, schemas.HeaderChunk: {string(head)},
	}}
	if err := o.publish(ctx, m, c.MsgID()); err != nil {
		return err
	}
	o.epoch, o.seq, o.had = c.Epoch, c.Seq, true
	return nil
}

// busPatience is how long a message is offered again while the bus does not take it.
const busPatience = 10 * time.Second

func (o *outlet) publish(ctx context.Context, m *nats.Msg, id string) error {
	var since time.Time
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		began := time.Now()
		err := o.once(try, m, id)
		cancel()
		if err == nil || errors.Is(err, errLost) || ctx.Err() != nil {
			return err
		}
		if since.IsZero() {
			since = began
		}
		o.bus.held.Store(time.Now().UnixNano())
		if time.Since(since) > busPatience {
			return fmt.Errorf("the bus has not taken media for %s: %w", busPatience, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

func (o *outlet) once(ctx context.Context, m *nats.Msg, id string) error {
	ack, err := o.bus.js.PublishMsg(ctx, m, jetstream.WithMsgID(id),
		jetstream.WithExpectLastSequencePerSubject(o.last), jetstream.WithRetryAttempts(0))
	var stored *jetstream.RawStreamMsg
	var api *jetstream.APIError
	switch {
	case err == nil && !ack.Duplicate:
		o.last = ack.Sequence
		return nil
	case err == nil:
		// Ours, whose acknowledgement was lost, or another worker's.
		if stored, err = o.bus.media.GetMsg(ctx, ack.Sequence); err != nil {
			return fmt.Errorf("read the message that was first under id %s: %w", id, err)
		}
	case errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence:
		stored, err = o.bus.media.GetLastMsgForSubject(ctx, o.subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) { // all of it has expired
			o.last = 0
			return errors.New("the rendition's last message has expired")
		} else if err != nil {
			return fmt.Errorf("read the last message on %s: %w", o.subject, err)
		}
	default:
		return fmt.Errorf("publish on %s: %w", o.subject, err)
	}
	same := stored.Header.Get(jetstream.MsgIDHeader) == id && stored.Header.Get(schemas.HeaderChunk) == m.Header.Get(schemas.HeaderChunk) &&
		string(stored.Data) == string(m.Data)
	if !same {
		return fmt.Errorf("%w: its message %d is %s", errLost, stored.Sequence, stored.Header.Get(jetstream.MsgIDHeader))
	}
	o.last = stored.Sequence
	return nil
}
