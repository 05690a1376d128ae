package session_test

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/spillway-live/spillway/analytics/qoe/session"
	"github.com/spillway-live/spillway/schemas"
)

const t0 = int64(1_790_000_000_000)

// report is an event at ms after t0 that arrives 20 ms later.
func report(ms, sn int64, event, state string) schemas.Telemetry {
	return schemas.Telemetry{
		ReceivedUnixUs: (t0 + ms + 20) * 1000, TsUnixMs: t0 + ms, Source: schemas.SourceCMCDEvent, Event: event, State: state,
		SessionID: "s1", App: "live", Stream: "show", CDN: "a", Seq: schemas.OptInt64{V: sn, OK: true}, Arms: "x=treat", ViewerID: "v",
	}
}

func fetch(ms int64, cdn string, status int32) schemas.Telemetry {
	return schemas.Telemetry{
		ReceivedUnixUs: (t0 + ms + 40) * 1000, TsUnixMs: t0 + ms, Source: schemas.SourceCDNLog, SessionID: "s1", App: "live", Stream: "show",
		CDN: cdn, Server: cdn + ":80", URLPath: "/live/show/src/video/1-7.m4s", ResponseCode: schemas.OptInt32{V: status, OK: true},
		Bytes: schemas.OptInt64{V: 1000, OK: true},
	}
}

// response is a player's word of an answer, asked for at ms, of the type of object.
func response(ms int64, cdn, object string) schemas.Telemetry {
	r := report(ms, 100+ms, "rr", "")
	r.CDN, r.URLHost, r.ObjectType, r.Seq.OK = cdn, cdn+".example", object, false
	return r
}

// watch is a plain view: start-up 400 ms, then playing with a report each second until seconds.
func watch(seconds int64) []schemas.Telemetry {
	rows := []schemas.Telemetry{report(0, 0, "ps", "d"), report(10, 1, "ps", "s"), report(410, 2, "ps", "p")}
	for s := int64(1); s <= seconds; s++ {
		rows = append(rows, report(s*1000+410, 2+s, "t", "p"))
	}
	return rows
}

