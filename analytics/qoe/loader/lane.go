package loader

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/ordered"
)

const (
	// idleRecord is how long messages without rows (ticks, repeated batches) may stay unrecorded.
	idleRecord = 20 * time.Second
	// doneAfter is how long after a block without a successor the ledger learns that it is in. Without that,
	// a loader that starts much later would repeat a block whose token ClickHouse has forgotten.
	doneAfter = 2 * time.Second
	readAhead = 16 << 20 // bytes
	// manyRows in a block of raw rows that is FlushRawEvery old make it wait for more, until FlushRawMax: then the
	// fixed cost of an insert, 40 ms, is worth sharing.
	manyRows = 10_000
)

// lane loads one table's share. It owns its ledger key for as long as it runs.
type lane struct {
	Settings
	laneSpec
	m  *metrics
	kv jetstream.KeyValue
	// many rows in a block that is FlushEvery old make it wait for more; 0: only what waits on the bus does.
	many int

	pos   Position // as recorded
	rev   uint64
	after map[string]producerState // producers after the recorded block

	block builder
	b     gathering
	ins   inserter
	in    *ordered.Reader
	said  bool
}

// heldPoint says up to where ClickHouse held the lane at a time.
type heldPoint struct {
	at  time.Time
	seq uint64
}

// gathering is the block being put together.
type gathering struct {
	from, to      uint64
	bytes         int
	sum           uint32
	first         time.Time // when its first row, or failing that message, came
	rowsSeen      bool
	dupRows       int64
	dupBatches    int64
	dead          int64
	producers     map[string]producerState
	mended        int
	messages      int
	lastMsgUnixMs int64
	behind        bool // more was waiting on the bus when the last message was sent
}

func (l *lane) run(ctx context.Context) error {
	l.ins.ClickHouse = l.ClickHouse
	defer l.ins.close()
	defer func() {
		if l.in != nil {
			l.in.Close()
		}
	}()
	l.block = l.newBlock()
	var err error
	if l.pos, l.rev, err = readPosition(ctx, l.kv, l.name); err != nil {
		return err
	}
	if l.rev == 0 && len(l.before) > 0 {
		if err := l.inherit(ctx); err != nil || ctx.Err() != nil {
			return err
		}
	}
	l.after = maps.Clone(l.pos.Producers)
	if l.pos.To > 0 && !l.pos.Done {
		if err := l.repeat(ctx); err != nil || ctx.Err() != nil {
			return err
		}
	}
	if err := l.open(ctx, l.pos.To+1); err != nil {
		return err
	}
	if l.purge {
		pctx, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		points := make(chan heldPoint, 1)
		if l.pos.To > 0 {
			points <- heldPoint{time.Now(), l.pos.To}
		}
		go func() { defer close(done); l.purger(pctx, points) }()
		defer func() { cancel(); <-done }()
		return l.loop(ctx, points)
	}
	return l.loop(ctx, nil)
}

func (l *lane) loop(ctx context.Context, points chan<- heldPoint) error {
	l.begin()
	for {
		wait := l.FlushEvery
		if l.b.rowsSeen {
			// A block older than that waits for more: it is looked at again soon.
			wait = max(time.Until(l.b.first.Add(l.FlushEvery)), min(l.FlushEvery/4, 50*time.Millisecond))
		}
		msg, err := l.in.Next(ctx, wait)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ordered.ErrNothing):
		case err != nil:
			return fmt.Errorf("read %s for %s: %w", l.stream, l.name, err)
		default:
			if err := l.take(ctx, msg); err != nil {
				return err
			}
		}
		if l.full(time.Now()) {
			if err := l.flush(ctx); err != nil {
				return err
			}
			if points != nil {
				select { // the purger needs only the newest
				case points <- heldPoint{time.Now(), l.pos.To}:
				default:
				}
			}
		} else if l.b.messages == 0 && !l.pos.Done && l.pos.To > 0 && time.Since(l.b.first) > doneAfter {
			p := l.pos
			p.Done, p.Producers = true, l.after
			if err := l.record(ctx, p); err != nil {
				return err
			}
		}
	}
}

