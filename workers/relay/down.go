package relay

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/nap"
)

const (
	// downReach is how far back messages of the parent are taken that are not here
	// yet: more than routers look back when they start.
	downReach = 2 * time.Minute
	// downTimeout bounds the storing of one message.
	downTimeout = 3 * time.Second
	// clockSlack is how wrong a neighbour's clock may be measured: half of the longest ping.
	clockSlack = remoteTimeout / 2
)

// downFrom is one of the parent's streams that comes down.
type downFrom struct {
	stream, filter string
	headers        bool // without the messages' payload
}

// downAt is the last message here of what comes down: its sequence, that in the
// parent's stream, when it was stored here and how old it was then; zero where nothing is there.
type downAt struct {
	seq, via uint64
	stored   time.Time
	waited   time.Duration
}

// since is from when on the parent's are read, by this region's clock: what comes
// behind the last one was stored there after it, which was before it came here.
func (at *downAt) since(now time.Time) time.Time {
	since := now.Add(-downReach)
	if from := at.stored.Add(-at.waited - overlap); from.After(since) {
		return from
	}
	return since
}

// passed reads the last message that came from the parent.
func (at *downAt) passed(m *jetstream.RawStreamMsg, parent string) {
	if region, seq, err := parseRef(m.Header.Get(schemas.HeaderVia)); err == nil && region == parent {
		at.via, at.stored, at.waited = seq, m.Time, schemas.Waited(m.Header)
	}
}

// has tells whether a message of the parent, stored there at a time by this region's
// clock, is here: by both, since a parent that has lost its bus counts anew.
func (at *downAt) has(seq uint64, stored time.Time) bool {
	return seq <= at.via && stored.Before(at.stored.Add(clockSlack))
}

// keepOn repeats what brings something from the parent until ctx ends, and says why it does not
// come: once, until something has come, for which follow calls came.
func (n *node) keepOn(ctx context.Context, what string, follow func(came func()) error) {
	var last string
	came := func() { last = "" }
	for ctx.Err() == nil {
		switch err := follow(came); {
		case err == nil:
			came()
		case ctx.Err() == nil && err.Error() != last:
			last = err.Error()
			n.Logger.Warn(what+" do not come from the parent; trying again", "err", err)
		}
		_ = nap.For(ctx, again)
	}
}

// down reads one of the parent's streams.
type down struct {
	*remote
	l  *link
	at downAt // where it began
	n  *node
}

// openDown reads on behind the last message that is here, by time.
func (n *node) openDown(ctx context.Context, from downFrom, at downAt) (*down, error) {
	l := n.links[n.Parent]
	l.awaitClock(ctx)
	since := at.since(time.Now()).Add(l.clock())
	r, err := openRemote(ctx, l.js, n.Region, from.stream, jetstream.ConsumerConfig{
		FilterSubject: from.filter, DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &since, HeadersOnly: from.headers,
	})
	if err != nil {
		return nil, err
	}
	return &down{r, l, at, n}, nil
}

// next gives the next message that is not here yet. Nothing at all for as long as wait is an error.
func (d *down) next(ctx context.Context, wait time.Duration) (jetstream.Msg, *jetstream.MsgMetadata, error) {
	for {
		rctx, cancel := context.WithTimeout(ctx, wait)
		m, md, err := d.read(rctx)
		cancel()
		if err != nil || !d.at.has(md.Sequence.Stream, d.storedAt(md)) {
			return m, md, err
		}
		d.n.m.repeated.WithLabelValues(d.n.Parent).Inc()
	}
}

// storedAt is when a message was stored at the parent, by this region's clock.
func (d *down) storedAt(md *jetstream.MsgMetadata) time.Time {
	return md.Timestamp.Add(-d.l.clock())
}