func TestScenarios(t *testing.T) {
	beacon := func(ms int64, event string) schemas.Telemetry {
		r := report(ms, 0, event, "")
		r.Source, r.Seq.OK = schemas.SourceBeacon, false
		return r
	}
	with := func(r schemas.Telemetry, f func(*schemas.Telemetry)) schemas.Telemetry { f(&r); return r }
	for _, tc := range []struct {
		name  string
		rows  []schemas.Telemetry
		check func(t *testing.T, all []schemas.Slice, s schemas.Slice, st session.Stats)
	}{
		{"watched and left without a word", watch(10), func(t *testing.T, _ []schemas.Slice, s schemas.Slice, _ session.Stats) {
			near(t, "start-up", s.StartupMs, 400, 0)
			near(t, "played", s.PlayedMs, 10_000, 25)
			if s.EndReason != "silence" || s.Starts != 1 || s.LostReports != 0 {
				t.Errorf("%+v", s)
			}
		}},
		{"a bitrate beyond reason", func() []schemas.Telemetry {
			rows := watch(10)
			for i := range rows {
				rows[i].BitrateKbps = schemas.OptInt32{V: 10_000_000, OK: true}
			}
			return rows
		}(), func(t *testing.T, _ []schemas.Slice, s schemas.Slice, _ session.Stats) {
			if s.BitrateWeightMs == 0 || s.BitrateKbpsMsSum != 50_000*s.BitrateWeightMs {
				t.Errorf("%d kbit/s x ms in %d ms", s.BitrateKbpsMsSum, s.BitrateWeightMs)
			}
		}},
		{"quit", append(watch(5), report(5500, 8, "ps", "q")), func(t *testing.T, _ []schemas.Slice, s schemas.Slice, _ session.Stats) {
			near(t, "played", s.PlayedMs, 5090, 0)
			if s.EndReason != "quit" {
				t.Errorf("ended by %q", s.EndReason)
			}
		}},
		{"page closed", append(watch(5), beacon(5700, "end")), func(t *testing.T, _ []schemas.Slice, s schemas.Slice, _ session.Stats) {
			near(t, "played", s.PlayedMs, 5290, 0)
			if s.EndReason != "quit" {
				t.Errorf("ended by %q", s.EndReason)
			}
		}},
		{"left during start-up", []schemas.Telemetry{report(0, 0, "ps", "s"), beacon(3000, "end")}, func(t *testing.T, _ []schemas.Slice, s schemas.Slice, _ session.Stats) {
			if s.Attempts != 1 || s.ExitBefore != 1 || s.StartFails != 0 || s.EndReason != "not_started" || !slices.Equal(s.FirstScreenBins, []int64{schemas.FailedStartBin}) {
				t.Errorf("%+v", s)
			}
		}},
		{"failed start", []schemas.Telemetry{report(0, 0, "ps", "s"), report(900, 1, "e", "f"), report(901, 2, "ps", "f")}, func(t *testing.T, _ []schemas.Slice, s schemas.Slice, _ session.Stats) {
			if s.Attempts != 1 || s.StartFails != 1 || s.ExitBefore != 0 || s.EndReason != "failed" {
				t.Errorf("%+v", s)
			}
		}},
		{"f is not terminal", append(watch(3), report(3500, 6, "ps", "f"), report(4000, 7, "ps", "p"), report(5000, 8, "t", "p")), func(t *testing.T, all []schemas.Slice, s schemas.Slice, _ session.Stats) {
			if s.PlayFails != 0 || s.EndReason != "silence" {
				t.Errorf("%+v", s)
			}
		}},
		{"playback failure", append(watch(3), report(3500, 6, "ps", "f")), func(t *testing.T, _ []schemas.Slice, s schemas.Slice, _ session.Stats) {
			if s.PlayFails != 1 || s.EndReason != "failed" {
				t.Errorf("%+v", s)
			}
		}},
		{"seek, pause, end", append(watch(3), report(3500, 6, "ps", "a"), report(4500, 7, "ps", "k"), report(4600, 8, "ps", "w"), report(4700, 9, "ps", "r"),
			report(4900, 10, "ps", "p"), report(6000, 11, "ps", "a"), report(6001, 12, "ps", "e"), report(6002, 13, "ps", "a")),
			func(t *testing.T, _ []schemas.Slice, s schemas.Slice, _ session.Stats) {
				near(t, "paused", s.PausedMs, 1001, 0)
				near(t, "seek", s.SeekMs, 400, 0)
				near(t, "played", s.PlayedMs, 3090+1100, 0)
				if s.Stalls != 0 || s.StalledMs != 0 || s.EndReason != "ended" {
					t.Errorf("%+v", s)
				}
			}},
		{"second load under the same sid", append(watch(3), report(5000, 0, "ps", "d"), report(5001, 1, "ps", "s"), report(5601, 2, "ps", "p"), report(6601, 3, "t", "p")),
			func(t *testing.T, _ []schemas.Slice, s schemas.Slice, st session.Stats) {
				near(t, "start-up", s.StartupMs, 400+600, 0)
				if s.Attempts != 2 || s.Starts != 2 || s.Sessions != 1 || s.LostReports != 0 || st.Lost != 0 {
					t.Errorf("%+v %+v", s, st)
				}
			}},
		{"reports lost and repeated", append(watch(5), report(6410, 12, "t", "p"), report(6410, 12, "t", "p")), func(t *testing.T, _ []schemas.Slice, s schemas.Slice, st session.Stats) {
			if s.LostReports != 4 || st.Duplicates != 1 || s.Reports != 10 || s.NumberedReports != 9 {
				t.Errorf("%+v %+v", s, st)
			}
		}},
		{"a CDN move", append(watch(8), fetch(1000, "a", 200), fetch(2000, "a", 504), fetch(4500, "b", 200), fetch(6000, "b", 206)),
			func(t *testing.T, all []schemas.Slice, s schemas.Slice, _ session.Stats) {
				if s.CDNMoves != 1 || s.Requests != 4 || s.NumberedReports != s.Reports-4 || s.RequestErrors != 1 || s.RequestBytes != 4000 {
					t.Errorf("%+v", s)
				}
				var onA, onB int64
				for _, x := range all {
					switch x.CDN {
					case "a":
						onA += x.PlayedMs
					case "b":
						onB += x.PlayedMs
					}
				}
				near(t, "played on a", onA, 4090, 600)
				near(t, "played on b", onB, 3910, 700)
			}},
		{"a stall that begins on one CDN and ends on the next", append(watch(3), response(400, "a", "v"), report(3500, 20, "ps", "r"), response(6000, "b", "m"),
			response(9000, "b", "v"), report(9300, 21, "ps", "p"), report(12_300, 22, "t", "p")),
			func(t *testing.T, all []schemas.Slice, s schemas.Slice, _ session.Stats) {
				if s.CDNMoves != 1 || s.Stalls != 1 || s.StalledMs != 5800 {
					t.Errorf("%+v", s)
				}
				stalled := map[string]int64{}
				for _, x := range all {
					stalled[x.CDN] += x.StalledMs
				}
				// Until its first segment is asked for, whatever manifests came before.
				near(t, "stalled on a", stalled["a"], 5500, 0)
				near(t, "stalled on b", stalled["b"], 300, 0)
			}},
		{"requests without a player's word", []schemas.Telemetry{fetch(0, "b", 200), fetch(2000, "b", 200)}, func(t *testing.T, _ []schemas.Slice, s schemas.Slice, _ session.Stats) {
			if s.Sessions != 1 || s.Ended != 1 || s.Requests != 2 || s.PlayedMs != 0 || s.Attempts != 0 {
				t.Errorf("%+v", s)
			}
		}},
		{"latency of the page outranks the player's", append(watch(4),
			with(report(1500, 20, "t", "p"), func(r *schemas.Telemetry) { r.LiveLatencyMs = schemas.OptInt32{V: 9000, OK: true} }),
			with(beacon(2500, "sample"), func(r *schemas.Telemetry) { r.E2ELatencyMs = schemas.OptInt32{V: 2000, OK: true} }),
			with(report(3500, 21, "t", "p"), func(r *schemas.Telemetry) { r.LiveLatencyMs = schemas.OptInt32{V: 9000, OK: true} })),
			func(t *testing.T, all []schemas.Slice, s schemas.Slice, _ session.Stats) {
				if s.LatencyMsSum != 2000*s.LatencyWeightMs || s.LatencyWeightMs != s.PlayedMs {
					t.Errorf("sum %d, weight %d, played %d", s.LatencyMsSum, s.LatencyWeightMs, s.PlayedMs)
				}
				var n int64
				for _, x := range all {
					for i := range x.LatencyBins {
						n += x.LatencyCounts[i]
					}
				}
				near(t, "samples left", n, 1, 0)
			}},
		{"bitrate over time", []schemas.Telemetry{report(0, 0, "ps", "s"), with(report(100, 1, "bc", "s"), func(r *schemas.Telemetry) { r.BitrateKbps = schemas.OptInt32{V: 1000, OK: true} }),
			report(500, 2, "ps", "p"), with(report(2500, 3, "bc", "p"), func(r *schemas.Telemetry) { r.BitrateKbps = schemas.OptInt32{V: 3000, OK: true} }), report(4500, 4, "ps", "q")},
			func(t *testing.T, _ []schemas.Slice, s schemas.Slice, _ session.Stats) {
				if s.BitrateKbpsMsSum != 2000*1000+2000*3000 || s.BitrateWeightMs != 4000 || s.Switches != 1 {
					t.Errorf("%+v", s)
				}
			}},
		{"back after silence", append(watch(2), report(60_000, 30, "ps", "p"), report(62_000, 31, "t", "p")), func(t *testing.T, _ []schemas.Slice, s schemas.Slice, _ session.Stats) {
			if s.Sessions != 1 || s.Ended != 1 {
				t.Errorf("%+v", s)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rows := slices.Clone(tc.rows)
			slices.SortStableFunc(rows, func(a, b schemas.Telemetry) int { return int(a.ReceivedUnixUs - b.ReceivedUnixUs) })
			all, st := run(t, rows)
			s := total(all)
			if s.Sessions != s.Ended || s.Attempts != s.Starts+s.StartFails+s.ExitBefore {
				t.Errorf("sums do not close: %+v", s)
			}
			tc.check(t, all, s, st)
		})
	}
}

// TestArrivalOrder delivers a recorded session late and in any order: the sums stay.
func TestArrivalOrder(t *testing.T) {
	rows := recording(t, "stall-shaka")
	ref, _ := run(t, rows)
	want := total(ref)
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		late := slices.Clone(rows)
		for i := range late {
			if rng.IntN(3) == 0 {
				late[i].ReceivedUnixUs += rng.Int64N(8_000_000)
			}
		}
		slices.SortStableFunc(late, func(a, b schemas.Telemetry) int { return int(a.ReceivedUnixUs - b.ReceivedUnixUs) })
		all, st := run(t, late)
		got := total(all)
		near(t, "stall time", got.StalledMs, want.StalledMs, 0)
		near(t, "stalls", got.Stalls, want.Stalls, 0)
		near(t, "start-up", got.StartupMs, want.StartupMs, 0)
		near(t, "seek", got.SeekMs, want.SeekMs, 0)
		near(t, "starts", got.Starts, want.Starts, 0)
		near(t, "attempts", got.Attempts, want.Attempts, 0)
		if t.Failed() {
			t.Fatalf("seed %d: %+v", seed, st)
		}
	}
}

