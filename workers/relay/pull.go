package relay

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/nap"
)

// pull takes one stream from a neighbour.
type pull struct {
	n      *node
	key    schemas.StreamKey
	via    string
	cancel context.CancelFunc
	done   chan struct{}
	// flows: what the neighbour had at the start is here, so that others may take it here.
	flows atomic.Bool
	// behind is how many messages the neighbour had, and this region had not, when it last said.
	behind atomic.Uint64
	// live: the stream is being published, so messages should come.
	live atomic.Bool

	// Of look.
	wanted, said time.Time

	// Of run.
	heads  map[string]*head // by subject
	kept   time.Duration    // how long MEDIA keeps messages here; 0: for ever
	silent bool             // nothing came of a live stream: what is known of the neighbour's sequences may be wrong
}

// head is the last message of a subject in this region.
type head struct {
	place
	seq uint64 // in MEDIA here
	via string // where it came from, and its sequence there
	at  time.Time
}

// errAged: what came is behind a head that MEDIA does not keep any more. The region
// of the publisher has lost what it knew, and counts anew.
var errAged = errors.New("it is numbered lower than what was kept here before")

// passes tells whether a message at that place comes after the head, which may be nil.
func (h *head) passes(at *place, kept time.Duration, now time.Time) (bool, error) {
	switch {
	case h == nil || at.after(&h.place):
		return true, nil
	case kept > 0 && now.Sub(h.at) > kept:
		return false, errAged
	}
	return false, nil
}

// start begins to pull; before, which may be nil, is a pull of the stream that ends first.
func (n *node) start(ctx context.Context, k schemas.StreamKey, via string, before *pull) *pull {
	ctx, cancel := context.WithCancel(ctx)
	p := &pull{n: n, key: k, via: via, cancel: cancel, done: make(chan struct{}), heads: map[string]*head{}}
	if before != nil {
		p.wanted = before.wanted
		p.flows.Store(before.flows.Load())
	}
	n.pulls[k] = p
	n.Logger.Info("stream is pulled", "stream", k.String(), "neighbour", via)
	n.wg.Go(func() {
		defer close(p.done)
		defer cancel()
		if before != nil {
			<-before.done
		}
		p.run(ctx)
	})
	return p
}

func (n *node) end(k schemas.StreamKey, p *pull) {
	p.cancel()
	delete(n.pulls, k)
	n.Logger.Info("stream is let go", "stream", k.String(), "neighbour", p.via)
}

func (p *pull) run(ctx context.Context) {
	var last string
	for opened := false; ctx.Err() == nil; opened = true {
		if opened {
			p.n.m.reopened.WithLabelValues(p.via).Inc()
		}
		err := p.follow(ctx)
		if err != nil && ctx.Err() == nil && err.Error() != last {
			last = err.Error()
			p.n.Logger.Warn("stream is not coming; trying again", "stream", p.key.String(), "neighbour", p.via, "err", err)
		}
		_ = nap.For(ctx, again)
	}
}

// follow reads the neighbour's messages from where this region stands.
func (p *pull) follow(ctx context.Context) error {
	if err := p.load(ctx); err != nil {
		return err
	}
	l := p.n.links[p.via]
	cfg := p.from(l.clock(), time.Now())
	cfg.FilterSubject = schemas.MediaFilter(p.key)
	r, err := openRemote(ctx, l.js, p.n.Region, schemas.StreamMedia, cfg)
	if err != nil {
		return err
	}
	defer r.close()
	p.behind.Store(r.pending)
	if r.pending == 0 {
		p.caughtUp()
	}
	lag := p.n.m.lag.WithLabelValues(p.via)
	for {
		m, md, err := p.next(ctx, r)
		if err != nil {
			return err
		}
		if err := p.take(ctx, m, md); err != nil {
			return err
		}
		p.behind.Store(md.NumPending)
		if md.NumPending == 0 {
			lag.Observe(max(0, time.Since(md.Timestamp.Add(-l.clock())).Seconds()))
			p.caughtUp()
		}
	}
}

// silence is how long nothing may come of a live stream before it is read anew by time:
// a neighbour whose MEDIA was lost counts from 1 again, and a consumer behind that waits for ever.
const silence = 8 * time.Second

// next gives the next message.
func (p *pull) next(ctx context.Context, r *remote) (jetstream.Msg, *jetstream.MsgMetadata, error) {
	for {
		rctx, cancel := context.WithTimeout(ctx, silence)
		m, md, err := r.read(rctx)
		cancel()
		switch {
		case err == nil:
			p.silent = false
			return m, md, nil
		case ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded):
			return nil, nil, err
		case p.live.Load() && !p.silent:
			p.silent = true
			return nil, nil, fmt.Errorf("nothing came of the live stream for %v", silence)
		}
	}
}

