package loader

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/clickhouse"
	"github.com/spillway-live/spillway/schemas/lease"
)

// Settings of the service.
type Settings struct {
	JetStream  jetstream.JetStream
	ClickHouse ClickHouse
	Logger     *slog.Logger          // nil is silent
	Registerer prometheus.Registerer // nil: metrics are not exported

	// FlushEvery is how long after its first row a block is closed, FlushMax the same while more waits on the bus:
	// then fewer, larger blocks catch up sooner. Default 500 ms and 1.5 s. What comes during an insert waits for its
	// end, too, so that blocks grow with what inserts take.
	FlushEvery, FlushMax time.Duration
	// FlushRawEvery and FlushRawMax are those of raw telemetry, for which no roll-up of sessions waits; default 1 s
	// and 4 s. The latter also holds while many rows come: a row in a block of 80,000 costs ClickHouse half of one in
	// a block of 20,000.
	FlushRawEvery, FlushRawMax time.Duration
	FlushRows                  int // or with this many rows; defaults to 250,000
	FlushBytes                 int // or with this many bytes of messages; defaults to 96 MiB
	// Horizon is how long TELEMETRY and SLICES keep what ClickHouse holds already; defaults to 10 min.
	Horizon    time.Duration
	PurgeEvery time.Duration // defaults to 30 s
	LeaseTTL   time.Duration // a silent process is dead after this; defaults to 3 s
	ID         string        // of this process; defaults to a random one
}

// ClickHouse says where the tables are.
type ClickHouse struct {
	Addr     string // host:port of the native protocol
	User     string // needs INSERT on the tables
	Password string
	Database string // defaults to "spillway"
}

// telemetryLanes is the number of lanes that the partitions of raw telemetry are
// cut into. Fewer lanes make fewer, larger inserts, which is what ClickHouse's
// cost hangs on; more spread over more processes. It cannot change without
// draining the bus, or lanes that go on where others ended (laneSpec.before).
const telemetryLanes = 2

// laneSpec says what a lane reads and writes.
type laneSpec struct {
	name     string // key in the ledger: <table>.<number>
	table    string
	stream   string
	subjects []string
	purge    bool // the stream keeps everything until it is purged
	newBlock func() builder
	before   []laneSpec // lanes of earlier versions that had the subjects
}

// Lanes of telemetry and slices are named <table>.<number>, that of all slices session_slices.all. All partitions
// tick on the same second and an insert of slices costs ClickHouse 60 to 110 ms for its views before its first
// row, so that a second lane would double what they cost.
func laneSpecs() []laneSpec {
	var out []laneSpec
	slices := laneSpec{name: clickhouse.TableSlices + ".all", table: clickhouse.TableSlices, stream: schemas.StreamSlices, purge: true, newBlock: newSlices}
	for i := range telemetryLanes {
		name := func(table string) string { return fmt.Sprint(table, ".", i) }
		raw := laneSpec{name: name(clickhouse.TableTelemetry), table: clickhouse.TableTelemetry, stream: schemas.StreamTelemetry, purge: true, newBlock: newTelemetry}
		old := slices
		old.name = name(clickhouse.TableSlices)
		for p := i; p < schemas.TelemetryPartitions; p += telemetryLanes {
			raw.subjects = append(raw.subjects, schemas.TelemetrySubject(p))
			old.subjects = append(old.subjects, schemas.SlicesSubject(p))
		}
		out = append(out, raw)
		slices.before = append(slices.before, old)
	}
	for p := range schemas.TelemetryPartitions {
		slices.subjects = append(slices.subjects, schemas.SlicesSubject(p))
	}
	record := func(table, stream, subject string, newBlock func() builder) laneSpec {
		return laneSpec{name: table + ".0", table: table, stream: stream, subjects: []string{subject}, newBlock: newBlock}
	}
	return append(out, slices,
		record(clickhouse.TableDecisions, schemas.StreamDecisions, "decisions.>", newDecisions),
		record(clickhouse.TableExposures, schemas.StreamDecisions, "exposures.*", newExposures),
		record(clickhouse.TableEvents, schemas.StreamEvents, "events.>", newEvents))
}

