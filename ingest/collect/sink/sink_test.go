package sink

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/running"
)

func row(sid string, seq int64) schemas.Telemetry {
	r := schemas.Telemetry{ReceivedUnixUs: 1_795_167_643_634_000, Source: schemas.SourceCMCDEvent, SessionID: sid}
	r.Seq.V, r.Seq.OK = seq, true
	return r
}

// start runs a sink until the test ends or stop is called.
func start(t testing.TB, s Settings) (k *Sink, stop func()) {
	t.Helper()
	if s.SpoolDir == "" {
		s.SpoolDir = t.TempDir()
	}
	k, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	stop = running.Start(t, k.Run).Stop
	return k, stop
}

// reader reads TELEMETRY the way docs/contracts.md asks of readers.
type reader struct {
	t       testing.TB
	cons    jetstream.Consumer
	seen    map[string]uint64 // producer/partition: highest counter
	repeats int
	rows    map[string]int // sid/seq: times seen
	order   map[string][]int64
}

func newReader(t testing.TB, js jetstream.JetStream) *reader {
	t.Helper()
	cons, err := js.OrderedConsumer(t.Context(), schemas.StreamTelemetry, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy})
	if err != nil {
		t.Fatal(err)
	}
	return &reader{t: t, cons: cons, seen: map[string]uint64{}, rows: map[string]int{}, order: map[string][]int64{}}
}

// until reads until n different rows were seen.
func (r *reader) until(n int) {
	r.t.Helper()
	deadline := time.Now().Add(await.Limit)
	for len(r.rows) < n {
		if time.Now().After(deadline) {
			r.t.Fatalf("%d rows on the bus, want %d", len(r.rows), n)
		}
		msg, err := r.cons.Next(jetstream.FetchMaxWait(200 * time.Millisecond))
		if err != nil {
			continue
		}
		r.take(msg)
	}
}

func (r *reader) take(msg jetstream.Msg) {
	r.t.Helper()
	part, err := schemas.ParsePartitionSubject("telemetry", msg.Subject())
	if err != nil {
		r.t.Fatal(err)
	}
	h := msg.Headers()
	seq, err := strconv.ParseUint(h.Get(schemas.HeaderProducerSeq), 10, 64)
	if err != nil {
		r.t.Fatal(err)
	}
	key := h.Get(schemas.HeaderProducer) + "/" + strconv.Itoa(part)
	if h.Get(jetstream.MsgIDHeader) != key+"/"+strconv.FormatUint(seq, 10) {
		r.t.Fatalf("message id %q, producer %q, counter %d", h.Get(jetstream.MsgIDHeader), key, seq)
	}
	if seq <= r.seen[key] {
		r.repeats++
		return
	}
	if seq != r.seen[key]+1 {
		r.t.Fatalf("producer %s: counter %d follows %d", key, seq, r.seen[key])
	}
	r.seen[key] = seq
	rows, err := schemas.DecodeTelemetry(msg.Data())
	if err != nil {
		r.t.Fatal(err)
	}
	if h.Get(schemas.HeaderRows) != strconv.Itoa(len(rows)) {
		r.t.Fatalf("header says %s rows, there are %d", h.Get(schemas.HeaderRows), len(rows))
	}
	for _, x := range rows {
		if schemas.TelemetryPartition(x.SessionID) != part {
			r.t.Fatalf("session %s is in partition %d", x.SessionID, part)
		}
		r.rows[x.SessionID+"/"+strconv.FormatInt(x.Seq.V, 10)]++
		r.order[x.SessionID] = append(r.order[x.SessionID], x.Seq.V)
	}
}

// exact checks that every row was seen once and each session's rows are in order.
func (r *reader) exact() {
	r.t.Helper()
	for k, n := range r.rows {
		if n != 1 {
			r.t.Errorf("row %s is there %d times", k, n)
		}
	}
	for sid, o := range r.order {
		if !slices.IsSorted(o) {
			r.t.Errorf("session %s: rows out of order", sid)
		}
	}
}

func TestPut(t *testing.T) {
	b := bustest.Start(t)
	k, _ := start(t, Settings{JS: b.JS, BatchRows: 10, FlushAfter: 5 * time.Millisecond})
	var want int
	for i := range 20 {
		var rows []schemas.Telemetry
		for j := range 35 { // over three batches
			rows = append(rows, row(fmt.Sprint("s", i%3+j/20), int64(i*35+j)))
		}
		want += len(rows)
		if err := k.Put(t.Context(), rows); err != nil {
			t.Fatal(err)
		}
		rows[0] = schemas.Telemetry{} // Put has copied
	}
	r := newReader(t, b.JS)
	r.until(want)
	r.exact()
	if r.repeats != 0 {
		t.Errorf("%d repeats", r.repeats)
	}
}