func TestStallShowsWhileItLasts(t *testing.T) {
	tab := session.New(session.Config{})
	tab.Add(append(watch(3), report(3500, 6, "ps", "r")), t0+3600)
	var stalled int64
	for ms := int64(4000); ms <= 9000; ms += 1000 {
		for _, s := range tab.Tick(t0 + ms) {
			stalled += s.StalledMs
		}
		near(t, "stalled so far", stalled, ms-3500, 30)
	}
}

// TestSnapshot cuts a run at every second: what follows a restored snapshot is what would have followed anyway.
func TestSnapshot(t *testing.T) {
	rows := recording(t, "stall-hls")
	step := func(tab *session.Table, from, to int64) (out []schemas.Slice) {
		for tick := from; tick < to; tick += 1000 {
			for i := range rows {
				if at := rows[i].ReceivedUnixUs / 1000; at >= tick-1000 && at < tick {
					tab.Add(rows[i:i+1], at)
				}
			}
			out = append(out, tab.Tick(tick)...)
		}
		return out
	}
	begin := rows[0].ReceivedUnixUs/1000 + 1000
	end := begin + 90_000
	for cut := begin; cut < begin+35_000; cut += 1000 {
		tab := session.New(session.Config{})
		step(tab, begin, cut)
		buf := tab.AppendSnapshot(nil)
		again, err := session.Restore(buf, session.Config{})
		if err != nil {
			t.Fatal(err)
		}
		want, got := step(tab, cut, end), step(again, cut, end)
		if !reflect.DeepEqual(want, got) {
			t.Fatalf("cut %d ms after the start: restored state goes on differently", cut-begin)
		}
		for n := range min(len(buf), 40) {
			if _, err := session.Restore(buf[:n*len(buf)/41], session.Config{}); err == nil {
				t.Fatalf("a snapshot cut off at %d of %d bytes was taken", n*len(buf)/41, len(buf))
			}
		}
	}
}

