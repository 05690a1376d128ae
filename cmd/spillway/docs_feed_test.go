package main

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/analytics/qoe/loader"
	"github.com/spillway-live/spillway/analytics/qoe/session"
	"github.com/spillway-live/spillway/analytics/qoe/sessioniser"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/clickhouse"
)

// feedDocs has the pipeline (bus, sessioniser, loader) fill the tables with
// thirty short views, edges' log lines, publishers' reports and records.
func feedDocs(t *testing.T, srv *clickhouse.Server, analyst driver.Conn) {
	t.Helper()
	b := bustest.Start(t)
	n := publishDocs(t, b.JS, time.Now().Add(-30*time.Second).UnixMilli())
	loadDocs(t, b.JS, loader.ClickHouse{Addr: srv.NativeAddr(), User: string(clickhouse.Writer), Password: srv.Password(clickhouse.Writer)}, nil)
	awaitDocs(t, analyst, n)
}

// publishDocs puts reports, log lines and records on the bus and gives the number of telemetry rows.
func publishDocs(t *testing.T, js jetstream.JetStream, base int64) int {
	t.Helper()
	var rows []schemas.Telemetry
	for i := range 30 {
		for k, step := range []struct {
			ms           int64
			event, state string
		}{{0, "ps", "s"}, {300, "ps", "p"}, {2300, "ps", "r"}, {3000, "ps", "p"}, {6000, "ps", "q"}} {
			rows = append(rows, schemas.Telemetry{
				ReceivedUnixUs: (base + step.ms) * 1000, TsUnixMs: base + step.ms, Source: schemas.SourceCMCDEvent, Event: step.event, State: step.state,
				SessionID: fmt.Sprint("s", i), ViewerID: fmt.Sprint("v", i%10), App: "live", Stream: "show", CDN: string(rune('a' + i%3)), Region: "eu", ISP: "net",
				Client: "hls.js", Arms: []string{"player-delay=control", "player-delay=treat"}[i%2], Seq: schemas.OptInt64{V: int64(k), OK: true},
				BitrateKbps: schemas.OptInt32{V: 2500, OK: true}, LiveLatencyMs: schemas.OptInt32{V: int32(2000 + i), OK: true},
			})
		}
		line := schemas.Telemetry{ReceivedUnixUs: base * 1000, TsUnixMs: base, Source: schemas.SourceCDNLog, SessionID: fmt.Sprint("s", i), App: "live", Stream: "show", CDN: "a", Region: "eu",
			ResponseCode: schemas.OptInt32{V: 200, OK: true}, FirstByteMs: schemas.OptInt32{V: 20, OK: true}, HopDelayMs: schemas.OptFloat64{V: 40, OK: true}}
		schemas.PartName{Key: schemas.StreamKey{App: "live", Stream: "show"}, Rendition: "src", Track: schemas.Video, Epoch: 1, MSN: uint64(i)}.Mark(&line, schemas.HopEdge)
		rows = append(rows, line,
			schemas.Telemetry{ReceivedUnixUs: base * 1000, TsUnixMs: base, Source: schemas.SourcePublisher, App: "live", Stream: "show", FPS: schemas.OptFloat64{V: 30, OK: true}})
	}
	rows = append(rows, schemas.Telemetry{ReceivedUnixUs: base * 1000, TsUnixMs: base, Source: schemas.SourcePublisherReport, App: "live", Stream: "show", ClientVersion: "enc 2",
		PublishStallMs: schemas.OptInt64{V: 100, OK: true}, Detail: `{"interval_ms":"5000"}`})
	send := func(subject string, data []byte, header nats.Header) {
		t.Helper()
		if _, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Data: data, Header: header}); err != nil {
			t.Fatal(err)
		}
	}
	parts := map[int][]schemas.Telemetry{}
	for _, r := range rows {
		p := schemas.TelemetryPartition(r.SessionID)
		parts[p] = append(parts[p], r)
	}
	for p, rows := range parts {
		data, err := schemas.EncodeTelemetry(rows)
		if err != nil {
			t.Fatal(err)
		}
		send(schemas.TelemetrySubject(p), data, nats.Header{schemas.HeaderProducer: {"docs"}, schemas.HeaderProducerSeq: {"1"}, schemas.HeaderRows: {strconv.Itoa(len(rows))}})
	}
	d := &schemas.Decision{ID: "d", TimeUs: base * 1000, Kind: schemas.DecisionDispatch, App: "live", Stream: "show", SessionID: "s0", Policy: "p", PolicyVersion: "1",
		Candidates: []schemas.Candidate{{CDN: "a", Score: 1}}, Chosen: "a", Probability: 1, ReasonCode: "affinity"}
	x := &schemas.Exposure{ID: "x", TimeUs: base * 1000, Experiment: "player-delay", Unit: "s0", UnitKind: "session", SessionID: "s0", App: "live", Stream: "show", Arm: "treat", Propensity: 0.5, Reason: "assigned"}
	e := &schemas.Event{ID: "e", TimeUs: base * 1000, Kind: schemas.EventPublishRefused, App: "live", Stream: "show", Reason: "the key is wrong"}
	month := &schemas.Event{ID: "m", TimeUs: time.Now().UnixMicro(), Kind: schemas.EventCDNState, CDN: "a", Detail: map[string]string{"gb": "3", "spend_usd": "0.5"}}
	for subject, r := range map[string]interface{ Check() error }{schemas.DecisionSubject(d): d, schemas.EventSubject(month): month, schemas.ExposureSubject(x): x, schemas.EventSubject(e): e} {
		data, err := schemas.EncodeRecord(r)
		if err != nil {
			t.Fatal(err)
		}
		send(subject, data, nil)
	}
	return len(rows)
}

// loadDocs runs sessioniser and loader until the test ends.
func loadDocs(t *testing.T, js jetstream.JetStream, to loader.ClickHouse, metrics prometheus.Registerer) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	go func() {
		done <- sessioniser.Run(ctx, sessioniser.Settings{JetStream: js, TickEvery: 200 * time.Millisecond, Session: session.Config{GraceMs: 500}})
	}()
	go func() {
		done <- loader.Run(ctx, loader.Settings{JetStream: js, FlushEvery: 100 * time.Millisecond, FlushRawEvery: 100 * time.Millisecond, Registerer: metrics, ClickHouse: to})
	}()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// awaitDocs waits until all that publishDocs has sent is in the tables and in what is made of them.
func awaitDocs(t *testing.T, analyst driver.Conn, rows int) {
	t.Helper()
	within(t, time.Minute, "everything is in ClickHouse", func() error {
		var n int64
		err := analyst.QueryRow(t.Context(), `SELECT toInt64((SELECT count() FROM spillway.telemetry) + (SELECT sum(reports) FROM spillway.rollup_hour) + (SELECT sum(ended) FROM spillway.sessions)
			+ (SELECT count() FROM spillway.decisions) + (SELECT count() FROM spillway.exposures) + (SELECT count() FROM spillway.events))`).Scan(&n)
		if err == nil && n != int64(rows+180+30+4) {
			err = fmt.Errorf("%d rows, reports, ends and records, want %d", n, rows+180+30+4)
		}
		return err
	})
}
