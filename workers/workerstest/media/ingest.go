package media

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

// Announce does what ingest does when an epoch opens: inits, state, opening message.
func (p *Publisher) Announce(ctx context.Context, js jetstream.JetStream) error {
	inits, err := js.KeyValue(ctx, schemas.BucketInits)
	if err != nil {
		return err
	}
	for _, init := range [][]byte{p.Clip.video.init, p.Clip.audio.init} {
		if _, err := inits.Put(ctx, schemas.InitID(init), init); err != nil {
			return err
		}
	}
	if err := p.PutState(ctx, js, true); err != nil {
		return err
	}
	b, err := json.Marshal(p.Open())
	if err != nil {
		return err
	}
	return p.send(ctx, js, schemas.KindEpoch, b, fmt.Sprintf("e/%s/%d", p.Key, p.Epoch))
}

// PutState writes the bucket streams as of now.
func (p *Publisher) PutState(ctx context.Context, js jetstream.JetStream, live bool) error {
	streams, err := js.KeyValue(ctx, schemas.BucketStreams)
	if err != nil {
		return err
	}
	s := p.State(time.Now())
	s.Live = live
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	_, err = streams.Put(ctx, p.Key.KVKey(), b)
	return err
}

// Push publishes the next chunk.
func (p *Publisher) Push(ctx context.Context, js jetstream.JetStream) error {
	c, payload := p.Chunk()
	m, err := Message(c, payload)
	if err != nil {
		return err
	}
	return put(ctx, js, &nats.Msg{Subject: m.Subject, Header: m.Header, Data: m.Data}, c.MsgID())
}

// End publishes the end of the epoch.
func (p *Publisher) End(ctx context.Context, js jetstream.JetStream) error {
	b := fmt.Appendf(nil, `{"epoch":%d,"reason":"unpublished"}`, p.Epoch)
	return p.send(ctx, js, schemas.KindEnd, b, fmt.Sprintf("x/%s/%d", p.Key, p.Epoch))
}

func (p *Publisher) send(ctx context.Context, js jetstream.JetStream, kind string, b []byte, id string) error {
	p.defaults()
	return put(ctx, js, &nats.Msg{Subject: schemas.MediaSubject(p.Key, p.Rendition), Header: nats.Header{schemas.HeaderKind: {kind}}, Data: b}, id)
}

// put publishes on a subject of MEDIA and names the message before, as every writer does.
func put(ctx context.Context, js jetstream.JetStream, m *nats.Msg, id string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute) // without a deadline each request has 5 s, which a busy machine may need
	defer cancel()
	s, err := js.Stream(ctx, schemas.StreamMedia)
	if err != nil {
		return err
	}
	var seq uint64
	switch last, err := s.GetLastMsgForSubject(ctx, m.Subject); {
	case err == nil:
		seq = last.Sequence
	case !errors.Is(err, jetstream.ErrMsgNotFound):
		return err
	}
	_, err = js.PublishMsg(ctx, m, jetstream.WithMsgID(id), jetstream.WithExpectLastSequencePerSubject(seq))
	return err
}