// open starts reading at seq.
func (l *lane) open(ctx context.Context, seq uint64) (err error) {
	if l.in != nil {
		l.in.Close()
	}
	if l.in, err = ordered.Open(ctx, l.JetStream, l.stream, l.subjects, seq, jetstream.PullMaxBytes(readAhead)); err != nil {
		return fmt.Errorf("%s: %w", l.name, err)
	}
	return nil
}

func (l *lane) begin() {
	l.block.reset()
	l.b = gathering{first: time.Now(), producers: maps.Clone(l.after)}
	if l.b.producers == nil {
		l.b.producers = map[string]producerState{}
	}
}

// full says whether the block is to be closed now.
func (l *lane) full(now time.Time) bool {
	rows, age := l.block.rows(), now.Sub(l.b.first)
	if !l.b.rowsSeen {
		return l.b.messages > 0 && (age >= idleRecord || l.b.bytes >= l.FlushBytes)
	}
	busy := l.b.behind || l.many > 0 && rows >= l.many
	return rows >= l.FlushRows || l.b.bytes >= l.FlushBytes || age >= l.FlushMax || age >= l.FlushEvery && !busy
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// take adds one message to the block.
func (l *lane) take(ctx context.Context, msg jetstream.Msg) error {
	meta, err := msg.Metadata()
	if err != nil {
		return fmt.Errorf("read %s for %s: %w", l.stream, l.name, err)
	}
	seq, data, h := meta.Sequence.Stream, msg.Data(), msg.Headers()
	b := &l.b
	if b.messages == 0 {
		b.from = seq
		b.first = time.Now()
	}
	b.to = seq
	b.messages++
	b.bytes += len(data)
	b.sum = crc32.Update(b.sum, castagnoli, binary.LittleEndian.AppendUint64(nil, seq))
	b.sum = crc32.Update(b.sum, castagnoli, data)
	b.lastMsgUnixMs = meta.Timestamp.UnixMilli()
	b.behind = meta.NumPending > 0
	l.m.pending.WithLabelValues(l.name).Set(float64(meta.NumPending))
	if len(data) == 0 && h.Get(schemas.HeaderKind) != "" {
		return nil // a tick
	}
	if seq <= l.pos.Loaded[msg.Subject()] {
		return nil
	}
	partition := 0
	if l.purge {
		_, p, _ := strings.Cut(msg.Subject(), ".")
		if partition, err = strconv.Atoi(p); err != nil {
			partition = 0
		}
	}
	key, n := producerOf(h, partition)
	if key != "" && n <= b.producers[key].Seq {
		rows, _ := strconv.ParseInt(h.Get(schemas.HeaderRows), 10, 64)
		b.dupRows += rows
		b.dupBatches++
		return nil
	}
	rows, mended, err := l.block.add(data, partition, seq, b.lastMsgUnixMs)
	if err != nil {
		b.dead++
		return l.bury(ctx, msg, seq, err)
	}
	if key != "" {
		b.producers[key] = producerState{n, b.lastMsgUnixMs}
	}
	b.mended += mended
	if rows > 0 && !b.rowsSeen {
		b.rowsSeen, b.first = true, time.Now()
	}
	return nil
}

func producerOf(h nats.Header, partition int) (string, uint64) {
	id := h.Get(schemas.HeaderProducer)
	n, err := strconv.ParseUint(h.Get(schemas.HeaderProducerSeq), 10, 64)
	if id == "" || err != nil {
		return "", 0
	}
	if len(id) > 2*schemas.MaxNameLen {
		id = id[:2*schemas.MaxNameLen]
	}
	return id + "/" + strconv.Itoa(partition), n
}

// flush records the block, inserts it and begins the next.
func (l *lane) flush(ctx context.Context) error {
	b := &l.b
	p := Position{
		From: b.from, To: b.to, Rows: l.block.rows(), Sum: b.sum, Done: l.block.rows() == 0,
		TotalRows: l.pos.TotalRows + int64(l.block.rows()), DuplicateRows: l.pos.DuplicateRows + b.dupRows,
		DuplicateBatches: l.pos.DuplicateBatches + b.dupBatches, DeadMessages: l.pos.DeadMessages + b.dead,
		Producers: l.after,
	}
	for _, to := range l.pos.Loaded {
		if to > l.pos.To {
			p.Loaded = l.pos.Loaded
		}
	}
	if p.Done {
		p.Producers = b.producers
	}
	if err := l.record(ctx, p); err != nil {
		return err
	}
	if err := l.insert(ctx); err != nil {
		return err
	}
	l.m.duplicateRows.WithLabelValues(l.name).Add(float64(b.dupRows))
	l.m.duplicateBatches.WithLabelValues(l.name).Add(float64(b.dupBatches))
	l.m.dead.WithLabelValues(l.name).Add(float64(b.dead))
	if err := l.tellLeftOut(ctx); err != nil {
		return err
	}
	l.settle()
	l.begin()
	return nil
}

// settle makes the producers of the block just written those before the next one.
func (l *lane) settle() {
	l.after = l.b.producers
	for id, s := range l.after {
		if l.b.lastMsgUnixMs-s.SeenMs > producerKeepMs {
			delete(l.after, id)
		}
	}
}

// record sets the ledger; failing to because somebody else did means that the lane is lost.
func (l *lane) record(ctx context.Context, p Position) error {
	v, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("write ledger key %s: %w", l.name, err)
	}
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		octx, cancel := context.WithTimeout(ctx, 3*time.Second)
		rev, err := l.kv.Update(octx, l.name, v, l.rev)
		cancel()
		if err == nil {
			l.pos, l.rev = p, rev
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		// An answer may have been lost on the way: what is there decides.
		now, rev, rerr := readPosition(ctx, l.kv, l.name)
		if rerr == nil && rev != l.rev {
			if nv, _ := json.Marshal(now); string(nv) == string(v) {
				l.pos, l.rev = p, rev
				return nil
			}
			return fmt.Errorf("write ledger key %s: another loader has taken the lane over", l.name)
		}
		l.Logger.Warn("ledger cannot be written, trying again", "lane", l.name, "err", err)
		if !pause(ctx, wait) {
			return ctx.Err()
		}
	}
}

