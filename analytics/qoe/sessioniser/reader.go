package sessioniser

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/analytics/qoe/session"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/ordered"
)

var telemetryTable = schemas.TelemetryTable()

// Collectors' clocks tell stream time as far as the bus's own clock, by which it stored the message, agrees with
// them: no more than maxFutureMs before it and maxPastMs behind it. The first keeps a clock that is ahead from closing
// sessions, the second one that is behind from holding slices back. Both clocks are in the message: a replay sees the same.
const (
	maxFutureMs = 1000
	maxPastMs   = 30_000
)

// readAhead bounds what is on its way to a reader, bytes: more than the largest message, and little enough that eight
// partitions being replayed do not keep the answers to everything else waiting on the same connection.
const readAhead = schemas.MaxPayloadBytes + 1<<20

// producerKeepMs is how long a producer that sends nothing is remembered, stream time.
const producerKeepMs = 24 * 60 * 60 * 1000

type producerState struct {
	Seq    uint64
	SeenMs int64
}

// reader owns one partition for as long as it runs.
type reader struct {
	Settings
	m     *metrics
	p     int
	label string

	table     *session.Table
	told      session.Stats // what the metrics know
	producers map[string]producerState
	seq       uint64 // last message accounted for
	streamMs  int64
	tickedMs  int64 // stream time of the last tick
	waiting   bool  // rows were added since
	lastTick  time.Time
	fullSaid  bool
	slices    []schemas.Slice // of the last tick; its memory is used again

	used, free [][]schemas.Telemetry // memory of rows: in the table since the last tick, and to be used again

	out   output
	saver saver
	slots chan struct{} // see atOnce
}

func newReader(s Settings, m *metrics, slots chan struct{}, p int) *reader {
	r := &reader{Settings: s, m: m, p: p, label: strconv.Itoa(p), slots: slots}
	r.out = output{js: s.JetStream, subject: schemas.SlicesSubject(p), log: s.Logger}
	return r
}

// run restores the state and reads until ctx ends or the partition is lost.
func (r *reader) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		if r.saver.running != nil {
			<-r.saver.running
		}
		for _, g := range []*prometheus.GaugeVec{r.m.open, r.m.lagSeconds, r.m.pending, r.m.snapshotBytes} {
			g.DeleteLabelValues(r.label) // another process tells of the partition now
		}
	}()
	if err := r.restore(ctx); err != nil {
		return err
	}
	if err := r.out.open(ctx); err != nil {
		return err
	}
	start := r.seq
	in, err := ordered.Open(ctx, r.JetStream, schemas.StreamTelemetry, []string{schemas.TelemetrySubject(r.p)}, r.seq+1, jetstream.PullMaxBytes(readAhead))
	if err != nil {
		return fmt.Errorf("partition %d: %w", r.p, err)
	}
	defer in.Close()
	r.Logger.Info("sessioniser reads", "partition", r.p, "after_seq", start, "published_to", r.out.input, "open_sessions", r.table.Open())
	for {
		msg, err := in.Next(ctx, r.TickEvery)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ordered.ErrNothing):
			r.idle(ctx)
			continue
		case err != nil:
			return fmt.Errorf("read telemetry partition %d: %w", r.p, err)
		}
		if err := r.handle(ctx, msg); err != nil {
			return err
		}
	}
}

// idle makes time go on while nothing arrives and sessions are waiting for it,
// if only to be forgotten: what is known of viewers must not stay in a snapshot.
func (r *reader) idle(ctx context.Context) {
	every := r.TickEvery / 2
	if r.table.Open() == 0 && !r.waiting {
		if r.table.Remembered() == 0 {
			return
		}
		every = max(every, r.table.KeepFor()/10) // nothing but forgetting is due
	}
	if time.Since(r.lastTick) < every {
		return
	}
	r.lastTick = time.Now()
	m := nats.NewMsg(schemas.TelemetrySubject(r.p))
	m.Header.Set(schemas.HeaderKind, KindTick)
	m.Header.Set(schemas.HeaderRows, "0")
	pctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, err := r.JetStream.PublishMsg(pctx, m); err != nil && ctx.Err() == nil {
		if !r.fullSaid {
			r.Logger.Warn("cannot publish a tick: sessions close late", "partition", r.p, "err", err)
		}
		r.fullSaid = true
		return
	}
	r.fullSaid = false
}

// spare gives memory for the rows of a message.
func (r *reader) spare() []schemas.Telemetry {
	n := len(r.free)
	if n == 0 {
		return nil
	}
	rows := r.free[n-1][:0]
	r.free = r.free[:n-1]
	return rows
}

func (r *reader) tickMs() int64 { return r.TickEvery.Milliseconds() }