func TestBounds(t *testing.T) {
	tab := session.New(session.Config{MaxSessions: 10, KeepMs: 1000})
	rows := make([]schemas.Telemetry, 30)
	for i := range rows {
		rows[i] = report(0, 0, "ps", "p")
		rows[i].SessionID = string(rune('A' + i))
	}
	tab.Add(rows, t0)
	tab.Tick(t0 + 1000)
	if tab.Open() != 10 || tab.Stats().Overflow != 20 {
		t.Errorf("%d open, %+v", tab.Open(), tab.Stats())
	}
	for ms := int64(2000); ms < 200_000; ms += 1000 {
		tab.Tick(t0 + ms)
	}
	if tab.Remembered() != 0 {
		t.Errorf("%d sessions are remembered for ever", tab.Remembered())
	}
	if _, err := session.Restore([]byte{3, 4, 0}, session.Config{}); err == nil || errors.Is(err, session.ErrVersion) {
		t.Errorf("damaged snapshot gives %v", err)
	}
}

func BenchmarkTable(b *testing.B) {
	const sessions = 2000
	rows := make([]schemas.Telemetry, sessions)
	tab := session.New(session.Config{})
	var sec, out int64
	b.ReportAllocs()
	for b.Loop() {
		for i := range rows {
			state, event := "p", "t"
			if (sec+int64(i))%30 == 0 {
				state, event = "r", "ps"
			}
			rows[i] = report(sec*1000, sec, event, state)
			rows[i].SessionID = ids[i]
			rows[i].BitrateKbps = schemas.OptInt32{V: 2500, OK: true}
			rows[i].LiveLatencyMs = schemas.OptInt32{V: int32(2000 + i%300), OK: true}
		}
		tab.Add(rows, t0+sec*1000)
		sec++
		out += int64(len(tab.Tick(t0 + sec*1000)))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(sec*sessions), "ns/row")
	b.ReportMetric(float64(out)/float64(sec*sessions), "slices/row")
}