// insert writes the block, as often as it takes.
func (l *lane) insert(ctx context.Context) error {
	rows := l.block.rows()
	if rows == 0 {
		return nil
	}
	token := fmt.Sprintf("spillway/%s/%d-%d", l.name, l.pos.From, l.pos.To)
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		begin := time.Now()
		err := l.ins.insert(ctx, l.table, token, l.block.input())
		if err == nil {
			l.m.insertSeconds.WithLabelValues(l.name).Observe(time.Since(begin).Seconds())
			l.m.rows.WithLabelValues(l.name).Add(float64(rows))
			l.m.blocks.WithLabelValues(l.name).Inc()
			l.m.mended.WithLabelValues(l.name).Add(float64(l.b.mended))
			l.m.lastSuccess.WithLabelValues(l.name).SetToCurrentTime()
			l.m.down.WithLabelValues(l.name).Set(0)
			if l.said {
				l.Logger.Info("ClickHouse takes rows again", "lane", l.name)
				l.said = false
			}
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		l.m.failures.WithLabelValues(l.name).Inc()
		l.m.down.WithLabelValues(l.name).Set(1)
		if !l.said {
			l.said = true
			l.Logger.Error("ClickHouse does not take rows; they wait on the bus", "lane", l.name, "refused", refused(err), "err", err)
		}
		if !pause(ctx, wait) {
			return ctx.Err()
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
