package report_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/spillway-live/spillway/ingest/report"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
)

// Reports made while the bus refuses them arrive in order when it takes them again.
func TestReportsOutliveOutage(t *testing.T) {
	b := bustest.Start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, name := range []string{schemas.StreamEvents, schemas.StreamTelemetry} {
		if err := b.JS.DeleteStream(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	r, err := report.New(report.Settings{JetStream: b.JS, FlushEvery: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx)
	}()
	for range 20 {
		r.Event(schemas.Event{Kind: schemas.EventBackPressure, App: "live", Stream: "demo", Reason: "test"})
		r.Telemetry(schemas.Telemetry{ReceivedUnixUs: 1, TsUnixMs: 1, Source: schemas.SourcePublisher, SessionID: "pub-live-demo-1", App: "live", Stream: "demo"})
	}
	if err := schemas.EnsureBus(ctx, b.JS, schemas.BusSettings{}); err != nil {
		t.Fatal(err)
	}
	await.Text(t, "20 events and 20 rows arrive", func() string {
		ev, err := b.JS.Stream(ctx, schemas.StreamEvents)
		if err != nil {
			t.Fatal(err)
		}
		tel, err := b.JS.Stream(ctx, schemas.StreamTelemetry)
		if err != nil {
			t.Fatal(err)
		}
		rows := 0
		for s := uint64(1); s <= tel.CachedInfo().State.LastSeq; s++ {
			m, err := tel.GetMsg(ctx, s)
			if err != nil {
				t.Fatal(err)
			}
			got, err := schemas.DecodeTelemetry(m.Data)
			if err != nil {
				t.Fatal(err)
			}
			rows += len(got)
		}
		if ev.CachedInfo().State.Msgs == 20 && rows == 20 {
			return ""
		}
		return fmt.Sprintf("%d events and %d rows", ev.CachedInfo().State.Msgs, rows)
	})
	cancel()
	<-done
}
