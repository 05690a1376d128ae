package queries

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/spillway-live/spillway/schemas/hops"
)

// seen is a row of telemetry about a hop; what is -1 is not known.
type seen struct {
	hop, cdn                                      string
	delay                                         float64 // noDelay: not known
	first, last, stale, throughput, bitrate, code int
	reason                                        string
}

const noDelay = -1e9

// healthy is a stream through two CDNs; test changes one.
func healthy() []seen {
	return []seen{
		{hop: "publish", cdn: "a", delay: -120, first: -1, last: -1},
		{hop: "ingest", cdn: "a", delay: 0, first: -1, last: -1},
		{hop: "stored", cdn: "a", delay: 4, first: -1, last: -1},
		{hop: "packaged", delay: 8, first: -1, last: -1},
		{hop: "origin", delay: 15, first: -1, last: -1, code: 200},
		{hop: "edge", cdn: "a", delay: 20, first: 180, last: 190, code: 200}, // held until the part was there
		{hop: "edge", cdn: "b", delay: 20, first: 180, last: 190, code: 200},
		{hop: "player", cdn: "a", delay: 45, first: 190, last: 205, code: 200},
		{hop: "player", cdn: "b", delay: 45, first: 190, last: 205, code: 200},
		{hop: "probe", cdn: "a", delay: noDelay, first: 12, last: 14, stale: 400, throughput: 20_000, bitrate: 2500, code: 200},
		{hop: "probe", cdn: "b", delay: noDelay, first: 12, last: 14, stale: 400, throughput: 20_000, bitrate: 2500, code: 200},
	}
}

// hopFaults are what goes wrong of a healthy stream, and the hops that the walls then name.
func hopFaults() map[string]struct {
	change func(x *seen)
	only   string // a CDN that is the only one
	want   []string
} {
	type fault = struct {
		change func(x *seen)
		only   string
		want   []string
	}
	is := func(hop, cdn string, do func(x *seen)) func(x *seen) {
		return func(x *seen) {
			if x.hop == hop && (cdn == "" || x.cdn == cdn) {
				do(x)
			}
		}
	}
	later := func(hop string, ms float64) func(x *seen) { // there and at all hops behind it
		order := []string{"publish", "ingest", "stored", "packaged", "origin", "edge", "player"}
		return func(x *seen) {
			if i := slices.Index(order, x.hop); i >= slices.Index(order, hop) {
				x.delay += ms
			}
		}
	}
	slowEdge := func(x *seen) {
		switch {
		case x.cdn != "b":
		case x.hop == "edge":
			x.delay, x.first, x.last = 900, 1000, 1010
		case x.hop == "player":
			x.delay, x.first, x.last = 930, 1010, 1035
		}
	}
	oneAskedLate := func(x *seen) { // its viewers take whole segments, or seek back
		if x.cdn == "b" && x.hop != "probe" {
			x.delay, x.first, x.last = x.delay+6000, 9, 15
		}
	}
	starvedPlayers := is("player", "b", func(x *seen) { x.delay, x.last = 950, 1100 })
	return map[string]fault{
		"healthy":                       {want: nil},
		"publisher's line":              {change: is("publish", "", func(x *seen) { x.delay = -4000 }), want: []string{"ingest//slow"}},
		"bus":                           {change: later("stored", 400), want: []string{"stored//slow"}},
		"bus that does not take":        {change: is("stored", "", func(x *seen) { x.reason, x.delay = "not taken", noDelay }), want: []string{"stored//failing"}},
		"origin":                        {change: later("packaged", 700), want: []string{"packaged//slow"}},
		"edge":                          {change: slowEdge, want: []string{"edge/b/slow"}},
		"only edge":                     {change: slowEdge, only: "b", want: []string{"edge/b/slow"}},
		"edge with errors":              {change: is("edge", "b", func(x *seen) { x.code, x.delay = 503, noDelay }), want: []string{"edge/b/failing"}},
		"asked late":                    {change: func(x *seen) { later("origin", 6000)(x); x.first, x.last = min(x.first, 9), min(x.last, 15) }},
		"one CDN asked late":            {change: oneAskedLate},
		"way to players":                {change: starvedPlayers, want: []string{"player/b/slow"}},
		"way to players of an only CDN": {change: starvedPlayers, only: "b", want: []string{"player/b/slow"}},
		"starved":                       {change: is("probe", "b", func(x *seen) { x.throughput, x.last = 300, 1700 }), want: []string{"probe/b/starved"}},
		"starved only CDN":              {change: is("probe", "b", func(x *seen) { x.throughput, x.last = 300, 1700 }), only: "b", want: []string{"probe/b/starved"}},
		"stale":                         {change: is("probe", "b", func(x *seen) { x.stale = 9000 }), want: []string{"probe/b/stale"}},
		"slow to probes":                {change: is("probe", "b", func(x *seen) { x.first = 1500 }), want: []string{"probe/b/slow"}},
		"no answer to probes":           {change: is("probe", "b", func(x *seen) { x.code, x.reason, x.first, x.bitrate = 0, "playlist: no answer", -1, 0 }), want: []string{"probe/b/failing"}},
	}
}