func TestManyPutsShareBatches(t *testing.T) {
	b := bustest.Start(t)
	k, _ := start(t, Settings{JS: b.JS, FlushAfter: 50 * time.Millisecond})
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			if err := k.Put(t.Context(), []schemas.Telemetry{row("s", int64(i))}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s, err := b.JS.Stream(t.Context(), schemas.StreamTelemetry)
	if err != nil {
		t.Fatal(err)
	}
	if n := s.CachedInfo().State.Msgs; n == 0 || n >= 100 {
		t.Errorf("200 rows came in %d messages", n)
	}
	newReader(t, b.JS).until(200)
}

// restartable is a bus that can be stopped and started at the same address.
type restartable struct {
	t    *testing.T
	opts bus.Options
	set  schemas.BusSettings
	srv  *bus.Server
	js   jetstream.JetStream
}

func newRestartable(t *testing.T, set schemas.BusSettings) *restartable {
	b := &restartable{t: t, opts: bus.Options{DataDir: t.TempDir()}, set: set}
	b.start()
	t.Cleanup(func() { b.srv.Stop() })
	u, err := url.Parse(b.srv.URL())
	if err != nil {
		t.Fatal(err)
	}
	if b.opts.Port, err = strconv.Atoi(u.Port()); err != nil {
		t.Fatal(err)
	}
	nc, err := bus.Connect(b.srv.URL(), t.Name(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if b.js, err = bus.JetStream(t.Context(), nc, set); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *restartable) start() {
	srv, err := bus.Start(b.opts)
	if err != nil {
		b.t.Fatal(err)
	}
	b.srv = srv
}

func (b *restartable) connected(want bool) {
	b.t.Helper()
	await.True(b.t, fmt.Sprintf("connected: %v", want), func() bool { return (b.js.Conn().Status() == nats.CONNECTED) == want })
}

func TestBusAway(t *testing.T) {
	b := newRestartable(t, schemas.BusSettings{})
	k, _ := start(t, Settings{JS: b.js, FlushAfter: time.Millisecond, SpoolAfter: 300 * time.Millisecond})
	put := func(from, to int64) {
		for i := from; i < to; i++ {
			if err := k.Put(t.Context(), []schemas.Telemetry{row("s", i), row("other", i)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(0, 20)
	b.srv.Stop()
	b.connected(false)
	put(20, 40)
	if !k.spool.waiting(schemas.TelemetryPartition("s")) {
		t.Error("nothing is in the spool")
	}
	b.start()
	put(40, 60)
	b.connected(true)
	put(60, 80)
	r := newReader(t, b.js)
	r.until(160)
	r.exact()
	await.True(t, "the spool is empty after its replay", func() bool { return k.spool.head() == nil })
	if files, _ := filepath.Glob(filepath.Join(k.s.SpoolDir, "*")); len(files) != 0 {
		t.Errorf("files are left: %v", files)
	}
	put(80, 81) // straight to the bus again
	if k.spool.head() != nil {
		t.Error("still spooling")
	}
	r.until(162)
	r.exact()
}

// Rows in the spool of a process that ended are brought to the bus by the next one, under their own producer.
func TestSpoolOutlivesProcess(t *testing.T) {
	b := newRestartable(t, schemas.BusSettings{})
	dir := t.TempDir()
	b.srv.Stop()
	b.connected(false)
	var producers []string
	for run := range 3 {
		k, stop := start(t, Settings{JS: b.js, SpoolDir: dir, FlushAfter: time.Millisecond})
		producers = append(producers, k.Producer())
		for i := range 10 {
			if err := k.Put(t.Context(), []schemas.Telemetry{row(fmt.Sprint("s", i), int64(run))}); err != nil {
				t.Fatal(err)
			}
		}
		stop()
		if err := k.Put(t.Context(), []schemas.Telemetry{row("late", 1)}); !errors.Is(err, ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
	}
	b.start()
	b.connected(true)
	start(t, Settings{JS: b.js, SpoolDir: dir})
	r := newReader(t, b.js)
	r.until(30)
	r.exact()
	for _, p := range producers {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(r.seen)), func(k string) bool { return strings.HasPrefix(k, p) }) {
			t.Errorf("nothing of producer %s", p)
		}
	}
}

// Run makes durable what waits when it is told to end.
func TestRunEndsWithRowsWaiting(t *testing.T) {
	b := bustest.Start(t)
	k, stop := start(t, Settings{JS: b.JS, FlushAfter: time.Hour})
	errs := make(chan error, 50)
	for i := range 50 {
		go func() { errs <- k.Put(t.Context(), []schemas.Telemetry{row(fmt.Sprint("s", i), 0)}) }()
	}
	await.True(t, "the rows are taken", func() bool {
		n := 0
		for _, p := range k.parts {
			p.mu.Lock()
			n += p.rows
			p.mu.Unlock()
		}
		return n == 50
	})
	stop()
	for range 50 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	newReader(t, b.JS).until(50)
}

// A full stream is no loss and no error while the spool has room.
func TestStreamFull(t *testing.T) {
	b := bustest.StartWith(t, schemas.BusSettings{TelemetryMaxBytes: 200 << 10}, bus.Options{})
	k, _ := start(t, Settings{JS: b.JS, FlushAfter: time.Millisecond, MaxSpoolBytes: 600 << 10})
	n := 0
	for ; ; n++ {
		if n > 5000 {
			t.Fatal("spool and stream never fill")
		}
		if err := k.Put(t.Context(), []schemas.Telemetry{row("s", int64(n))}); errors.Is(err, ErrFull) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if n < 30 {
		t.Errorf("only %d rows fit", n)
	}
	r := newReader(t, b.JS)
	s, err := b.JS.Stream(t.Context(), schemas.StreamTelemetry)
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(await.Limit)
	for len(r.rows) < n {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d accepted rows arrived", len(r.rows), n)
		}
		info, err := s.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for range info.State.Msgs {
			msg, err := r.cons.Next(jetstream.FetchMaxWait(500 * time.Millisecond))
			if err != nil {
				break
			}
			r.take(msg)
			meta, err := msg.Metadata()
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Purge(t.Context(), jetstream.WithPurgeSequence(meta.Sequence.Stream+1)); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.exact()
}

// Rows too large for one message are split.
func TestLargeRows(t *testing.T) {
	b := bustest.Start(t)
	k, _ := start(t, Settings{JS: b.JS})
	var rows []schemas.Telemetry
	for i := range 600 {
		x := row("s", int64(i))
		x.Detail = strings.Repeat(string(rune('a'+i%26)), 40<<10) + strconv.Itoa(i)
		rows = append(rows, x)
	}
	if err := k.Put(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
	r := newReader(t, b.JS)
	r.until(600)
	r.exact()
	if len(r.seen) != 1 || r.seen[k.Producer()+"/"+strconv.Itoa(schemas.TelemetryPartition("s"))] < 3 {
		t.Errorf("24 MB came in %v messages", r.seen)
	}
}

// Rows acknowledged while the bus comes and goes arrive once each, in order.
func TestBusFlapping(t *testing.T) {
	b := newRestartable(t, schemas.BusSettings{})
	k, _ := start(t, Settings{JS: b.js, FlushAfter: 2 * time.Millisecond, SpoolAfter: 100 * time.Millisecond})
	stopAll := make(chan struct{})
	var accepted sync.Map
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			for i := int64(0); ; i++ {
				select {
				case <-stopAll:
					return
				default:
				}
				sid := fmt.Sprint("w", w)
				if err := k.Put(t.Context(), []schemas.Telemetry{row(sid, i)}); err != nil {
					t.Errorf("%s/%d: %v", sid, i, err)
					return
				}
				accepted.Store(sid+"/"+strconv.FormatInt(i, 10), true)
			}
		})
	}
	for range 4 {
		b.srv.Stop()
		b.connected(false)
		b.start()
		b.connected(true)
	}
	close(stopAll)
	wg.Wait()
	n := 0
	accepted.Range(func(any, any) bool { n++; return true })
	r := newReader(t, b.js)
	r.until(n)
	r.exact()
	accepted.Range(func(key, _ any) bool {
		if r.rows[key.(string)] != 1 {
			t.Errorf("accepted row %s is there %d times", key, r.rows[key.(string)])
		}
		return true
	})
	t.Logf("%d rows, %d repeats dropped by the reader", n, r.repeats)
}

func TestQueueBound(t *testing.T) {
	b := bustest.Start(t)
	k, err := New(Settings{JS: b.JS, SpoolDir: t.TempDir(), BatchRows: 10, MaxQueuedRows: 20})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var rows []schemas.Telemetry
	for i := range 25 {
		rows = append(rows, row("s", int64(i)))
	}
	if err := k.Put(ctx, rows); !errors.Is(err, ErrFull) { // nobody runs, so nothing leaves
		t.Errorf("25 rows with room for 20: %v", err)
	}
	if err := k.Put(ctx, rows[:1]); !errors.Is(err, ErrFull) {
		t.Errorf("with a full queue: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := New(Settings{}); err == nil {
		t.Error("no settings were accepted")
	}
	b := bustest.Start(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Settings{JS: b.JS, SpoolDir: file}); err == nil {
		t.Error("a file was accepted as spool directory")
	}
}
