package sessioniser_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/analytics/qoe/session"
	"github.com/spillway-live/spillway/analytics/qoe/sessioniser"
	"github.com/spillway-live/spillway/schemas"
	wait "github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/running"
)

// feed publishes the telemetry of sessions that play, stall once for a known
// time and quit, as collectors would; every tenth batch is published twice.
type feed struct {
	js    jetstream.JetStream
	id    string
	seq   map[int]uint64
	t     testing.TB
	rows  int64
	twice int
}

func (f *feed) publish(rows []schemas.Telemetry) {
	f.t.Helper()
	byPart := map[int][]schemas.Telemetry{}
	for _, r := range rows {
		p := schemas.TelemetryPartition(r.SessionID)
		byPart[p] = append(byPart[p], r)
	}
	for p, rows := range byPart {
		data, err := schemas.EncodeTelemetry(rows)
		if err != nil {
			f.t.Fatal(err)
		}
		f.seq[p]++
		m := nats.NewMsg(schemas.TelemetrySubject(p))
		m.Data = data
		m.Header.Set(schemas.HeaderProducer, f.id)
		m.Header.Set(schemas.HeaderProducerSeq, strconv.FormatUint(f.seq[p], 10))
		n := 1
		if f.seq[p]%10 == 0 {
			n = 2
			f.twice++
		}
		for range n {
			if _, err := f.js.PublishMsg(context.Background(), m); err != nil {
				f.t.Fatal(err)
			}
		}
		f.rows += int64(len(rows))
	}
}

// views publishes n sessions of 6 s: start-up 300 ms, 2 s playing, 700 ms stall, playing until 6 s, quit. base is the start, Unix ms.
func (f *feed) views(n int, base int64, pause time.Duration) {
	steps := []struct {
		ms    int64
		event string
		state string
	}{{0, "ps", "s"}, {300, "ps", "p"}, {1000, "t", "p"}, {2300, "ps", "r"}, {3000, "ps", "p"}, {4000, "t", "p"}, {5000, "t", "p"}, {6000, "ps", "q"}}
	for k, st := range steps {
		var rows []schemas.Telemetry
		for i := range n {
			rows = append(rows, schemas.Telemetry{
				ReceivedUnixUs: (base + st.ms) * 1000, TsUnixMs: base + st.ms, Source: schemas.SourceCMCDEvent, Event: st.event, State: st.state,
				SessionID: fmt.Sprintf("%s-%d-%d", f.id, base, i), App: "live", Stream: "show", CDN: "a", Seq: schemas.OptInt64{V: int64(k), OK: true},
			})
		}
		f.publish(rows)
		time.Sleep(pause)
	}
}

type sums struct{ sessions, ended, starts, startupMs, stalls, stalledMs, playedMs, reports, messages int64 }

// readSlices adds up everything that was published.
func readSlices(t *testing.T, js jetstream.JetStream) (s sums) {
	t.Helper()
	cons, err := js.OrderedConsumer(t.Context(), schemas.StreamSlices, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	last := map[string]uint64{}
	for {
		b, err := cons.FetchNoWait(500)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for m := range b.Messages() {
			n++
			var rows []schemas.Slice
			if m.Headers().Get(schemas.HeaderKind) != sessioniser.KindMark {
				rows, err = schemas.DecodeSlices(m.Data())
			}
			if err != nil {
				t.Fatal(err)
			}
			in, err := strconv.ParseUint(m.Headers().Get(schemas.HeaderInputSeq), 10, 64)
			if err != nil || in <= last[m.Subject()] {
				t.Fatalf("%s: input %d after %d (%v)", m.Subject(), in, last[m.Subject()], err)
			}
			last[m.Subject()] = in
			s.messages++
			for _, r := range rows {
				s.sessions += r.Sessions
				s.ended += r.Ended
				s.starts += r.Starts
				s.startupMs += r.StartupMs
				s.stalls += r.Stalls
				s.stalledMs += r.StalledMs
				s.playedMs += r.PlayedMs
				s.reports += r.Reports
			}
		}
		if n == 0 {
			return s
		}
	}
}

func await(t *testing.T, js jetstream.JetStream, done func(sums) bool) sums {
	t.Helper()
	var s sums
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if s = readSlices(t, js); done(s) {
			return s
		}
	}
	t.Fatalf("sums so far: %+v", s)
	return s
}

type process struct {
	stop context.CancelFunc
	done chan error
	reg  *prometheus.Registry
}

func start(t *testing.T, s sessioniser.Settings) process {
	ctx, cancel := context.WithCancel(t.Context())
	p := process{cancel, make(chan error, 1), prometheus.NewRegistry()}
	s.Registerer = p.reg
	go func() { p.done <- sessioniser.Run(ctx, s) }()
	return p
}

func check(t *testing.T, s sums, views, rows int64) {
	t.Helper()
	want := sums{views, views, views, 300 * views, views, 700 * views, 5000 * views, rows, s.messages}
	if s != want {
		t.Errorf("sums %+v, want %+v", s, want)
	}
}

func settings(js jetstream.JetStream, id string) sessioniser.Settings {
	return sessioniser.Settings{
		JetStream: js, ID: id, LeaseTTL: 1500 * time.Millisecond, TickEvery: 200 * time.Millisecond, SnapshotEvery: 300 * time.Millisecond,
		Session: session.Config{GraceMs: 500},
	}
}