// fillHops inserts what collectors, origins and probers would have told of each fault in
// the last minutes, an application each.
func fillHops(t *testing.T, conn driver.Conn, now time.Time) {
	t.Helper()
	b, err := conn.PrepareBatch(t.Context(), `INSERT INTO spillway.telemetry (received_us, ts_ms, source, app, stream, hop, cdn, rendition, track, epoch, msn, part, hop_delay_ms,
		first_byte_ms, last_byte_ms, staleness_ms, throughput_kbps, bitrate_kbps, response_code, error_code)`)
	if err != nil {
		t.Fatal(err)
	}
	known := func(v int, ok bool) any {
		if !ok {
			return nil
		}
		return v
	}
	for name, f := range hopFaults() {
		for msn := range 12 {
			for _, x := range healthy() {
				if f.only != "" && slices.Contains([]string{"edge", "player", "probe"}, x.hop) && x.cdn != f.only {
					continue
				}
				if f.change != nil {
					f.change(&x)
				}
				at := now.Add(time.Duration(msn*5-120) * time.Second)
				probe, source := x.hop == "probe", map[string]string{"edge": "cdn_log", "player": "cmcd_event", "probe": "probe"}[x.hop]
				if source == "" {
					source = "hop"
				}
				var delay any
				if x.delay != noDelay {
					delay, at = x.delay, at.Add(time.Duration(x.delay*1e6))
				}
				if err := b.Append(at.UnixMicro(), at.UnixMilli(), source, hopApp(name), "demo", x.hop, x.cdn, "src", "video", int64(1), known(msn, !probe), known(0, !probe), delay,
					known(x.first, x.first >= 0 && x.code != 0), known(x.last, x.last >= 0 && x.code != 0), known(x.stale, probe && x.code == 200), known(x.throughput, probe && x.code == 200),
					known(x.bitrate, probe && x.bitrate > 0), known(x.code, x.code != 0 || probe), x.reason); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := b.Send(); err != nil {
		t.Fatal(err)
	}
}

func hopApp(fault string) string {
	return "hops-" + strings.NewReplacer(" ", "-", "'", "").Replace(fault)
}

// testBadHops runs each fault's question on the walls' SQL.
func testBadHops(t *testing.T, run func(t *testing.T, sql string, v Vars) ([]string, [][]any)) {
	for name, f := range hopFaults() {
		vars := All()
		vars["app"] = Only(hopApp(name))
		sqls := map[string]string{"wall": panel(t, "cdn-hops").SQL}
		if name == "starved" {
			sqls["stream"], vars["stream"] = StreamHops, Only("demo")
		}
		for what, sql := range sqls {
			t.Run(name+"/"+what, func(t *testing.T) {
				_, rows := run(t, sql, vars)
				var got []string
				for _, r := range rows {
					if verdict := fmt.Sprint(deref(r[2])); verdict != "" {
						got = append(got, fmt.Sprint(deref(r[0]), "/", deref(r[1]), "/", verdict))
					}
				}
				if want := 11; f.only == "" && len(rows) != want || !slices.Equal(got, f.want) {
					t.Errorf("%d hops, bad %v, want %v", len(rows), got, f.want)
					for _, r := range rows {
						var line []any
						for _, v := range r {
							line = append(line, deref(v))
						}
						t.Log(line...)
					}
				}
			})
		}
	}
}

// The limits that spillway trace judges by are those in the walls' SQL.
func TestHopLimitsAreOne(t *testing.T) {
	for _, sql := range []string{panel(t, "cdn-hops").SQL, StreamHops} {
		for _, want := range []string{
			fmt.Sprintf("failed >= %d AND failed_share >= %v,", hops.MinFailed, hops.BadFailedShare), fmt.Sprintf("pace < %v,", hops.BadPace), fmt.Sprintf("staleness_ms > %v,", hops.BadStalenessMs),
			fmt.Sprintf("'ingest' AND added_ms > %v\n", hops.BadIngestMs), fmt.Sprintf("'stored' AND added_ms > %v\n", hops.BadStoredMs), fmt.Sprintf("'packaged' AND added_ms > %v\n", hops.BadPackagedMs),
			fmt.Sprintf("'edge' AND wait_ms > %v\n", hops.BadEdgeMs), fmt.Sprintf("'player' AND wait_ms > %v AND", hops.BadPlayerMs), fmt.Sprintf("'probe' AND wait_ms > %v, 'slow'", hops.BadFirstByteMs),
		} {
			if !strings.Contains(sql, want) {
				t.Errorf("%q is not in\n%s", want, sql)
			}
		}
	}
}
