package session_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/spillway-live/spillway/analytics/qoe/session"
	"github.com/spillway-live/spillway/schemas"
)

// heap is what is in use, bytes.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkOpenSessions measures what open sessions hold that have played for
// minutes and reported 20 events every ten seconds, and what a takeover costs:
// writing and reading the snapshot of all of them.
func BenchmarkOpenSessions(b *testing.B) {
	const sessions, reports, perReport = 20_000, 15, 20
	for b.Loop() {
		before := heap()
		t := session.New(session.Config{MaxSessions: sessions})
		base := time.Now().UnixMilli()
		for k := range reports {
			for from := 0; from < sessions; from += 1000 {
				rows := make([]schemas.Telemetry, 0, 1000*perReport)
				for i := from; i < from+1000; i++ {
					for j := range perReport {
						at := base + int64(k)*10_000 + int64(j)*500
						sn := int64(k*perReport + j)
						e, st := "rr", ""
						if j == 0 {
							e, st = "t", "p"
						}
						if k == 0 && j == 0 {
							e, st = "ps", "s"
						}
						rows = append(rows, schemas.Telemetry{
							ReceivedUnixUs: (base + int64(k)*10_000 + 9_800) * 1000, TsUnixMs: at, Source: schemas.SourceCMCDEvent, Event: e, State: st,
							SessionID: fmt.Sprintf("353c2f94-7c26-4424-9997-%012d", i), ViewerID: fmt.Sprintf("%016x", i), App: "live", Stream: fmt.Sprint("stream", i%50),
							CDN: string(rune('a' + i%3)), Region: "eu", ISP: fmt.Sprint("isp", i%20), Device: "desktop", OS: "linux", Client: "hls.js", ClientVersion: "1.7.4",
							Protocol: "h", Arms: "x=a", Seq: schemas.OptInt64{V: sn, OK: true}, BitrateKbps: schemas.OptInt32{V: 2500, OK: true},
							LiveLatencyMs: schemas.OptInt32{V: int32(1500 + (i+k*j)%300), OK: true},
						})
					}
				}
				t.Add(rows, base+int64(k)*10_000+9_800)
			}
			t.Tick(base + int64(k+1)*10_000)
		}
		held := heap() - before
		b.ReportMetric(float64(held)/sessions, "bytes/session")
		start := time.Now()
		snap := t.AppendSnapshot(nil)
		b.ReportMetric(float64(time.Since(start).Microseconds())/sessions, "snapshot-us/session")
		b.ReportMetric(float64(len(snap))/sessions, "snapshot-bytes/session")
		start = time.Now()
		u, err := session.Restore(snap, session.Config{MaxSessions: sessions})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(start).Microseconds())/sessions, "restore-us/session")
		if u.Open() != sessions || t.Open() != sessions {
			b.Fatalf("%d and %d sessions are open", u.Open(), t.Open())
		}
		runtime.KeepAlive(t)
	}
	b.ReportMetric(0, "ns/op")
}
