package session_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/spillway-live/spillway/analytics/qoe/session"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/columnar"
)

// cpuSeconds is what this process has used.
func cpuSeconds(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// BenchmarkReplay measures what a takeover costs: reading the snapshot of a partition's sessions, and replaying
// reports of each session every 30 s, a message of a second's rows at a time. Microseconds are of CPU.
func BenchmarkReplay(b *testing.B) {
	const sessions, every, seconds = 60_000, 30, 45
	table := schemas.TelemetryTable()
	var messages [][]byte
	base := time.Now().UnixMilli()
	for s := range seconds {
		var rows []schemas.Telemetry
		for i := s % every; i < sessions; i += every {
			at := base + int64(s)*1000
			rows = append(rows, schemas.Telemetry{
				ReceivedUnixUs: at * 1000, TsUnixMs: at - 40, Source: schemas.SourceCMCDEvent, Event: "t", State: "p",
				SessionID: fmt.Sprintf("353c2f94-7c26-4424-9997-%012d", i), ViewerID: fmt.Sprintf("%016x", i), App: "live", Stream: fmt.Sprint("stream", i%50),
				CDN: string(rune('a' + i%3)), Region: "eu", ISP: fmt.Sprint("isp", i%20), Device: "desktop", OS: "linux", Client: "hls.js", ClientVersion: "1.7.4",
				Protocol: "h", Arms: "x=a", Seq: columnar.Some(int64(s / every)), BitrateKbps: columnar.Some(int32(2500)), LiveLatencyMs: columnar.Some(int32(1500 + i%300)),
			})
		}
		data, err := schemas.EncodeTelemetry(rows)
		if err != nil {
			b.Fatal(err)
		}
		messages = append(messages, data)
	}
	play := func(t *session.Table, from, to int) (rows int) {
		var mem []schemas.Telemetry
		var out []schemas.Slice
		var err error
		for s := from; s < to; s++ {
			if mem, err = table.DecodeColumns(messages[s], session.Columns(), mem[:0]); err != nil {
				b.Fatal(err)
			}
			at := base + int64(s)*1000
			t.Add(mem, at)
			out = t.AppendTick(out[:0], at+500)
			rows += len(mem)
		}
		return rows
	}
	for b.Loop() {
		t := session.New(session.Config{})
		play(t, 0, every)
		data := t.AppendSnapshot(nil)
		from := cpuSeconds(b)
		t, err := session.Restore(data, session.Config{})
		if err != nil {
			b.Fatal(err)
		}
		restored := cpuSeconds(b)
		rows := play(t, every, seconds)
		b.ReportMetric((restored-from)*1e6/sessions, "restore-us/session")
		b.ReportMetric((cpuSeconds(b)-restored)*1e6/float64(rows), "replay-us/row")
	}
	b.ReportMetric(0, "ns/op")
}
