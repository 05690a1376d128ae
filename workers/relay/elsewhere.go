package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/schemas"
)

// Decisions are gathered for gatherFor, and until there are gatherEnough of them, before they are written here:
// routers of a crowd make thousands a second, in messages of a stream each.
const (
	gatherFor    = 10 * time.Millisecond
	gatherEnough = schemas.MaxElsewhere / 2
)

// decisionsDown is one of the two ways on which decisions come down, and the subject here that they are written on.
type decisionsDown struct {
	from    downFrom
	subject string
}

// decisionsComeDown gives both. What the parent has in DECISIONS was made in its region or came up to it, what it has
// in ELSEWHERE came down to it, so each decision comes on one of the two, once.
func decisionsComeDown() []decisionsDown {
	return []decisionsDown{
		{downFrom{schemas.StreamDecisions, "decisions.>", true}, schemas.SubjectElsewhereParent},
		{downFrom{schemas.StreamElsewhere, "elsewhere.*", false}, schemas.SubjectElsewhereBeyond},
	}
}

// takeDecisions brings where routers of other regions send sessions, until ctx ends, so
// that routers here count those at once and not when slices tell of them. Decisions that
// were made here or in a region below, which went up to the parent, are passed over.
// What comes is written to a stream of its own: it goes up to nobody and is loaded nowhere.
func (n *node) takeDecisions(ctx context.Context) error {
	octx, cancel := context.WithTimeout(ctx, 10*time.Second)
	stream, err := n.js.Stream(octx, schemas.StreamElsewhere)
	cancel()
	if err != nil {
		return fmt.Errorf("open stream %s: %w", schemas.StreamElsewhere, err)
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, way := range decisionsComeDown() {
		var read readTo
		g.Go(func() error {
			n.keepOn(ctx, "decisions of other regions", func(came func()) error { return n.followDecisions(ctx, stream, way, &read, came) })
			return nil
		})
	}
	return g.Wait()
}

// followDecisions reads on from the last message that is here, or behind it where nothing was worth writing.
func (n *node) followDecisions(ctx context.Context, stream jetstream.Stream, way decisionsDown, read *readTo, came func()) error {
	at, err := n.lastDecisions(ctx, stream, way.subject)
	if err != nil {
		return err
	}
	at = read.from(at, time.Now())
	d, err := n.openDown(ctx, way.from, at)
	if err != nil {
		return err
	}
	defer d.close()
	for {
		b, ended := n.gather(ctx, d)
		if b != nil {
			wrote := read.wrote
			if len(b.told) > 0 {
				if at.seq, err = n.stillLast(ctx, stream, way.subject, at.seq, wrote); err != nil {
					return err
				}
				wrote = time.Now()
			}
			if at.seq, err = n.putDecisions(ctx, way.subject, b, at.seq); err != nil {
				return err
			}
			came()
			*read = readTo{downAt{at.seq, b.last, b.read, b.read.Sub(b.stored)}, wrote}
		}
		if errors.Is(ended, context.DeadlineExceeded) {
			return nil // as with slices
		}
		if ended != nil {
			return ended
		}
	}
}

// readTo is how far one of the ways was read.
type readTo struct {
	downAt
	wrote time.Time // when something of it was last written here; zero: this process has written nothing
}

// from is where to read on, given what is the last message here: what was not worth writing
// is not read again. Messages here expire; where none was written for as long as one reads back,
// what is gone would not be read again either.
func (r *readTo) from(here downAt, now time.Time) downAt {
	expired := here.seq == 0 && now.Sub(r.wrote) > downReach
	if r.via == 0 || r.seq != here.seq && !expired {
		return here
	}
	at := r.downAt
	at.seq = here.seq
	return at
}

// stillLast gives what is now the last message of a subject, where that may have expired since
// something was written: the bus takes nothing behind a message that is gone.
func (n *node) stillLast(ctx context.Context, stream jetstream.Stream, subject string, last uint64, wrote time.Time) (uint64, error) {
	if last == 0 || time.Since(wrote) <= downReach {
		return last, nil
	}
	here, err := n.lastDecisions(ctx, stream, subject)
	if err == nil && here.seq != 0 && here.seq != last {
		err = fmt.Errorf("store decisions of other regions: another relay writes %s: its last message is %d, not %d", subject, here.seq, last)
	}
	if err != nil {
		return last, err
	}
	return here.seq, nil
}

// batch is what was read of the parent's decisions at once.
type batch struct {
	told        []decided
	first, last uint64    // sequences of the messages in the parent's stream
	stored      time.Time // of the last one there, by this region's clock
	read        time.Time
}

// decided is one decision that is worth writing.
type decided struct {
	schemas.Where
	at   time.Time // when it was made, by the clock of this region
	path string    // the regions it comes down through
}

// gather reads what there is. With an error there may be some, too.
func (n *node) gather(ctx context.Context, d *down) (*batch, error) {
	m, md, err := d.next(ctx, silence)
	if err != nil {
		return nil, err
	}
	b := &batch{first: md.Sequence.Stream}
	for until := time.Now().Add(gatherFor); ; {
		b.read = time.Now()
		b.last, b.stored = md.Sequence.Stream, d.storedAt(md)
		b.told = n.appendDecided(b.told, m, b.stored, b.read)
		n.m.lag.WithLabelValues(n.Parent).Observe(max(b.read.Sub(b.stored).Seconds(), 0))
		wait := until.Sub(b.read)
		if len(b.told) >= gatherEnough || wait <= 0 {
			return b, nil
		}
		if m, md, err = d.next(ctx, wait); errors.Is(err, context.DeadlineExceeded) {
			return b, nil
		}
		if err != nil {
			return b, err
		}
	}
}

// appendDecided appends the decisions of a message that was stored at the parent then: not
// those of this region and of the ones below it, and not what is too old for any router.
func (n *node) appendDecided(out []decided, m jetstream.Msg, stored, now time.Time) []decided {
	h := m.Headers()
	path := h.Get(schemas.HeaderPath)
	if slices.Contains(strings.Fields(path), n.Region) {
		return out
	}
	newest := stored.Add(-schemas.Waited(h))
	add := func(older time.Duration, w schemas.Where, path string) {
		if at := newest.Add(-older); now.Sub(at) <= downReach {
			out = append(out, decided{w, at, path})
		}
	}
	if _, told := h[schemas.HeaderWhere]; told || strings.HasPrefix(m.Subject(), "decisions.") {
		all, newestUs := schemas.ReadWheres(nil, h[schemas.HeaderWhere])
		for i := range all {
			add(all[i].OlderThan(newestUs), all[i], n.Parent)
		}
		return out
	}
	path += " " + n.Parent
	if err := schemas.ReadElsewhere(m.Data(), func(older time.Duration, w schemas.Where) { add(older, w, path) }); err != nil {
		n.m.refused.WithLabelValues(n.Parent).Inc()
		n.Logger.Warn("decisions of other regions are not understood", "subject", m.Subject(), "err", err)
	}
	return out
}

// putDecisions writes a batch behind the message that is known to be the last of the
// subject, and gives the last one's sequence. Whoever else writes, another relay that has
// taken over, is refused by the bus, or this one.
func (n *node) putDecisions(ctx context.Context, subject string, b *batch, last uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, downTimeout)
	defer cancel()
	for len(b.told) > 0 {
		some := runOf(b.told)
		b.told = b.told[len(some):]
		via := b.last
		if len(b.told) > 0 {
			via = b.first - 1 // should this be the last that is written, all of the batch is read again
		}
		m := n.elsewhereMsg(subject, some, via, time.Now())
		ack, err := n.js.PublishMsg(ctx, m, jetstream.WithExpectLastSequencePerSubject(last), jetstream.WithRetryAttempts(0))
		if err != nil {
			return last, fmt.Errorf("store decisions of other regions: %w", err)
		}
		last = ack.Sequence
		n.m.messages.WithLabelValues(n.Parent).Inc()
		n.m.bytes.WithLabelValues(n.Parent).Add(float64(len(m.Data)))
		n.m.decisions.WithLabelValues(n.Parent).Add(float64(len(some)))
	}
	return last, nil
}

