package source_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/analytics/export"
	"github.com/spillway-live/spillway/analytics/sandbox/source"
	"github.com/spillway-live/spillway/testenv/clickhouse/tablestest"
)

// TestClickHouse: a session is read with the decision that began it and what its
// player measured; one that is open, or has no CDN, is left out.
func TestClickHouse(t *testing.T) {
	srv, conn := tablestest.Start(t)
	at := time.Now().UTC().Add(-time.Hour).Truncate(time.Second)
	exec := func(q string, a ...any) {
		t.Helper()
		if err := conn.Exec(t.Context(), q, a...); err != nil {
			t.Fatal(err)
		}
	}
	for i, chosen := range []string{"a", "b"} {
		exec(`INSERT INTO spillway.decisions (time, kind, id, session_id, chosen, probability) VALUES (fromUnixTimestamp64Micro(?), ?, ?, 's1', ?, ?)`,
			at.Add(time.Duration(i*20)*time.Second).UnixMicro(), []string{"dispatch", "steering"}[i], chosen, chosen, 0.25*float64(i+1))
	}
	slice := func(id, kind, cdn string, sec int, startup int64) {
		t.Helper()
		exec(`INSERT INTO spillway.session_slices (time_ms, kind, session_id, viewer_id, app, stream, cdn, region, isp, starts, startup_ms, played_ms, stalls, stalled_ms,
			latency_ms_sum, latency_weight_ms, request_bytes, ended, attempts, requests) VALUES (?, ?, ?, 'v', 'live', 'demo', ?, 'eu', 'x', ?, ?, 10000, 1, 500, 20000000, 10000, 1000, ?, ?, 1)`,
			at.Add(time.Duration(sec)*time.Second).UnixMilli(), kind, id, cdn, min(startup, 1), startup, map[string]int64{"final": 1}[kind], min(startup, 1))
	}
	slice("s1", "delta", "a", 1, 400)
	slice("s1", "final", "b", 41, 0)
	slice("s2", "delta", "a", 1, 400) // open
	slice("s3", "final", "", 1, 400)  // nowhere
	slice("s4", "final", "a", 1, 0)   // a player that told nothing
	exec(`INSERT INTO spillway.telemetry (received_us, session_id, throughput_kbps) VALUES (?, 's1', 4000), (?, 's1', 6000)`,
		at.UnixMicro(), at.UnixMicro())
	r, err := source.ClickHouse(t.Context(), conn, "spillway", at.Add(-time.Minute), at.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Sessions) != 1 {
		t.Fatalf("%+v", r.Sessions)
	}
	s := r.Sessions[0]
	if s.ID != "s1" || s.Viewer != "v" || s.CDN != "a" || s.Probability != 0.25 || !s.Started || s.FirstScreenSec != 0.4 || s.PlayedSec != 20 || s.StalledSec != 1 ||
		s.Stalls != 2 || s.LatencySec != 2 || s.Bytes != 2000 || s.WatchSec != 40 || s.ThroughputBps != 5e6 || s.Requests != 2 || s.RequestErrors != 0 {
		t.Errorf("%+v", s)
	}
	// What is exported says the same.
	for _, format := range []string{"parquet", "arrow"} {
		dir := t.TempDir()
		for _, view := range []string{"v_sessions", "decisions", "telemetry"} {
			if _, err := export.Run(t.Context(), export.Settings{URL: srv.AnalystURL(), View: view, Format: format, Out: filepath.Join(dir, view+"."+format)}); err != nil {
				t.Fatal(err)
			}
		}
		got, err := source.Export(dir)
		if err != nil || !reflect.DeepEqual(got.Sessions, r.Sessions) {
			t.Errorf("%s: %+v, %v", format, got, err)
		}
	}
}

// TestExportRefuses: what cannot be read is named, and what to do.
func TestExportRefuses(t *testing.T) {
	for name, content := range map[string]string{"v_sessions.parquet": "PAR1 no parquet PAR1", "v_sessions.arrow": "no arrow", "other": ""} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := source.Export(dir); err == nil || !strings.Contains(err.Error(), "v_sessions") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
