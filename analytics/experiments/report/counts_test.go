package report

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/spillway-live/spillway/analytics/stats/loghist"
	"github.com/spillway-live/spillway/schemas"
)

func TestReadHist(t *testing.T) {
	got, err := readHist(fmt.Sprintf("5:2,7:-1,9:0,%d:3", schemas.FailedStartBin))
	if want := (counts{5: 2, 7: -1, loghist.InfBin: 3}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read %v (%v), want %v", got, err, want)
	}
	for _, bad := range []string{"5", "5:x", "x:5", "-1:5", "5:9223372036854775808"} {
		if h, err := readHist(bad); err == nil {
			t.Errorf("%q was read as %v", bad, h)
		}
	}
	// What a part corrects counts once it is put together with the part that it corrects.
	c, next := newCluster(), newCluster()
	c.hist["latency"] = counts{7: 1}
	next.hist["latency"] = got
	if _, err := got.rows(); err == nil || !strings.Contains(err.Error(), "what they correct is missing") {
		t.Errorf("a correction of nothing: %v", err)
	}
	c.merge(&next)
	if h, err := c.hist["latency"].rows(); err != nil || h.Bins[7] != 0 || h.Bins[5] != 2 {
		t.Errorf("put together: %+v, %v", h, err)
	}
}

// A session's next slice may lie in another step of the time line, and in a busiest hour, than the slice it corrects.
func corrections(t *testing.T, conn driver.Conn) {
	for _, unit := range []string{schemas.UnitViewer, schemas.UnitStream} {
		x := experiment("corrected-" + unit)
		x.Unit = unit
		x.StartedUnixUs = time.Now().Add(-30 * time.Hour).UnixMicro()
		plant(t, conn, x, 400) // in the last hour
		const wrong = 900      // a bin that no planted session has
		ago := func(d time.Duration) int64 { return time.Now().Add(-d).UnixMilli() }
		exec := func(values string) {
			t.Helper()
			if err := conn.Exec(t.Context(), `INSERT INTO spillway.session_slices (time_ms, session_id, viewer_id, app, stream, arms, sessions, played_ms, first_screen_bins, first_screen_counts) `+values); err != nil {
				t.Fatal(err)
			}
		}
		// Every hour is busy but that in which three sessions count a start; the hour in which each learns that it failed is busiest.
		exec(fmt.Sprintf(`SELECT %d - 3600000 * number, 'filler', 'filler', 'live', 'filler', '%s=low', 1, 5000000, [], [] FROM numbers(29) WHERE number != 14`, ago(time.Hour), x.Name))
		for s := range 3 {
			who := fmt.Sprintf("'%s-c%d', 'viewer-c%d', 'live', 's%d', '%s=low'", x.Name, s, s, s, x.Name)
			exec(fmt.Sprintf("VALUES (%d, %s, 1, 1000, [%d], [1])", ago(15*time.Hour), who, wrong))
			exec(fmt.Sprintf("VALUES (%d, %s, 0, 1000000000, [%d, %d], [-1, 1])", ago(10*time.Minute), who, wrong, schemas.FailedStartBin))
		}
		r, err := Build(t.Context(), conn, x, Options{})
		if err != nil {
			t.Errorf("unit %s: %v", unit, err)
			continue
		}
		d := r.Distributions[0].Arms[1]
		if last := d.Points; d.Undefined != "" || len(last) == 0 || last[len(last)-1].F == 1 {
			t.Errorf("unit %s: distribution of first screens %+v", unit, d)
		}
		for _, m := range r.Metrics {
			if m.Key != "first_screen_p50" || unit == schemas.UnitStream {
				continue // one stream has no variance
			}
			last := m.Looks[len(m.Looks)-1]
			if m.Arms[1].Undefined != "" || last.Arms[1] != m.Arms[1] && math.Abs(last.Arms[1].Estimate-m.Arms[1].Estimate) > 1e-9 || m.Peak == nil || m.Peak.Arms[1].Undefined != "" {
				t.Errorf("median first screen %+v, last look %+v, busiest hours %+v", m.Arms, last.Arms, m.Peak)
			}
		}
		if notes := strings.Join(r.Health.Notes, "; "); !strings.Contains(notes, "values were corrected in them") {
			t.Errorf("unit %s: busiest hours are without some values, and nothing says so: %s", unit, notes)
		}
	}
}