// Run takes part in the work until ctx ends. More processes share it. The
// tables must be there (package schemas/clickhouse); until they are it waits.
func Run(ctx context.Context, s Settings) error {
	s.FlushEvery = cmp.Or(s.FlushEvery, 500*time.Millisecond)
	s.FlushMax = max(s.FlushEvery, cmp.Or(s.FlushMax, 1500*time.Millisecond))
	s.FlushRawEvery = cmp.Or(s.FlushRawEvery, max(time.Second, s.FlushEvery))
	s.FlushRawMax = max(s.FlushRawEvery, cmp.Or(s.FlushRawMax, 4*time.Second))
	s.FlushRows = cmp.Or(s.FlushRows, 250_000)
	s.FlushBytes = cmp.Or(s.FlushBytes, 96<<20)
	s.Horizon = cmp.Or(s.Horizon, 10*time.Minute)
	s.PurgeEvery = cmp.Or(s.PurgeEvery, 30*time.Second)
	s.ClickHouse.Database = cmp.Or(s.ClickHouse.Database, "spillway")
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	kv, err := schemas.OpenBucket(ctx, s.JetStream, schemas.BucketLedger)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	m := newMetrics(s.Registerer)
	specs := map[string]laneSpec{}
	var names []string
	for _, l := range laneSpecs() {
		specs[l.name] = l
		names = append(names, l.name)
	}
	return lease.Pool{
		KV: kv, Conn: s.JetStream.Conn(), Role: "loader", Names: names, TTL: s.LeaseTTL, ID: s.ID, Logger: s.Logger,
		Work: func(ctx context.Context, name string) error {
			l := &lane{Settings: s, laneSpec: specs[name], m: m, kv: kv}
			if l.table == clickhouse.TableTelemetry {
				l.FlushEvery, l.FlushMax, l.many = s.FlushRawEvery, s.FlushRawMax, manyRows
			}
			err := l.run(ctx)
			if ctx.Err() != nil {
				return nil
			}
			return err
		},
	}.Run(ctx)
}

type metrics struct {
	rows, blocks, duplicateRows, duplicateBatches, dead, mended, failures *prometheus.CounterVec
	insertSeconds                                                         *prometheus.HistogramVec
	lastSuccess, pending, down                                            *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	const ns, sub = "spillway", "loader"
	label := []string{"lane"}
	must := func(c prometheus.Collector) {
		if r != nil {
			r.MustRegister(c)
		}
	}
	c := func(name, help string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help}, label)
		must(v)
		return v
	}
	g := func(name, help string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help}, label)
		must(v)
		return v
	}
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: ns, Subsystem: sub, Name: "insert_seconds", Help: "time of one insert", Buckets: prometheus.ExponentialBuckets(0.005, 2, 12),
	}, label)
	must(h)
	return &metrics{
		rows:             c("rows_total", "rows inserted"),
		blocks:           c("blocks_total", "blocks inserted"),
		duplicateRows:    c("duplicate_rows_total", "rows dropped because their batch's producer and counter were seen"),
		duplicateBatches: c("duplicate_batches_total", "batches dropped because their producer and counter were seen"),
		dead:             c("dead_letters_total", "messages nobody could read"),
		mended:           c("mended_rows_total", "rows changed because ClickHouse would have refused them"),
		failures:         c("failures_total", "inserts that failed and were repeated"),
		insertSeconds:    h,
		lastSuccess:      g("last_success_timestamp_seconds", "when the last block went in, Unix seconds"),
		pending:          g("pending_messages", "messages waiting on the bus"),
		down:             g("clickhouse_down", "1 while inserts fail"),
	}
}
