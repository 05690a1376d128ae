package report

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// BenchmarkReport makes a report of a week of sessions, 10 million unless SPILLWAY_BENCH_SESSIONS says otherwise, from
// the roll-ups and with the exact variance beside. It reports the seconds of a report and, of these, the milliseconds of
// processor time in Go; the rest is ClickHouse's. SPILLWAY_BENCH_DIR names a folder in which the data stay for the next
// run.
func BenchmarkReport(b *testing.B) {
	sessions := benchSessions(b)
	conn, x, until := filled(b, sessions)
	var err error
	for _, exact := range []bool{false, true} {
		name := "rollups"
		if exact {
			name = "exact"
		}
		b.Run(name, func(b *testing.B) {
			var r *Report
			log := &loggedConn{Conn: conn}
			all, ours := time.Hour, time.Hour
			for b.Loop() {
				log.each = log.each[:0]
				begin, cpu := time.Now(), processorTime(b)
				if r, err = Build(b.Context(), log, x, Options{Exact: exact, Until: until}); err != nil {
					b.Fatal(err)
				}
				if t := time.Since(begin); t < all {
					all, ours = t, processorTime(b)-cpu
				}
			}
			b.ReportMetric(all.Seconds(), "s")
			b.ReportMetric(float64(ours.Microseconds())/1000, "go-ms")
			b.ReportMetric(0, "ns/op")
			n := r.Arms[0].Sessions + r.Arms[1].Sessions
			if n < int64(sessions)*99/100 || r.primary().Comparisons[0].Difference.Undefined != "" || r.primary().PlannedEnd == nil || len(r.Segments) != 4 || len(r.Health.Problems) > 0 {
				b.Fatalf("%d sessions in the report, primary %+v, health %+v", n, r.primary(), r.Health)
			}
			for i, q := range r.Queries {
				b.Logf("%.2f s: %s", log.each[len(log.each)-len(r.Queries)+i].Seconds(), q.Purpose)
			}
		})
	}
}

// processorTime is how long this process has worked, which the load of the machine does not lengthen. The server is a
// process of its own.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// loggedConn measures each statement from its begin until all rows are read.
type loggedConn struct {
	driver.Conn
	each []time.Duration
}

func (c *loggedConn) Query(ctx context.Context, text string, args ...any) (driver.Rows, error) {
	begin := time.Now()
	rows, err := c.Conn.Query(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	return &loggedRows{rows, c, begin}, nil
}

type loggedRows struct {
	driver.Rows
	c     *loggedConn
	begin time.Time
}

func (r *loggedRows) Close() error {
	r.c.each = append(r.c.each, time.Since(r.begin))
	return r.Rows.Close()
}
