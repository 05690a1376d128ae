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

	FlushEvery time.Duration // a block is closed this long after its first row; defaults to 500 ms
	// FlushRawEvery is the same for raw telemetry, which no roll-up waits for; defaults to 2 s. A row in a block of
	// 80,000 costs ClickHouse half of one in a block of 20,000.
	FlushRawEvery time.Duration
	FlushRows     int // or with this many rows; defaults to 250,000
	FlushBytes    int // or with this many bytes of messages; defaults to 64 MiB
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

// telemetryLanes is the number of lanes that the telemetry partitions are cut
// into, for raw rows and for slices each. Fewer lanes make fewer, larger
// inserts, which is what ClickHouse's cost hangs on; more spread over more
// processes. It cannot change without draining the bus.
const telemetryLanes = 2

// laneSpec says what a lane reads and writes.
type laneSpec struct {
	name     string // key in the ledger: <table>.<number>
	table    string
	stream   string
	subjects []string
	purge    bool // the stream keeps everything until it is purged
	newBlock func() builder
}

func laneSpecs() []laneSpec {
	var out []laneSpec
	for i := range telemetryLanes {
		var tel, sl []string
		for p := i; p < schemas.TelemetryPartitions; p += telemetryLanes {
			tel = append(tel, schemas.TelemetrySubject(p))
			sl = append(sl, schemas.SlicesSubject(p))
		}
		out = append(out,
			laneSpec{fmt.Sprint(clickhouse.TableTelemetry, ".", i), clickhouse.TableTelemetry, schemas.StreamTelemetry, tel, true, newTelemetry},
			laneSpec{fmt.Sprint(clickhouse.TableSlices, ".", i), clickhouse.TableSlices, schemas.StreamSlices, sl, true, newSlices})
	}
	return append(out,
		laneSpec{clickhouse.TableDecisions + ".0", clickhouse.TableDecisions, schemas.StreamDecisions, []string{"decisions.>"}, false, newDecisions},
		laneSpec{clickhouse.TableExposures + ".0", clickhouse.TableExposures, schemas.StreamDecisions, []string{"exposures.*"}, false, newExposures},
		laneSpec{clickhouse.TableEvents + ".0", clickhouse.TableEvents, schemas.StreamEvents, []string{"events.>"}, false, newEvents})
}

// Run takes part in the work until ctx ends. More processes share it. The
// tables must be there (package schemas/clickhouse); until they are it waits.
func Run(ctx context.Context, s Settings) error {
	s.FlushEvery = cmp.Or(s.FlushEvery, 500*time.Millisecond)
	s.FlushRawEvery = cmp.Or(s.FlushRawEvery, max(2*time.Second, s.FlushEvery))
	s.FlushRows = cmp.Or(s.FlushRows, 250_000)
	s.FlushBytes = cmp.Or(s.FlushBytes, 96<<20)
	s.Horizon = cmp.Or(s.Horizon, 10*time.Minute)
	s.PurgeEvery = cmp.Or(s.PurgeEvery, 30*time.Second)
	s.ClickHouse.Database = cmp.Or(s.ClickHouse.Database, "spillway")
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	kv, err := s.JetStream.KeyValue(ctx, schemas.BucketLedger)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", schemas.BucketLedger, err)
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
				l.FlushEvery = s.FlushRawEvery
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
