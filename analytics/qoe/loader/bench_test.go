package loader_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/analytics/qoe/loader"
	"github.com/spillway-live/spillway/analytics/qoe/sessioniser"
	"github.com/spillway-live/spillway/schemas"
)

// BenchmarkPipeline measures CPU from a full TELEMETRY stream to queryable
// rows, slices and roll-ups: sessioniser, then loader, one after the other, and
// ClickHouse under it. The Go figures hold the embedded NATS server. Batches have 1,000 rows;
// each of 20,000 sessions reports once in ten seconds. It reports microseconds of CPU per telemetry row.
func BenchmarkPipeline(b *testing.B) {
	const sessions, rounds, batch = 20_000, 20, 1000
	r := newRig(b)
	base := time.Now().UnixMilli() - rounds*10_000 - 20_000
	var sent int64
	byPart := map[int][]int{}
	for i := range sessions {
		p := schemas.TelemetryPartition(fmt.Sprint("session-of-a-viewer-", i))
		byPart[p] = append(byPart[p], i)
	}
	seq := map[int]uint64{}
	for k := range int64(rounds) {
		for p := range schemas.TelemetryPartitions {
			ids := byPart[p]
			for from := 0; from < len(ids); from += batch {
				part := ids[from:min(from+batch, len(ids))]
				rows := make([]schemas.Telemetry, len(part))
				for i, id := range part {
					at := base + k*10_000 + int64(from+i)*10_000/int64(len(ids))
					event, state := "t", "p"
					switch {
					case k == 0:
						event, state = "ps", "s"
					case k == 1:
						event = "ps"
					case (int64(id)+k)%20 == 0:
						event, state = "ps", "r"
					case (int64(id)+k)%20 == 1:
						event = "ps"
					}
					rows[i] = sampleRow(id, k, at, event, state)
				}
				data, err := schemas.EncodeTelemetry(rows)
				if err != nil {
					b.Fatal(err)
				}
				seq[p]++
				m := nats.NewMsg(schemas.TelemetrySubject(p))
				m.Data = data
				m.Header.Set(schemas.HeaderProducer, "bench")
				m.Header.Set(schemas.HeaderProducerSeq, strconv.FormatUint(seq[p], 10))
				if _, err := r.js.PublishMsg(context.Background(), m); err != nil {
					b.Fatal(err)
				}
				sent += int64(len(rows))
			}
		}
	}
	conn := r.conn()
	stage := func(name string, run func(context.Context) error, done string, want int64) {
		ctx, cancel := context.WithCancel(context.Background())
		goBefore, chBefore := cpu(b), cpuOf(b, r.ch.PID())
		start := time.Now()
		end := make(chan error, 1)
		go func() { end <- run(ctx) }()
		if conn == nil || done == "" {
			for sliceReports(b, r) < want {
				time.Sleep(200 * time.Millisecond)
			}
		} else {
			r.await(conn, done, want)
		}
		b.ReportMetric((cpu(b)-goBefore)*1e6/float64(sent), name+"-go-us/row")
		b.ReportMetric((cpuOf(b, r.ch.PID())-chBefore)*1e6/float64(sent), name+"-ch-us/row")
		b.Logf("%s: %d rows in %v", name, sent, time.Since(start).Round(time.Millisecond))
		cancel()
		if err := <-end; err != nil {
			b.Error(err)
		}
	}
	b.ResetTimer()
	stage("sessioniser", func(ctx context.Context) error {
		return sessioniser.Run(ctx, sessioniser.Settings{JetStream: r.js})
	}, "", sent)
	s := r.settings()
	s.FlushEvery, s.FlushRawEvery = 500*time.Millisecond, 0
	stage("loader", func(ctx context.Context) error { return loader.Run(ctx, s) },
		"SELECT toInt64(count()) + (SELECT sum(reports) FROM spillway.rollup_minute) FROM spillway.telemetry", 2*sent)
	var slices int64
	if err := conn.QueryRow(context.Background(), "SELECT toInt64(count()) FROM spillway.session_slices").Scan(&slices); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(slices)/float64(sent), "slices/row")
	b.ReportMetric(0, "ns/op")
}

