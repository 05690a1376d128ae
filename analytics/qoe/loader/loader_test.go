package loader_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	chgo "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/analytics/qoe/loader"
	"github.com/spillway-live/spillway/analytics/qoe/session"
	"github.com/spillway-live/spillway/analytics/qoe/sessioniser"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/clickhouse"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	chserver "github.com/spillway-live/spillway/testenv/clickhouse"
	"github.com/spillway-live/spillway/testenv/clickhouse/clickhousetest"
	"github.com/spillway-live/spillway/testenv/relay"
)

// rig is a bus, a ClickHouse with tables, and a feed of telemetry.
type rig struct {
	t    testing.TB
	bus  *bustest.Bus
	js   jetstream.JetStream
	ch   *chserver.Server
	addr string
	seq  map[int]uint64

	sent, repeated, views int64
}

func newRig(t testing.TB) *rig {
	t.Helper()
	b := bustest.Start(t)
	srv := clickhousetest.Start(t)
	r := &rig{t: t, bus: b, js: b.JS, ch: srv, addr: srv.NativeAddr(), seq: map[int]uint64{}}
	conn := r.conn()
	if err := clickhouse.Migrate(t.Context(), conn, clickhouse.Options{}); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) conn() driver.Conn {
	r.t.Helper()
	o, err := chgo.ParseDSN(r.ch.NativeURL(chserver.Admin))
	if err != nil {
		r.t.Fatal(err)
	}
	c, err := chgo.Open(o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

func (r *rig) settings() loader.Settings {
	return loader.Settings{
		JetStream:  r.js,
		ClickHouse: loader.ClickHouse{Addr: r.addr, User: string(chserver.Writer), Password: r.ch.Password(chserver.Writer)},
		FlushEvery: 100 * time.Millisecond, FlushRawEvery: 100 * time.Millisecond, LeaseTTL: 1500 * time.Millisecond,
	}
}

// publish sends rows as a collector does, some batches twice.
func (r *rig) publish(rows []schemas.Telemetry) {
	r.t.Helper()
	byPart := map[int][]schemas.Telemetry{}
	for _, x := range rows {
		p := schemas.TelemetryPartition(x.SessionID)
		byPart[p] = append(byPart[p], x)
	}
	for p := range schemas.TelemetryPartitions {
		rows := byPart[p]
		if len(rows) == 0 {
			continue
		}
		data, err := schemas.EncodeTelemetry(rows)
		if err != nil {
			r.t.Fatal(err)
		}
		r.seq[p]++
		m := nats.NewMsg(schemas.TelemetrySubject(p))
		m.Data = data
		m.Header.Set(schemas.HeaderProducer, "collector")
		m.Header.Set(schemas.HeaderProducerSeq, strconv.FormatUint(r.seq[p], 10))
		m.Header.Set(schemas.HeaderRows, strconv.Itoa(len(rows)))
		n := 1
		if r.seq[p]%7 == 0 {
			n = 2
			r.repeated += int64(len(rows))
		}
		for range n {
			if _, err := r.js.PublishMsg(context.Background(), m); err != nil {
				r.t.Fatal(err)
			}
		}
		r.sent += int64(len(rows))
	}
}

// feed publishes n views that start after 300 ms, stall 700 ms, play 5 s and quit.
func (r *rig) feed(n int, base int64, pause time.Duration) {
	steps := []struct {
		ms           int64
		event, state string
	}{{0, "ps", "s"}, {300, "ps", "p"}, {1000, "t", "p"}, {2300, "ps", "r"}, {3000, "ps", "p"}, {4000, "t", "p"}, {5000, "t", "p"}, {6000, "ps", "q"}}
	for k, st := range steps {
		var rows []schemas.Telemetry
		for i := range n {
			rows = append(rows, schemas.Telemetry{
				ReceivedUnixUs: (base + st.ms) * 1000, TsUnixMs: base + st.ms, Source: schemas.SourceCMCDEvent, Event: st.event, State: st.state,
				SessionID: fmt.Sprintf("s-%d-%d", base, i), ViewerID: fmt.Sprint("v", i%10), App: "live", Stream: "show", CDN: string(rune('a' + i%3)),
				Arms: []string{"exp=control", "exp=treat,other=x"}[i%2], Seq: schemas.OptInt64{V: int64(k), OK: true},
				BitrateKbps: schemas.OptInt32{V: 2500, OK: true}, Background: schemas.OptBool{V: i%2 == 0, OK: true},
				PlaybackRate: schemas.OptFloat64{V: 1.05, OK: true}, PlayheadMs: schemas.OptInt64{V: base, OK: true},
			})
		}
		r.publish(rows)
		time.Sleep(pause)
	}
	r.views += int64(n)
}

type process struct {
	stop context.CancelFunc
	done chan error
}

func (r *rig) load() process {
	ctx, cancel := context.WithCancel(r.t.Context())
	p := process{cancel, make(chan error, 1)}
	s := r.settings()
	go func() { p.done <- loader.Run(ctx, s) }()
	return p
}

func (r *rig) sessionise() process {
	ctx, cancel := context.WithCancel(r.t.Context())
	p := process{cancel, make(chan error, 1)}
	go func() {
		p.done <- sessioniser.Run(ctx, sessioniser.Settings{
			JetStream: r.js, LeaseTTL: 1500 * time.Millisecond, TickEvery: 200 * time.Millisecond, SnapshotEvery: 500 * time.Millisecond,
			Session: session.Config{GraceMs: 500},
		})
	}()
	return p
}

func (p process) end(t *testing.T) {
	t.Helper()
	p.stop()
	if err := <-p.done; err != nil {
		t.Error(err)
	}
}

// await polls a query of one integer until it gives want.
func (r *rig) await(conn driver.Conn, query string, want int64) {
	r.t.Helper()
	await.Text(r.t, query, func() string {
		var got int64
		if err := conn.QueryRow(r.t.Context(), query).Scan(&got); err != nil || got != want {
			return fmt.Sprintf("it gives %d (%v), want %d", got, err, want)
		}
		return ""
	})
}

func (r *rig) equal(conn driver.Conn, query string, want int64) {
	r.t.Helper()
	var got int64
	if err := conn.QueryRow(r.t.Context(), query).Scan(&got); err != nil || got != want {
		r.t.Errorf("%s gives %d (%v), want %d", query, got, err, want)
	}
}

// sums are the arithmetic of the whole: accepted = raw rows + recorded
// duplicates = what each roll-up accounts for.
func (r *rig) sums() map[string]int64 {
	out := map[string]int64{
		"SELECT toInt64(count()) FROM spillway.telemetry":                                                                          r.sent,
		"SELECT toInt64(count() - uniqExact(bus_seq, bus_row)) FROM spillway.telemetry":                                            0,
		"SELECT toInt64(count() - uniqExact(bus_partition, bus_seq, bus_row)) FROM spillway.session_slices":                        0,
		"SELECT sum(stalled_ms) FROM spillway.rollup_arm_minute WHERE experiment = 'exp'":                                          700 * r.views,
		"SELECT sum(arraySum(mapValues(first_screen))) FROM spillway.rollup_minute":                                                r.views,
		"SELECT toInt64(count()) FROM spillway.v_sessions WHERE final AND end_reason = 'quit' AND stalled_ms = 700 AND starts = 1": r.views,
	}
	for _, table := range []string{"session_slices", "rollup_minute", "rollup_stream_minute", "rollup_hour", "rollup_stream_hour"} {
		from := " FROM spillway." + table
		out["SELECT sum(reports)"+from] = r.sent
		out["SELECT sum(sessions)"+from] = r.views
		out["SELECT sum(ended)"+from] = r.views
		out["SELECT sum(stalled_ms)"+from] = 700 * r.views
		out["SELECT sum(played_ms)"+from] = 5000 * r.views
		out["SELECT sum(startup_ms)"+from] = 300 * r.views
	}
	return out
}

// settle waits until every table has what was fed: lanes load at their own
// pace, and a block is in its table before it is in the last of the views.
func (r *rig) settle(conn driver.Conn) {
	r.t.Helper()
	for query, want := range r.sums() {
		r.await(conn, query, want)
	}
	await.Text(r.t, "the ledger", r.ledger)
}

func (r *rig) ledger() string {
	pos, err := loader.Ledger(r.t.Context(), r.js)
	if err != nil {
		return err.Error()
	}
	var rows, dup int64
	for name, p := range pos {
		if name == "telemetry.0" || name == "telemetry.1" {
			rows += p.TotalRows
			dup += p.DuplicateRows
		}
	}
	if rows != r.sent || dup != r.repeated {
		return fmt.Sprintf("the ledger has %d rows and %d duplicates, want %d and %d", rows, dup, r.sent, r.repeated)
	}
	return ""
}

// balance checks the arithmetic when nobody writes any more.
func (r *rig) balance(conn driver.Conn) {
	r.t.Helper()
	for query, want := range r.sums() {
		r.equal(conn, query, want)
	}
	if wrong := r.ledger(); wrong != "" {
		r.t.Error(wrong)
	}
}

func (r *rig) record(subject string, rec interface{ Check() error }) {
	r.t.Helper()
	data, err := schemas.EncodeRecord(rec)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.js.Publish(r.t.Context(), subject, data); err != nil {
		r.t.Fatal(err)
	}
}

// lanesOfBefore leaves the ledger and the bus as a version with two lanes of slices may have: six messages, of which
// the first lane, of even partitions, loaded up to the third, and the second, of odd ones, recorded all as its last block.
func (r *rig) lanesOfBefore() {
	kv, err := r.js.KeyValue(r.t.Context(), schemas.BucketLedger)
	if err != nil {
		r.t.Fatal(err)
	}
	sum, table := uint32(0), crc32.MakeTable(crc32.Castagnoli)
	for seq := uint64(1); seq <= 6; seq++ {
		data, err := schemas.EncodeSlices([]schemas.Slice{{TimeUnixMs: time.Now().UnixMilli(), Kind: "delta", SessionID: fmt.Sprint("old-", seq)}})
		if err != nil {
			r.t.Fatal(err)
		}
		m := nats.NewMsg(schemas.SlicesSubject(int(seq-1) % 2))
		m.Data = data
		m.Header.Set(schemas.HeaderInputSeq, "0")
		ack, err := r.js.PublishMsg(r.t.Context(), m)
		if err != nil || ack.Sequence != seq {
			r.t.Fatalf("sequence %d: %+v, %v", seq, ack, err)
		}
		if seq%2 == 0 {
			sum = crc32.Update(crc32.Update(sum, table, binary.LittleEndian.AppendUint64(nil, seq)), table, data)
		}
	}
	for name, p := range map[string]loader.Position{
		"session_slices.0": {From: 1, To: 3, Rows: 2, Done: true, TotalRows: 2},
		"session_slices.1": {From: 2, To: 6, Rows: 3, Sum: sum, TotalRows: 3},
	} {
		v, err := json.Marshal(p)
		if err != nil {
			r.t.Fatal(err)
		}
		if _, err := kv.Put(r.t.Context(), name, v); err != nil {
			r.t.Fatal(err)
		}
	}
}

func TestEveryTable(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.lanesOfBefore()
	l, s := r.load(), r.sessionise()
	defer func() { l.end(t); s.end(t) }()
	now := time.Now()
	r.feed(50, now.UnixMilli()-20_000, 0)
	d := &schemas.Decision{
		ID: "d1", TimeUs: now.UnixMicro(), Kind: schemas.DecisionDispatch, App: "live", Stream: "show", SessionID: "s1", Policy: "affinity", PolicyVersion: "1",
		Candidates: []schemas.Candidate{{CDN: "a", Tier: "room", Score: 0.5, Viewers: 7, Load: 0.5, Harm: 0.25}, {CDN: "b", Excluded: "draining"}}, Chosen: "a", Probability: 1, ReasonCode: "affinity", InputAgeMs: 40,
		CapBps: 1_000_000, QueuedMs: 1500,
	}
	r.record(schemas.DecisionSubject(d), d)
	// Two in one message, as routers under load write them; one that is wrong makes the message wrong.
	d2 := d.AppendJSON(nil)
	for _, many := range []string{fmt.Sprintf("[%s,%s]", d2, d2), fmt.Sprintf(`[%s,{"id":"d4"}]`, d2)} {
		if _, err := r.js.Publish(t.Context(), schemas.DecisionSubject(d), []byte(many)); err != nil {
			t.Fatal(err)
		}
	}
	x := &schemas.Exposure{ID: "x1", TimeUs: now.UnixMicro(), Experiment: "exp", Salt: "1", Unit: "s1", UnitKind: "session", SessionID: "s1", App: "live", Stream: "show", Arm: "treat", Propensity: 0.5, Reason: "assigned"}
	r.record(schemas.ExposureSubject(x), x)
	e := &schemas.Event{ID: "e1", TimeUs: now.UnixMicro(), Kind: schemas.EventCDNFault, CDN: "b", Reason: "rate limited", Detail: map[string]string{"rate": "300kbps", "by": "test"}}
	r.record(schemas.EventSubject(e), e)
	// What nobody can read is put aside, what ClickHouse would refuse is mended.
	if _, err := r.js.Publish(t.Context(), "events.x._._", []byte("{")); err != nil {
		t.Fatal(err)
	}
	odd := schemas.Telemetry{ReceivedUnixUs: -5, TsUnixMs: 1 << 60, Source: schemas.SourceCDNLog, URLPath: "/\xff\x00'"}
	r.publish([]schemas.Telemetry{odd})

	conn := r.conn()
	r.await(conn, "SELECT sum(ended) FROM spillway.session_slices", r.views)
	// What the lanes of before recorded and what is behind it is there once, what they had loaded is not loaded again.
	r.equal(conn, "SELECT toInt64(if(arraySort(groupArray(session_id)) = ['old-2','old-4','old-5','old-6'], 1, 0)) FROM spillway.session_slices WHERE startsWith(session_id, 'old-')", 1)
	r.await(conn, "SELECT toInt64(count()) FROM spillway.telemetry", r.sent)
	r.await(conn, "SELECT toInt64(count()) FROM spillway.decisions WHERE candidate_cdns = ['a','b'] AND candidate_viewers[1] = 7 AND candidate_excluded[2] = 'draining' AND candidate_tiers = ['room',''] AND candidate_loads[1] = 0.5 AND candidate_harms[1] = 0.25 AND cap_bps = 1000000 AND queued_ms = 1500 AND probability = 1 AND abs(time - now()) < 100", 3)
	r.await(conn, "SELECT toInt64(count()) FROM spillway.exposures WHERE arm = 'treat' AND propensity = 0.5 AND unit = 's1'", 1)
	r.await(conn, "SELECT toInt64(count()) FROM spillway.events WHERE cdn = 'b' AND detail['rate'] = '300kbps'", 1)
	r.equal(conn, "SELECT toInt64(count()) FROM spillway.telemetry WHERE abs(received_at - now()) < 100 AND abs(ts - now()) < 100", r.sent)
	r.equal(conn, "SELECT toInt64(count()) FROM spillway.telemetry WHERE bitrate_kbps = 2500 AND background IS NOT NULL AND playback_rate = 1.05 AND playhead_ms > 0 AND buffer_ms IS NULL AND app = 'live'", r.sent-1)
	dead, err := r.js.Stream(t.Context(), schemas.StreamDead)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := dead.GetLastMsgForSubject(t.Context(), "dead.loader"); err != nil || m.Header.Get(schemas.HeaderReason) == "" {
		t.Errorf("dead letter: %v", err)
	}
	// A block is in its roll-ups a moment later than in the table it is for.
	r.await(conn, "SELECT toInt64(sum(ended)) FROM spillway.rollup_minute", r.views)
	// The views lie on a minute's edge now and then: starts in one row, stalls in the next.
	var stall, p50, viewers float64
	for q, into := range map[string]*float64{
		"SELECT max(assumeNotNull(stall_ratio)) FROM spillway.v_cdn_minute WHERE cdn = 'a' AND stall_ratio IS NOT NULL":                    &stall,
		"SELECT assumeNotNull(first_screen_p50_ms) FROM spillway.v_cdn_minute WHERE cdn = 'a' AND starts > 0 ORDER BY starts DESC LIMIT 1": &p50,
		"SELECT toFloat64(sum(sessions)) FROM spillway.v_cdn_minute WHERE cdn = 'a'":                                                       &viewers,
	} {
		if err := conn.QueryRow(t.Context(), q).Scan(into); err != nil {
			t.Fatalf("%v\n%s", err, q)
		}
	}
	if stall <= 0 || p50 < 290 || p50 > 310 || viewers <= 0 {
		t.Errorf("stall ratio %v, first screen %v, sessions %v", stall, p50, viewers)
	}
}

// unluckyBlocks withholds the answer to a block on every second connection. A block is a few kilobytes, the
// handshake and the query before it less.
func unluckyBlocks(s relay.Said) bool {
	rng := rand.New(rand.NewPCG(7, uint64(s.Conn)))
	return s.Conn%2 == 1 && s.Bytes >= 2000+rng.Int64N(12_000)
}

// maxKills of ClickHouse are enough: on a busy machine feeding takes longer, and each kill makes it busier.
const maxKills = 4

// TestKills cuts loaders off at random moments and kills ClickHouse under
// them while telemetry flows. Every row and every sum is there once.
func TestKills(t *testing.T) {
	r := newRig(t)
	addr, restarted := r.addr, r.ch
	t.Cleanup(func() {
		if err := restarted.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	line := relay.Start(t, func() string { return addr })
	line.Withhold(unluckyBlocks)
	r.addr = line.Addr()
	s := r.sessionise()
	ls := []process{r.load(), r.load()}
	rng := rand.New(rand.NewPCG(3, 9))
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		for range 10 {
			r.feed(60, time.Now().UnixMilli()-8_000, 60*time.Millisecond)
		}
	}()
	kills, loaders := 0, 2
	for feeding := true; feeding; {
		select {
		case <-fed:
			feeding = false
		case <-time.After(time.Duration(150+rng.IntN(600)) * time.Millisecond):
		}
		if rng.IntN(3) == 0 && kills < maxKills {
			if err := restarted.Kill(); err != nil {
				t.Fatal(err)
			}
			next, err := restarted.Restart(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if next.NativeAddr() != addr {
				t.Fatalf("ClickHouse came back at %s, was at %s", next.NativeAddr(), addr)
			}
			restarted = next
			kills++
			continue
		}
		i := rng.IntN(2)
		ls[i].end(t)
		ls[i] = r.load()
		loaders++
	}
	conn := r.conn()
	r.settle(conn)
	for _, p := range append(ls, s) {
		p.end(t)
	}
	r.balance(conn)
	if line.Withheld() == 0 {
		t.Error("no insert was left without an answer: the test shows nothing")
	}
	t.Logf("%d kills of ClickHouse, %d loaders, %d answers lost, %d rows, %d repeated", kills, loaders, line.Withheld(), r.sent, r.repeated)
}

// TestPurge keeps on the bus what a sessioniser may still need, and no more.
func TestPurge(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	set := r.settings()
	set.Horizon, set.PurgeEvery = time.Second, 200*time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- loader.Run(ctx, set) }()
	state := func(stream string) jetstream.StreamState {
		st, err := r.js.Stream(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		info, err := st.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return info.State
	}
	messages := func(stream string) uint64 { return state(stream).Msgs }
	conn := r.conn()
	r.feed(20, time.Now().UnixMilli()-8_000, 0)
	before := messages(schemas.StreamTelemetry)
	r.await(conn, "SELECT toInt64(count()) FROM spillway.telemetry", r.sent)
	// Well beyond the horizon nothing may be gone while there is no snapshot.
	for end := time.Now().Add(2 * set.Horizon); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if n := messages(schemas.StreamTelemetry); n < before {
			t.Fatalf("%d of %d messages are left although no sessioniser has seen them", n, before)
		}
	}
	s := r.sessionise()
	r.await(conn, "SELECT sum(ended) FROM spillway.session_slices", r.views)
	for limit := time.Now().Add(2 * time.Minute); ; {
		r.feed(5, time.Now().UnixMilli()-7_000, 20*time.Millisecond)
		r.await(conn, "SELECT sum(ended) FROM spillway.session_slices", r.views)
		if messages(schemas.StreamTelemetry) < before && state(schemas.StreamSlices).FirstSeq > 1 {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("%d telemetry and %d slices messages are left, nothing was purged", messages(schemas.StreamTelemetry), messages(schemas.StreamSlices))
		}
	}
	// Readers that begin anew find what they need.
	s.end(t)
	s = r.sessionise()
	r.feed(5, time.Now().UnixMilli()-6_000, 0)
	r.settle(conn)
	s.end(t)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	r.balance(conn)
}
