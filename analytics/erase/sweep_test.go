package erase_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/analytics/erase"
	"github.com/spillway-live/spillway/analytics/qoe/loader"
	"github.com/spillway-live/spillway/analytics/qoe/session"
	"github.com/spillway-live/spillway/analytics/qoe/sessioniser"
	"github.com/spillway-live/spillway/ingest/collect/sink"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	chserver "github.com/spillway-live/spillway/testenv/clickhouse"
	"github.com/spillway-live/spillway/testenv/clickhouse/tablestest"
	"github.com/spillway-live/spillway/testenv/running"
)

const erased, other = "aaaa0001", "bbbb0001"

// background runs a part of the system until the test ends.
func background(t *testing.T, run func(context.Context) error) (stop func()) {
	t.Helper()
	stop = running.Start(t, run).Stop
	return stop
}

// neighbours gives two session ids of one partition.
func neighbours() (a, b string) {
	a = "session-a"
	for i := 0; ; i++ {
		if b = fmt.Sprint("session-b", i); schemas.TelemetryPartition(a) == schemas.TelemetryPartition(b) {
			return a, b
		}
	}
}

// TestErasureReachesWhatIsOnItsWay erases a viewer whose rows are in a collector's
// spool and whose decision and exposure wait on the bus: they arrive later, become
// slices of an open session, and go again, from the bus and the snapshots too.
func TestErasureReachesWhatIsOnItsWay(t *testing.T) {
	b := bustest.Start(t)
	srv, conn := tablestest.Start(t)
	ctx := t.Context()

	gone, stays := neighbours()
	var sn, sent int64
	row := func(sid, viewer, state string) schemas.Telemetry {
		sn++
		now := time.Now()
		return schemas.Telemetry{
			ReceivedUnixUs: now.UnixMicro(), TsUnixMs: now.UnixMilli(), Source: schemas.SourceCMCDEvent, Event: "ps", State: state,
			SessionID: sid, ViewerID: viewer, App: "live", Stream: "one", CDN: "a", Seq: schemas.OptInt64{V: sn, OK: true},
		}
	}
	if err := b.JS.DeleteStream(ctx, schemas.StreamTelemetry); err != nil { // so that the sink spools
		t.Fatal(err)
	}
	k, err := sink.New(sink.Settings{JS: b.JS, SpoolDir: t.TempDir(), FlushAfter: time.Millisecond, SpoolAfter: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	background(t, k.Run)
	put := func(rows ...schemas.Telemetry) {
		t.Helper()
		if err := k.Put(ctx, rows); err != nil {
			t.Fatal(err)
		}
	}
	put(row(gone, erased, "s"), row(stays, other, "s"), row(gone, erased, "p"), row(stays, other, "p"))
	sent = 2
	now := time.Now().UnixMicro()
	for _, v := range []struct{ sid, viewer string }{{gone, erased}, {stays, other}} {
		d := &schemas.Decision{ID: "d-" + v.sid, TimeUs: now, Kind: schemas.DecisionDispatch, App: "live", Stream: "one", SessionID: v.sid, ViewerID: v.viewer, Probability: 1}
		x := &schemas.Exposure{ID: "x-" + v.sid, TimeUs: now, Experiment: "exp", Salt: "s", Unit: v.viewer, UnitKind: "viewer", App: "live", Stream: "one", Arm: "a", Propensity: 1}
		for subject, rec := range map[string]interface{ Check() error }{schemas.DecisionSubject(d): d, schemas.ExposureSubject(x): x} {
			data, err := schemas.EncodeRecord(rec)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := b.JS.Publish(ctx, subject, data); err != nil {
				t.Fatal(err)
			}
		}
	}

	// What the command does: nothing is in ClickHouse yet.
	if err := erase.Ask(ctx, b.JS, []string{erased, "aaaa0002"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	r, err := erase.Viewer(ctx, erase.Settings{ClickHouse: conn}, []string{erased, "aaaa0002"})
	if err != nil || r.Sessions != 0 {
		t.Fatalf("%+v %v", r, err)
	}

	reg := prometheus.NewRegistry()
	background(t, erase.Sweeper{JetStream: b.JS, Settings: erase.Settings{ClickHouse: conn}, Soon: 300 * time.Millisecond, Registerer: reg}.Run)
	background(t, func(ctx context.Context) error {
		return loader.Run(ctx, loader.Settings{
			JetStream:  b.JS,
			ClickHouse: loader.ClickHouse{Addr: srv.NativeAddr(), User: string(chserver.Writer), Password: srv.Password(chserver.Writer)},
			FlushEvery: 50 * time.Millisecond, FlushRawEvery: 50 * time.Millisecond, Horizon: 500 * time.Millisecond, PurgeEvery: 100 * time.Millisecond,
		})
	})
	background(t, func(ctx context.Context) error {
		return sessioniser.Run(ctx, sessioniser.Settings{
			JetStream: b.JS, TickEvery: 100 * time.Millisecond, SnapshotEvery: 300 * time.Millisecond, Session: session.Config{GraceMs: 300, KeepMs: 500},
		})
	})
	if err := schemas.EnsureBus(ctx, b.JS, schemas.BusSettings{}); err != nil {
		t.Fatal(err)
	}
	found := func() string {
		var in []string
		for _, stream := range []string{schemas.StreamTelemetry, schemas.StreamSlices} {
			if holds(t, b.JS, stream, erased) {
				in = append(in, stream)
			}
		}
		store, err := b.JS.ObjectStore(ctx, schemas.BucketSnapshots)
		if err != nil {
			t.Fatal(err)
		}
		data, err := store.GetBytes(ctx, sessioniser.SnapshotName(schemas.TelemetryPartition(gone)))
		if err == nil && bytes.Contains(data, []byte(erased)) {
			in = append(in, "snapshot")
		}
		return strings.Join(in, ", ")
	}
	for _, table := range []string{"telemetry", "session_slices", "sessions", "decisions", "exposures"} {
		await.True(t, "rows of the viewer arrive in "+table+" and are deleted", func() bool { return counter(t, reg, table) > 0 })
	}
	put(row(gone, erased, "e"))

	// The other viewer of the partition goes on, so time does too.
	await.Text(t, "nothing of the viewer is left on the bus or in snapshots", func() string {
		put(row(stays, other, "p"))
		sent++
		return found()
	})
	if !holds(t, b.JS, schemas.StreamSlices, other) {
		t.Error("slices of the other viewer cannot be found on the bus: the search proves nothing")
	}
	count := func(sql string) (n int64) {
		t.Helper()
		if err := conn.QueryRow(ctx, sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	await.Text(t, "the viewer is nowhere in ClickHouse", func() string {
		var in []string
		for table, cond := range map[string]string{
			"telemetry": "session_id = '" + gone + "'", "session_slices": "session_id = '" + gone + "'", "sessions": "session_id = '" + gone + "'",
			"decisions": "session_id = '" + gone + "'", "exposures": "unit = '" + erased + "'",
		} {
			if count("SELECT toInt64(count()) FROM spillway."+table+" WHERE "+cond) > 0 {
				in = append(in, table)
			}
		}
		return strings.Join(in, ", ")
	})
	await.True(t, "all rows of the other viewer are there", func() bool {
		return count("SELECT toInt64(count()) FROM spillway.telemetry WHERE viewer_id = '"+other+"'") == sent
	})
	if count("SELECT toInt64(count()) FROM spillway.decisions") != 1 || count("SELECT toInt64(count()) FROM spillway.exposures") != 1 {
		t.Error("the other viewer's decision or exposure is not there")
	}
}

// holds looks for text in what is on a stream; Arrow holds text as it is.
func holds(t *testing.T, js jetstream.JetStream, stream, text string) bool {
	t.Helper()
	cons, err := js.OrderedConsumer(t.Context(), stream, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for {
		batch, err := cons.FetchNoWait(1000)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for m := range batch.Messages() {
			if n++; bytes.Contains(m.Data(), []byte(text)) {
				return true
			}
		}
		if n == 0 {
			return false
		}
	}
}

func counter(t *testing.T, reg *prometheus.Registry, table string) float64 {
	t.Helper()
	return running.Sum(t, reg, "spillway_eraser_deleted_rows_total", "table", table)
}
