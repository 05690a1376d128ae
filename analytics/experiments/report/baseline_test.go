package report

import (
	"fmt"
	"math"
	"path"
	"regexp"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/spillway-live/spillway/schemas"
)

// A pattern means in ClickHouse what it means to the router.
func TestRegexpOfPattern(t *testing.T) {
	names := []string{"live/demo", "live/star-1", "live/star-12", "live/a.b", "live/axb", "other/demo", "live/[x]", "live/é", "live/", "live/sub/x", "livedemo"}
	for _, p := range []string{"live/*", "live/star-?", "live/a.b", "*/demo", "live/star-[0-9]", "live/[^s]*", `live/\[x\]`, "live/[é]", "live/é", "*", "live/*/*", "live/a[.]b", "live/[[]x]", `live/[\[]x]`} {
		re, err := regexp.Compile("^(" + regexpOf(p) + ")$")
		if err != nil {
			t.Errorf("%s: %v", p, err)
			continue
		}
		for _, n := range names {
			want, err := path.Match(p, n)
			if err != nil {
				t.Fatalf("%s: %v", p, err)
			}
			if got := re.MatchString(n); got != want {
				t.Errorf("%s matches %s: %v, want %v (%s)", p, n, got, want, re)
			}
		}
	}
}

// Planning looks back on the sessions that the experiment targets, and on no others.
func baselineOfTargets(t *testing.T, conn driver.Conn) {
	at := time.Now().Add(-time.Hour).UnixMilli()
	const strange = `it's a \ region`
	for v, row := range []struct{ stream, region, isp string }{
		{"star-1", "eu", "x"}, {"star-1", "eu", "x"}, {"star-2", strange, "y"}, {"a.b", strange, "x"}, {"star-12", "us", "x"}, {"star-12", "us", "x"},
	} {
		if err := conn.Exec(t.Context(), "INSERT INTO spillway.session_slices (time_ms, session_id, viewer_id, app, stream, region, isp, sessions, played_ms, stalled_ms) VALUES (?, ?, ?, 'aim', ?, ?, ?, 1, ?, ?)",
			at, fmt.Sprintf("aim-%d", v), fmt.Sprintf("aim-%d", v), row.stream, row.region, row.isp, 1000-10*v*v, 10*v*v); err != nil {
			t.Fatal(err)
		}
	}
	x := experiment("aimed")
	x.PrimaryMetric = "stall_ratio"
	for _, c := range []struct {
		t     schemas.Targeting
		units float64
		mean  float64
	}{
		{schemas.Targeting{Streams: []string{"aim/star-?", "aim/a.b"}}, 4, 100 * 140. / 4000},
		{schemas.Targeting{Streams: []string{"aim/*"}, Regions: []string{"nowhere", strange}}, 2, 100 * 130. / 2000},
		{schemas.Targeting{Streams: []string{"aim/*"}, Regions: []string{"eu", strange}, ISPs: []string{"x"}}, 3, 100 * 100. / 3000},
	} {
		x.Targeting = &c.t
		got, err := ReadBaseline(t.Context(), conn, x, 2, Options{})
		if err != nil || got.UnitsPerDay != c.units/2 || math.Abs(got.Mean-c.mean) > 1e-9 {
			t.Errorf("%+v: %+v, %v, want %v units a day with mean %v", c.t, got, err, c.units/2, c.mean)
		}
	}
	if _, err := ReadBaseline(t.Context(), conn, x, 91, Options{}); err == nil {
		t.Error("it looks back on days whose rows are gone")
	}
}
