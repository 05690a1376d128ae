package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/nap"
)

// lane is a part of what goes up: the subjects of one stream that one consumer reads.
type lane struct {
	stream  string
	name    string
	filters []string
	window  int // messages under way at once
}

// lanes gives what goes up. A telemetry partition has one message under way:
// readers know batches by their producer's counter, and the order matters.
func lanes() []lane {
	out := []lane{
		{schemas.StreamEvents, "events", []string{"events.>"}, 64},
		{schemas.StreamDecisions, "decisions", []string{"decisions.>", "exposures.*"}, 64},
	}
	for p := range schemas.TelemetryPartitions {
		subject := schemas.TelemetrySubject(p)
		out = append(out, lane{schemas.StreamTelemetry, strings.ReplaceAll(subject, ".", "-"), []string{subject}, 1})
	}
	return out
}

const (
	// upTimeout bounds the wait for the parent's word that it has stored a message.
	upTimeout = 3 * time.Second
	// purgeEvery is how often telemetry that the parent has is deleted here.
	purgeEvery = 10 * time.Second
)

// uplink gives the parent what this region's collectors and routers wrote. What
// the parent has not acknowledged stays in this region's streams.
func (n *node) uplink(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range lanes() {
		octx, cancel := context.WithTimeout(ctx, 10*time.Second)
		c, err := n.js.CreateOrUpdateConsumer(octx, l.stream, jetstream.ConsumerConfig{
			Durable: "uplink-" + l.name, FilterSubjects: l.filters, AckPolicy: jetstream.AckExplicitPolicy,
			AckWait: 4 * upTimeout, MaxAckPending: l.window, MaxDeliver: -1,
		})
		cancel()
		if err != nil {
			return fmt.Errorf("read %s for the parent: %w", l.stream, err)
		}
		g.Go(func() error { n.goUp(ctx, l, c); return nil })
	}
	g.Go(func() error { n.purgeTelemetry(ctx); return nil })
	return g.Wait()
}

// goUp sends the messages of a lane, each until the parent has it.
func (n *node) goUp(ctx context.Context, l lane, c jetstream.Consumer) {
	places := make(chan struct{}, l.window)
	var wg sync.WaitGroup
	defer wg.Wait()
	for ctx.Err() == nil {
		it, err := c.Messages(jetstream.PullMaxMessages(max(1, l.window)), jetstream.PullHeartbeat(2*time.Second))
		if err != nil {
			_ = nap.For(ctx, again)
			continue
		}
		for {
			m, err := it.Next(jetstream.NextContext(ctx))
			if err != nil {
				break
			}
			places <- struct{}{}
			wg.Go(func() {
				defer func() { <-places }()
				n.send(ctx, l, m)
			})
		}
		it.Stop()
		_ = nap.For(ctx, again)
	}
}

// send repeats a message until the parent has stored it; what it refuses for good is logged and left behind.
func (n *node) send(ctx context.Context, l lane, m jetstream.Msg) {
	for told := false; ctx.Err() == nil; {
		again, err := n.sendOnce(ctx, l, m)
		if err == nil {
			n.m.sent.WithLabelValues(l.stream).Inc()
		} else if !again {
			n.Logger.Error("the parent refuses a message of this region: it is lost there", "subject", m.Subject(), "err", err)
		}
		if !again {
			actx, cancel := context.WithTimeout(context.WithoutCancel(ctx), upTimeout)
			_ = m.DoubleAck(actx) // delivered again, it is a duplicate, and known by its id or counter
			cancel()
			return
		}
		if !told && ctx.Err() == nil {
			told = true
			n.Logger.Warn("the parent does not take this region's messages; they wait here", "stream", l.stream, "err", err)
		}
		_ = m.InProgress()
		_ = nap.For(ctx, time.Second)
	}
}

// sendOnce asks the parent to store a message; again tells whether to ask once more.
func (n *node) sendOnce(ctx context.Context, l lane, m jetstream.Msg) (again bool, err error) {
	if m.Headers().Get(schemas.HeaderKind) == "tick" { // a sessioniser's, of this bus alone
		return false, nil
	}
	out := &nats.Msg{Subject: schemas.RegionUp(n.Parent, n.Region, m.Subject()), Data: m.Data(), Header: headerUp(m.Headers())}
	if md, err := m.Metadata(); err == nil {
		l.age(out.Header, time.Since(md.Timestamp))
	}
	ctx, cancel := context.WithTimeout(ctx, upTimeout)
	defer cancel()
	a, err := n.Conn.RequestMsgWithContext(ctx, out)
	switch {
	case err != nil:
		return true, err
	case strings.HasPrefix(string(a.Data), "+"):
		return false, nil
	}
	return !strings.HasPrefix(string(a.Data), "-"), errors.New(strings.TrimSpace(string(a.Data)))
}

