package relay

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
)

const (
	// slicesKept is how long this region keeps them, and maxSlicesKept how many
	// bytes: routers read them as they come.
	slicesKept    = 5 * time.Minute
	maxSlicesKept = 1 << 30
	// slicesHeld is how old all of those are that a relay which starts deletes: routers that start
	// while none come read on from before the last one, for as long as the last state counts (load.HoldFor, twice).
	slicesHeld = 25 * time.Minute
)

// takeSlices brings the parent's session slices, until ctx ends: telemetry goes
// up to where it is made into sessions, and this is what comes of it, so that
// routers here see how CDNs serve.
func (n *node) takeSlices(ctx context.Context) error {
	octx, cancel := context.WithTimeout(ctx, 10*time.Second)
	stream, err := n.js.Stream(octx, schemas.StreamSlices)
	cancel()
	if err != nil {
		return fmt.Errorf("open stream %s: %w", schemas.StreamSlices, err)
	}
	var kept marks
	n.keepOn(ctx, "session slices", func(came func()) error { return n.followSlices(ctx, stream, &kept, came) })
	return nil
}

// followSlices reads on from the last message that is here.
func (n *node) followSlices(ctx context.Context, stream jetstream.Stream, kept *marks, came func()) error {
	at, info, err := n.lastSlices(ctx, stream)
	if err != nil {
		return err
	}
	if kept.forgot(&info.State, time.Now()) {
		n.purgeSlices(ctx, stream, at.seq)
	}
	r, err := n.openDown(ctx, downFrom{schemas.StreamSlices, "slices.*", false}, at)
	if err != nil {
		return err
	}
	defer r.close()
	for {
		m, md, err := r.next(ctx, silence)
		if errors.Is(err, context.DeadlineExceeded) {
			return nil // what was lost when the link was cut for a moment is missed when the next comes, or by looking again
		}
		if err != nil {
			return err
		}
		if at.seq, err = n.putSlices(ctx, m, md, at.seq); err != nil {
			if refusedByFull(err) {
				n.purgeSlices(ctx, stream, at.seq)
			}
			return err
		}
		came()
		if seq := kept.passed(at.seq, len(m.Data()), time.Now()); seq > 0 {
			n.purgeSlices(ctx, stream, seq)
		}
	}
}

// purgeSlices deletes what is before a message: this region keeps none of it for itself.
func (n *node) purgeSlices(ctx context.Context, stream jetstream.Stream, before uint64) {
	if before == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, downTimeout)
	defer cancel()
	if err := stream.Purge(ctx, jetstream.WithPurgeSequence(before)); err != nil && ctx.Err() == nil {
		n.Logger.Warn("old session slices cannot be deleted", "err", err)
	}
}

// refusedByFull tells whether the bus refused a message for another reason than that
// something else was written meanwhile: SLICES takes nothing more when it is full.
func refusedByFull(err error) bool {
	var bad *jetstream.APIError
	return errors.As(err, &bad) && bad.ErrorCode != jetstream.JSErrCodeStreamWrongLastSequence && bad.ErrorCode != jetstream.JSErrCodeStreamWrongLastSequenceConstant
}

func (n *node) lastSlices(ctx context.Context, stream jetstream.Stream) (downAt, *jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, downTimeout)
	defer cancel()
	info, err := stream.Info(ctx)
	if err != nil {
		return downAt{}, nil, fmt.Errorf("read %s: %w", schemas.StreamSlices, err)
	}
	at := downAt{seq: info.State.LastSeq}
	if info.State.Msgs == 0 {
		return at, info, nil
	}
	m, err := stream.GetMsg(ctx, at.seq)
	if err != nil {
		return at, nil, fmt.Errorf("read the last message of %s: %w", schemas.StreamSlices, err)
	}
	at.passed(m, n.Parent)
	return at, info, nil
}

// putSlices stores a message behind the last one that is known here, and gives
// its sequence. Whoever else writes, another relay that has taken over, is refused by the bus, or this one.
func (n *node) putSlices(ctx context.Context, m jetstream.Msg, md *jetstream.MsgMetadata, last uint64) (uint64, error) {
	out := &nats.Msg{Subject: m.Subject(), Data: m.Data(), Header: nats.Header{}}
	if _, err := schemas.ParsePartitionSubject("slices", m.Subject()); err != nil {
		n.m.refused.WithLabelValues(n.Parent).Inc()
		return last, nil
	}
	for name, v := range m.Headers() {
		if !strings.HasPrefix(name, "Nats-") {
			out.Header[name] = v
		}
	}
	out.Header.Set(schemas.HeaderVia, n.Parent+"/"+strconv.FormatUint(md.Sequence.Stream, 10))
	// How old it is, by this region's clock, over all hops.
	lag := time.Since(md.Timestamp) + n.links[n.Parent].clock()
	olderBy(out.Header, lag)
	ctx, cancel := context.WithTimeout(ctx, downTimeout)
	defer cancel()
	ack, err := n.js.PublishMsg(ctx, out, jetstream.WithExpectLastSequence(last), jetstream.WithRetryAttempts(0))
	if err != nil {
		return last, fmt.Errorf("store session slices: %w", err)
	}
	n.m.messages.WithLabelValues(n.Parent).Inc()
	n.m.bytes.WithLabelValues(n.Parent).Add(float64(len(m.Data())))
	n.m.lag.WithLabelValues(n.Parent).Observe(max(lag.Seconds(), 0))
	return ack.Sequence, nil
}

// marks remembers which messages are how old, so that old ones are deleted.
type marks struct {
	list  []mark
	bytes int // since the last mark
	held  int // of list
}

// forgot tells whether there is much, or only what is old, of before this process's time,
// which knows of none of it how old it is.
func (k *marks) forgot(have *jetstream.StreamState, now time.Time) bool {
	return len(k.list) == 0 && have.Msgs > 1 && (have.Bytes > maxSlicesKept/2 || now.Sub(have.LastTime) > slicesHeld)
}

type mark struct {
	seq   uint64
	at    time.Time
	bytes int // up to seq, from the mark before
}

const (
	markEvery = 10 * time.Second
	markBytes = 16 << 20
)

// passed notes a message that was stored and gives the sequence before which all
// may be deleted; 0: none more than before.
func (k *marks) passed(seq uint64, size int, now time.Time) (below uint64) {
	k.bytes += size
	if n := len(k.list); n > 0 && now.Sub(k.list[n-1].at) < markEvery && k.bytes < markBytes {
		return 0
	}
	k.list = append(k.list, mark{seq, now, k.bytes})
	k.held += k.bytes
	k.bytes = 0
	for len(k.list) > 1 && (now.Sub(k.list[0].at) > slicesKept || k.held > maxSlicesKept) {
		below = k.list[0].seq
		k.held -= k.list[0].bytes
		k.list = k.list[1:]
	}
	return below
}