func TestSlicesAddUp(t *testing.T) {
	b := bustest.Start(t)
	p := start(t, settings(b.JS, "a"))
	f := &feed{js: b.JS, id: "collector", seq: map[int]uint64{}, t: t}
	now := time.Now().UnixMilli()
	for i := range int64(4) {
		f.views(40, now-30_000+i*100, 0)
	}
	// A batch that nobody can read is put aside.
	bad := nats.NewMsg(schemas.TelemetrySubject(3))
	bad.Data = []byte("not arrow")
	if _, err := b.JS.PublishMsg(t.Context(), bad); err != nil {
		t.Fatal(err)
	}
	f.views(10, now-20_000, 0)
	s := await(t, b.JS, func(s sums) bool { return s.ended == 170 })
	check(t, s, 170, f.rows)
	dead, err := b.JS.Stream(t.Context(), schemas.StreamDead)
	if err != nil {
		t.Fatal(err)
	}
	m, err := dead.GetLastMsgForSubject(t.Context(), "dead.sessioniser")
	if err != nil || m.Header.Get(schemas.HeaderReason) == "" || string(m.Data) != "not arrow" {
		t.Errorf("dead letter %+v: %v", m, err)
	}
	if got := running.Sum(t, p.reg, "spillway_sessioniser_rows_total"); got < float64(f.rows) {
		t.Errorf("%v rows counted, want at least %d", got, f.rows)
	}
	p.stop()
	if err := <-p.done; err != nil {
		t.Error(err)
	}
}

// TestTakeover cuts readers off at random moments while telemetry flows; two
// processes share the partitions and inherit each other's.
func TestTakeover(t *testing.T) {
	b := bustest.Start(t)
	rng := rand.New(rand.NewPCG(7, 7))
	const rounds, views = 6, 25
	var wg sync.WaitGroup
	f := &feed{js: b.JS, id: "collector", seq: map[int]uint64{}, t: t}
	wg.Go(func() {
		for range rounds {
			f.views(views, time.Now().UnixMilli()-8_000, 60*time.Millisecond)
		}
	})
	ps := []process{start(t, settings(b.JS, "p0")), start(t, settings(b.JS, "p1"))}
	fed := make(chan struct{})
	go func() { wg.Wait(); close(fed) }()
	n := 2
	for feeding := true; feeding; {
		select {
		case <-fed:
			feeding = false
		case <-time.After(time.Duration(100+rng.IntN(500)) * time.Millisecond):
		}
		i := rng.IntN(2)
		ps[i].stop()
		if err := <-ps[i].done; err != nil {
			t.Error(err)
		}
		ps[i] = start(t, settings(b.JS, fmt.Sprint("p", n)))
		n++
	}
	s := await(t, b.JS, func(s sums) bool { return s.ended == rounds*views })
	check(t, s, rounds*views, f.rows)
	t.Logf("%d processes, %d slices messages", n, s.messages)
	for _, p := range ps {
		p.stop()
		<-p.done
	}
}

// TestZombieIsFenced lets two readers work on the same partitions with separate
// leases, as after a process was wrongly declared dead: one of them yields and nothing is counted twice.
func TestZombieIsFenced(t *testing.T) {
	b := bustest.Start(t)
	f := &feed{js: b.JS, id: "collector", seq: map[int]uint64{}, t: t}
	p := start(t, settings(b.JS, "a"))
	f.views(20, time.Now().UnixMilli()-8_000, 10*time.Millisecond)
	kv, err := b.JS.KeyValue(t.Context(), schemas.BucketLedger)
	if err != nil {
		t.Fatal(err)
	}
	for i := range schemas.TelemetryPartitions { // the leases are torn out of its hands
		if _, err := kv.PutString(t.Context(), fmt.Sprintf("lease.sessioniser.%d", i), ""); err != nil {
			t.Fatal(err)
		}
	}
	q := start(t, settings(b.JS, "b"))
	f.views(20, time.Now().UnixMilli()-7_000, 10*time.Millisecond)
	s := await(t, b.JS, func(s sums) bool { return s.ended == 40 })
	check(t, s, 40, f.rows)
	for _, x := range []process{p, q} {
		x.stop()
		if err := <-x.done; err != nil {
			t.Error(err)
		}
	}
}

// Once its sessions are over, an idle partition keeps nothing of them: neither its snapshot nor its last slices message.
func TestIdlePartitionForgets(t *testing.T) {
	b := bustest.Start(t)
	proc := start(t, sessioniser.Settings{JetStream: b.JS, TickEvery: 50 * time.Millisecond, SnapshotEvery: 50 * time.Millisecond,
		Session: session.Config{GraceMs: 100, KeepMs: 500}})
	f := &feed{js: b.JS, id: "gone", seq: map[int]uint64{}, t: t}
	base := time.Now().UnixMilli() - 6000
	f.views(1, base, 0)
	p := schemas.TelemetryPartition(fmt.Sprintf("gone-%d-0", base))
	store, err := b.JS.ObjectStore(t.Context(), schemas.BucketSnapshots)
	if err != nil {
		t.Fatal(err)
	}
	slices, err := b.JS.Stream(t.Context(), schemas.StreamSlices)
	if err != nil {
		t.Fatal(err)
	}
	known := func() (snapshot, last bool) {
		if data, err := store.GetBytes(t.Context(), sessioniser.SnapshotName(p)); err == nil {
			snapshot = strings.Contains(string(data), "gone-")
		}
		if m, err := slices.GetLastMsgForSubject(t.Context(), schemas.SlicesSubject(p)); err == nil {
			last = strings.Contains(string(m.Data), "gone-") // Arrow holds text as it is
		}
		return snapshot, last
	}
	wait.True(t, "the session is in the snapshot and on the bus", func() bool { s, l := known(); return s || l })
	wait.True(t, "it is in neither", func() bool { s, l := known(); return !s && !l })
	if s := readSlices(t, b.JS); s.sessions != 1 || s.ended != 1 || s.playedMs != 5000 {
		t.Errorf("slices add up to %+v", s)
	}
	proc.stop()
	if err := <-proc.done; err != nil {
		t.Error(err)
	}
}