// handle accounts for one message.
func (r *reader) handle(ctx context.Context, msg jetstream.Msg) error {
	meta, err := msg.Metadata()
	if err != nil {
		return fmt.Errorf("read telemetry partition %d: %w", r.p, err)
	}
	seq := meta.Sequence.Stream
	h := msg.Headers()
	var rows []schemas.Telemetry
	var producer string
	var n uint64
	stored := meta.Timestamp.UnixMilli()
	now := max(r.streamMs, stored-maxPastMs)
	if h.Get(schemas.HeaderKind) == KindTick {
		now = max(now, stored)
	} else if producer, n = producerOf(h); producer != "" && n <= r.producers[producer].Seq {
		r.m.duplicateBatches.WithLabelValues(r.label).Inc()
		producer = ""
	} else {
		rows, err = telemetryTable.DecodeColumns(msg.Data(), session.Columns(), r.spare())
		if err != nil {
			if err := r.bury(ctx, msg, seq, err); err != nil {
				return err
			}
		}
		for i := range rows {
			now = max(now, min(rows[i].ReceivedUnixUs/1000, stored+maxFutureMs))
		}
	}
	if due := now / r.tickMs() * r.tickMs(); due > r.tickedMs && r.streamMs > 0 {
		if err := r.tick(ctx, due); err != nil {
			return err
		}
	}
	// Only now: the snapshot of the tick above must not know this message.
	if producer != "" {
		r.producers[producer] = producerState{n, now}
	}
	r.streamMs = now
	r.table.Add(rows, now)
	r.used = append(r.used, rows)
	r.waiting = r.waiting || len(rows) > 0
	r.seq = seq
	r.m.batches.WithLabelValues(r.label).Inc()
	r.m.pending.WithLabelValues(r.label).Set(float64(meta.NumPending))
	r.m.lagSeconds.WithLabelValues(r.label).Set(time.Since(time.UnixMilli(now)).Seconds())
	return nil
}

// tick publishes the slices due at stream time ms, on account of everything up
// to the last message, and snapshots the state while no row waits in it.
func (r *reader) tick(ctx context.Context, ms int64) error {
	remembered := r.table.Remembered()
	if len(r.slices)*4+4096 < cap(r.slices) {
		r.slices = nil // it was a moment's rush
	}
	r.slices = r.table.AppendTick(r.slices[:0], ms)
	emptied := remembered > 0 && r.table.Remembered() == 0
	r.tickedMs, r.waiting = ms, false
	clear(r.free[:cap(r.free)]) // what was not needed since the last tick is let go
	r.free, r.used = r.used, r.free[:0]
	n, err := r.out.publish(ctx, r.slices, r.seq)
	if err == nil && emptied {
		err = r.out.mark(ctx, r.seq)
	}
	if err != nil {
		return err
	}
	r.count(n)
	r.save(ctx, emptied)
	return nil
}

func (r *reader) count(slices int) {
	st, was := r.table.Stats(), r.told
	r.told = st
	add := func(c interface{ Add(float64) }, n int64) {
		if n > 0 {
			c.Add(float64(n))
		}
	}
	add(r.m.rows.WithLabelValues(r.label), st.Rows-was.Rows)
	add(r.m.duplicateRows.WithLabelValues(r.label), st.Duplicates-was.Duplicates)
	add(r.m.lost.WithLabelValues(r.label), st.Lost-was.Lost)
	add(r.m.late.WithLabelValues(r.label), st.Late-was.Late)
	add(r.m.overflow.WithLabelValues(r.label), st.Overflow-was.Overflow)
	add(r.m.slices.WithLabelValues(r.label), int64(slices))
	r.m.open.WithLabelValues(r.label).Set(float64(r.table.Open()))
}

// producerOf gives who made a batch and its counter; a batch that was not made by a collector has none.
func producerOf(h nats.Header) (id string, n uint64) {
	id = cut(h.Get(schemas.HeaderProducer), 2*schemas.MaxNameLen)
	n, err := strconv.ParseUint(h.Get(schemas.HeaderProducerSeq), 10, 64)
	if err != nil {
		return "", 0
	}
	return id, n
}

func (r *reader) forgetProducers() {
	for id, p := range r.producers {
		if r.streamMs-p.SeenMs > producerKeepMs {
			delete(r.producers, id)
		}
	}
}

// bury puts a message that cannot be read among the dead letters.
func (r *reader) bury(ctx context.Context, msg jetstream.Msg, seq uint64, why error) error {
	r.m.dead.WithLabelValues(r.label).Inc()
	r.Logger.Warn("telemetry batch cannot be read", "partition", r.p, "seq", seq, "err", why)
	m := nats.NewMsg(schemas.DeadSubject("sessioniser"))
	m.Data = msg.Data()
	m.Header.Set(schemas.HeaderReason, cut(why.Error(), 512))
	m.Header.Set(schemas.HeaderOrigin, msg.Subject()+" "+strconv.FormatUint(seq, 10))
	m.Header.Set(nats.MsgIdHdr, "sessioniser/"+strconv.FormatUint(seq, 10)) // a replay buries it again
	for {
		_, err := r.JetStream.PublishMsg(ctx, m)
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		r.Logger.Warn("cannot write a dead letter", "partition", r.p, "err", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

func cut(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