func (p *pull) caughtUp() {
	if !p.flows.Swap(true) {
		p.n.wake()
	}
}

// load finds where this region stands: the last message of each subject.
func (p *pull) load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	info, err := p.n.media.Info(ctx, jetstream.WithSubjectFilter(schemas.MediaFilter(p.key)))
	if err != nil {
		return fmt.Errorf("find what this region has of %s: %w", p.key, err)
	}
	p.kept = info.Config.MaxAge
	clear(p.heads) // what has aged out here has done so there
	for subject := range info.State.Subjects {
		m, err := p.n.media.GetLastMsgForSubject(ctx, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read the last message of %s: %w", subject, err)
		}
		at, err := placeOf(p.n.Region, m.Sequence, m.Header, m.Data)
		if err != nil {
			return fmt.Errorf("the last message of %s: %w", subject, err)
		}
		p.heads[subject] = &head{place: at, seq: m.Sequence, via: m.Header.Get(schemas.HeaderVia), at: m.Time}
	}
	return nil
}

// overlap is how much earlier than it may stand here a stream is read from
// another neighbour: clocks and links differ, and what is here is passed over.
const overlap = 10 * time.Second

// from says where reading begins: behind the last message that came from this
// neighbour; some time before the last one that came from another; or Reach ago.
func (p *pull) from(ahead time.Duration, now time.Time) jetstream.ConsumerConfig {
	var seq uint64
	start := now.Add(-p.n.Reach)
	for _, h := range p.heads {
		if region, s, err := parseRef(h.via); err == nil && region == p.via {
			seq = max(seq, s) // those of its other subjects before this one were taken too
		} else if at := h.at.Add(-overlap); at.Before(start) {
			start = at
		}
	}
	if seq > 0 && !p.silent {
		return jetstream.ConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: seq + 1}
	}
	start = start.Add(ahead)
	return jetstream.ConsumerConfig{DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &start}
}

// take publishes a message here, unless it is here.
func (p *pull) take(ctx context.Context, m jetstream.Msg, md *jetstream.MsgMetadata) error {
	subject := m.Subject()
	if k, _, err := schemas.ParseMediaSubject(subject); err != nil || k != p.key {
		return fmt.Errorf("the neighbour sent a message of %.200q", subject)
	}
	at, err := placeOf(p.via, md.Sequence.Stream, m.Headers(), m.Data())
	if err != nil { // a reader could do nothing with it either
		p.n.Logger.Warn("message passed over", "subject", subject, "neighbour", p.via, "seq", md.Sequence.Stream, "err", err)
		return nil
	}
	h := p.heads[subject]
	passes, err := h.passes(&at, p.kept, time.Now())
	if err != nil {
		return err // where this region stands is looked up again
	}
	if !passes {
		p.n.m.repeated.WithLabelValues(p.via).Inc()
		return nil
	}
	for _, id := range at.inits {
		if err := p.n.haveInit(ctx, p.via, id); err != nil {
			return err
		}
	}
	next := &head{place: at, via: ref(p.via, md.Sequence.Stream), at: time.Now()}
	out := &nats.Msg{Subject: subject, Data: m.Data(), Header: nats.Header{
		schemas.HeaderKind: {m.Headers().Get(schemas.HeaderKind)},
		schemas.HeaderHome: {ref(at.home, at.homeSeq)}, schemas.HeaderVia: {next.via},
	}}
	for _, name := range []string{schemas.HeaderChunk, jetstream.MsgIDHeader} {
		if v := m.Headers().Get(name); v != "" {
			out.Header.Set(name, v)
		}
	}
	if err := p.publish(ctx, out, h, next); err != nil {
		return err
	}
	p.heads[subject] = next
	p.n.m.messages.WithLabelValues(p.via).Inc()
	p.n.m.bytes.WithLabelValues(p.via).Add(float64(len(m.Data()) + len(m.Headers().Get(schemas.HeaderChunk))))
	return nil
}

// publish writes a message behind the head that is known, and nowhere else: what
// another has written in between, a relay that was thought dead or a publisher
// of this region, is an error, and where the stream stands is looked up again.
func (p *pull) publish(ctx context.Context, m *nats.Msg, h, next *head) error {
	var last uint64
	if h != nil {
		last = h.seq
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	ack, err := p.n.js.PublishMsg(ctx, m, jetstream.WithExpectLastSequencePerSubject(last))
	if err != nil {
		return fmt.Errorf("publish on %s: %w", m.Subject, err)
	}
	if ack.Duplicate {
		return fmt.Errorf("%s is on the bus already", m.Header.Get(jetstream.MsgIDHeader))
	}
	next.seq = ack.Sequence
	return nil
}