// headerUp gives what goes up of a message's header: not the bus's own, but the id that makes a repeat harmless.
func headerUp(h nats.Header) nats.Header {
	out := nats.Header{}
	for name, v := range h {
		if !strings.HasPrefix(name, "Nats-") || name == jetstream.MsgIDHeader {
			out[name] = v
		}
	}
	return out
}

// age says of a decision that goes up how old it is after d in this region's stream, so
// that the parent's routers do not take one that waited for the link for one of now.
func (l lane) age(h nats.Header, d time.Duration) {
	if l.stream == schemas.StreamDecisions {
		olderBy(h, d)
	}
}

// olderBy adds to how long a message has waited.
func olderBy(h nats.Header, d time.Duration) { schemas.SetWaited(h, schemas.Waited(h)+max(d, 0)) }

// purgeTelemetry deletes what the parent has of TELEMETRY, which refuses new batches when it is full.
func (n *node) purgeTelemetry(ctx context.Context) {
	t := time.NewTicker(purgeEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		for _, l := range lanes() {
			if err := n.purgeLane(ctx, l); err != nil && ctx.Err() == nil {
				n.Logger.Debug("delete what the parent has", "stream", l.stream, "err", err)
			}
		}
	}
}

func (n *node) purgeLane(ctx context.Context, l lane) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := n.js.Consumer(ctx, l.stream, "uplink-"+l.name)
	if err != nil {
		return err
	}
	info := c.CachedInfo()
	n.m.uplink.WithLabelValues(l.name).Set(float64(info.NumPending) + float64(info.NumAckPending))
	if l.stream != schemas.StreamTelemetry || info.AckFloor.Stream == 0 {
		return nil
	}
	s, err := n.js.Stream(ctx, l.stream)
	if err != nil {
		return err
	}
	return s.Purge(ctx, jetstream.WithPurgeSubject(l.filters[0]), jetstream.WithPurgeSequence(info.AckFloor.Stream+1))
}

// maxReceiving bounds neighbours' messages that are being stored.
const maxReceiving = 256

// receiver stores what neighbours send up. The answer "+" says that it is
// stored, "-" and a reason that it never will be, anything else that it may be
// sent again.
func (n *node) receiver(ctx context.Context) nats.MsgHandler {
	places := make(chan struct{}, maxReceiving)
	return func(m *nats.Msg) {
		select {
		case places <- struct{}{}:
		default:
			_ = m.Respond([]byte("!busy"))
			return
		}
		go func() {
			defer func() { <-places }()
			from, err := n.receive(ctx, m)
			answer := "+"
			var bad *refusal
			switch {
			case errors.As(err, &bad):
				n.m.refused.WithLabelValues(from).Inc()
				answer = "-" + err.Error()
			case err != nil:
				answer = "!" + err.Error()
			default:
				n.m.received.WithLabelValues(from).Inc()
			}
			_ = m.Respond([]byte(answer)) // unanswered, it is sent again
		}()
	}
}

// refusal is an error that no repetition helps.
type refusal struct{ why string }

func (r *refusal) Error() string { return r.why }

// receive stores one message; from is the neighbour, "unknown" where it is none.
func (n *node) receive(ctx context.Context, m *nats.Msg) (from string, err error) {
	f := strings.SplitN(m.Subject, ".", 5)
	if len(f) != 5 || n.links[f[3]] == nil {
		return "unknown", &refusal{"this is not a neighbouring region of " + n.Region}
	}
	from, subject := f[3], f[4]
	if !goesUp(subject) {
		return from, &refusal{fmt.Sprintf("messages on %.100q are not taken", subject)}
	}
	out := &nats.Msg{Subject: subject, Data: m.Data, Header: headerUp(m.Header)}
	cameFrom(out, from)
	ctx, cancel := context.WithTimeout(ctx, upTimeout)
	defer cancel()
	_, err = n.js.PublishMsg(ctx, out, jetstream.WithRetryAttempts(0))
	return from, err
}

// cameFrom notes on decisions which region they came from, so that they do not go down there again.
func cameFrom(m *nats.Msg, region string) {
	if strings.HasPrefix(m.Subject, "decisions.") {
		path := append(strings.Fields(m.Header.Get(schemas.HeaderPath)), region)
		m.Header.Set(schemas.HeaderPath, strings.Join(path[max(len(path)-schemas.MaxRegionHops, 0):], " "))
	}
}

// goesUp tells whether a subject is of telemetry, events, decisions or exposures.
func goesUp(subject string) bool {
	if _, err := schemas.ParsePartitionSubject("telemetry", subject); err == nil {
		return true
	}
	f := strings.Split(subject, ".")
	for _, token := range f {
		if schemas.CheckName("", token) != nil {
			return false
		}
	}
	switch f[0] {
	case "events", "decisions":
		return len(f) == 4
	case "exposures":
		return len(f) == 2
	}
	return false
}