// runOf gives those at the beginning that go into one message: they came on one way.
func runOf(told []decided) []decided {
	i := 1
	for i < len(told) && i < schemas.MaxElsewhere && told[i].path == told[0].path {
		i++
	}
	return told[:i]
}

// elsewhereMsg is what is written of them, and how old the newest one is by now.
func (n *node) elsewhereMsg(subject string, told []decided, via uint64, now time.Time) *nats.Msg {
	newest := told[0].at
	for i := range told {
		if told[i].at.After(newest) {
			newest = told[i].at
		}
	}
	m := &nats.Msg{Subject: subject, Header: nats.Header{}, Data: make([]byte, 0, 96*len(told))}
	for i := range told {
		m.Data = schemas.AppendElsewhere(m.Data, newest.Sub(told[i].at), told[i].Where)
	}
	m.Header.Set(schemas.HeaderVia, n.Parent+"/"+strconv.FormatUint(via, 10))
	m.Header.Set(schemas.HeaderPath, told[0].path)
	schemas.SetWaited(m.Header, now.Sub(newest))
	return m
}

func (n *node) lastDecisions(ctx context.Context, stream jetstream.Stream, subject string) (downAt, error) {
	ctx, cancel := context.WithTimeout(ctx, downTimeout)
	defer cancel()
	m, err := stream.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return downAt{}, nil
	}
	if err != nil {
		return downAt{}, fmt.Errorf("read the last message of %s: %w", subject, err)
	}
	at := downAt{seq: m.Sequence}
	at.passed(m, n.Parent)
	return at, nil
}