var ids = func() (out [2000]string) {
	for i := range out {
		out[i] = "session-" + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676))
	}
	return out
}()

// What a session said before its experiment arm was known moves to the arm:
// nothing of it stays outside, and nothing counts twice.
func TestArmsLearnedLate(t *testing.T) {
	tb := session.New(session.Config{})
	var all []schemas.Slice
	early := report(410, 2, "ps", "p")
	for i, r := range []schemas.Telemetry{
		func() schemas.Telemetry { r := report(10, 1, "ps", "s"); r.Arms = ""; return r }(),
		func() schemas.Telemetry { r := early; r.Arms = ""; return r }(),
		report(1410, 3, "t", "p"), report(2410, 4, "t", "p"),
	} {
		at := t0 + int64(i)*1000 + 500
		tb.Add([]schemas.Telemetry{r}, at)
		all = append(all, tb.Tick(at+400)...)
	}
	sums := map[string]*schemas.Slice{}
	for _, s := range all {
		if sums[s.Arms] == nil {
			sums[s.Arms] = &schemas.Slice{}
		}
		x := sums[s.Arms]
		x.Sessions += s.Sessions
		x.Starts += s.Starts
		x.StartupMs += s.StartupMs
		x.PlayedMs += s.PlayedMs
		for _, n := range s.FirstScreenCounts {
			x.Reports += n // borrowed: number of first screens
		}
	}
	if len(sums) != 2 {
		t.Fatalf("slices without and with an arm are expected first: %+v", all)
	}
	if none := *sums[""]; none.Sessions != 0 || none.Starts != 0 || none.StartupMs != 0 || none.PlayedMs != 0 || none.Reports != 0 {
		t.Errorf("outside any arm there remains %+v", none)
	}
	if in := *sums["x=treat"]; in.Sessions != 1 || in.Starts != 1 || in.StartupMs != 400 || in.PlayedMs < 2000 || in.Reports != 1 {
		t.Errorf("the arm has %+v", in)
	}
}