func sampleRow(id int, k, at int64, event, state string) schemas.Telemetry {
	return schemas.Telemetry{
		ReceivedUnixUs: at * 1000, TsUnixMs: at - 30, Source: schemas.SourceCMCDEvent, Event: event, State: state,
		SessionID: fmt.Sprint("session-of-a-viewer-", id), ViewerID: fmt.Sprintf("%016x", id*2654435761), App: "live", Stream: fmt.Sprint("stream", id%50),
		ContentID: fmt.Sprint("live/stream", id%50), CDN: string(rune('a' + id%3)), Server: "127.0.0.1:8080", Region: []string{"eu", "us"}[id%2], ISP: fmt.Sprint("isp", id%20),
		Country: "DE", Device: "desktop", OS: "linux", Client: "hls.js", ClientVersion: "1.7.4", Protocol: "h", StreamType: "ll", Arms: []string{"exp=control", "exp=treat"}[id%2],
		CMCDVersion: schemas.OptInt32{V: 2, OK: true}, Seq: schemas.OptInt64{V: k, OK: true}, BufferMs: schemas.OptInt32{V: int32(id % 4000), OK: true},
		BitrateKbps: schemas.OptInt32{V: 2500, OK: true}, ThroughputKbps: schemas.OptInt32{V: int32(5000 + id%900), OK: true}, LiveLatencyMs: schemas.OptInt32{V: int32(2000 + (id*int(k+1))%700), OK: true},
	}
}

// sliceReports adds up the rows that the slices on the bus account for.
func sliceReports(b *testing.B, r *rig) (sum int64) {
	b.Helper()
	st, err := r.js.Stream(context.Background(), schemas.StreamSlices)
	if err != nil {
		b.Fatal(err)
	}
	tel, err := r.js.Stream(context.Background(), schemas.StreamTelemetry)
	if err != nil {
		b.Fatal(err)
	}
	// Slices account for everything once each partition's last one names its last batch; counting rows would cost CPU that is measured.
	for p := range schemas.TelemetryPartitions {
		last, err := tel.GetLastMsgForSubject(context.Background(), schemas.TelemetrySubject(p))
		if err != nil {
			return 0
		}
		m, err := st.GetLastMsgForSubject(context.Background(), schemas.SlicesSubject(p))
		if err != nil {
			return 0
		}
		in, _ := strconv.ParseUint(m.Header.Get(schemas.HeaderInputSeq), 10, 64)
		if last.Header.Get(schemas.HeaderKind) != sessioniser.KindTick || in+200 < last.Sequence {
			return 0
		}
	}
	return 1 << 62
}

// cpu is the CPU time of this process in seconds.
func cpu(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// cpuOf is the CPU time of another process in seconds, in steps of 10 ms.
func cpuOf(b *testing.B, pid int) float64 {
	b.Helper()
	s, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	f := strings.Fields(string(s[strings.LastIndexByte(string(s), ')')+2:]))
	ut, err1 := strconv.ParseFloat(f[11], 64)
	st, err2 := strconv.ParseFloat(f[12], 64)
	if err1 != nil || err2 != nil {
		b.Fatal(err1, err2)
	}
	return (ut + st) / 100
}

// BenchmarkVisible measures how long after its acknowledgement by the bus a
// report is in a roll-up, with default settings and 500 reports a second.
func BenchmarkVisible(b *testing.B) {
	const batches, every = 150, 100 * time.Millisecond
	r := newRig(b)
	ctx, cancel := context.WithCancel(context.Background())
	s := r.settings()
	s.FlushEvery, s.FlushRawEvery = 0, 0
	ends := make(chan error, 2)
	go func() { ends <- sessioniser.Run(ctx, sessioniser.Settings{JetStream: r.js}) }()
	go func() { ends <- loader.Run(ctx, s) }()
	conn := r.conn()
	acked := make(chan time.Time, batches)
	go func() {
		t := time.NewTicker(every)
		defer t.Stop()
		for k := range int64(batches) {
			<-t.C
			rows := make([]schemas.Telemetry, 50)
			for i := range rows {
				rows[i] = sampleRow(i+int(k)%10*50, k, time.Now().UnixMilli(), "t", "p")
			}
			r.publish(rows)
			acked <- time.Now()
		}
	}()
	var delays []time.Duration
	seen := int64(0)
	for len(delays) < batches {
		at := <-acked
		for seen < int64(len(delays)+1)*50 {
			if err := conn.QueryRow(ctx, "SELECT sum(reports) FROM spillway.rollup_minute").Scan(&seen); err != nil {
				b.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		delays = append(delays, time.Since(at))
	}
	delays = delays[20:] // readers need a moment to take their partitions
	slices.Sort(delays)
	b.ReportMetric(delays[len(delays)/2].Seconds(), "p50-s")
	b.ReportMetric(delays[len(delays)*99/100].Seconds(), "p99-s")
	b.ReportMetric(0, "ns/op")
	cancel()
	for range 2 {
		if err := <-ends; err != nil {
			b.Error(err)
		}
	}
}
