package session_test

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/analytics/qoe/session"
	"github.com/spillway-live/spillway/ingest/cmcd"
	"github.com/spillway-live/spillway/schemas"
)

// recording reads one run of a real player, in order of arrival, as the
// collector would hand it on. It comes from testdata, or from the folder in
// SPILLWAY_PLAYERS, which holds more of them.
func recording(t *testing.T, name string) []schemas.Telemetry {
	t.Helper()
	dir := os.Getenv("SPILLWAY_PLAYERS")
	if _, err := os.Stat(filepath.Join("testdata", name+".jsonl")); err == nil {
		dir = "testdata"
	}
	if dir == "" {
		t.Skip("SPILLWAY_PLAYERS does not name the folder with player recordings")
	}
	f, err := os.Open(filepath.Join(dir, name+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var rows []schemas.Telemetry
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 4<<20)
	for sc.Scan() {
		var x struct {
			RecvMs int64  `json:"recv_ms"`
			Body   string `json:"body"`
		}
		if err := json.Unmarshal(sc.Bytes(), &x); err != nil {
			t.Fatal(err)
		}
		cmcd.ParseBody(x.Body, 0, func(r *cmcd.Record, _ cmcd.Outcome) bool {
			r.Correct(x.RecvMs)
			rows = append(rows, fromCMCD(r, x.RecvMs))
			return true
		})
	}
	if len(rows) == 0 {
		t.Fatalf("%s holds no event", name)
	}
	return rows
}

func fromCMCD(r *cmcd.Record, recvMs int64) schemas.Telemetry {
	e := schemas.Telemetry{
		ReceivedUnixUs: recvMs * 1000, TsUnixMs: r.TimeUnixMs, Source: schemas.SourceCMCDEvent,
		SessionID: strings.Clone(r.SessionID), App: "live", Stream: "s", CDN: "a",
	}
	if r.Event != cmcd.EventNone {
		e.Event = r.Event.String()
	}
	if r.State != cmcd.StateNone {
		e.State = r.State.String()
	}
	if r.Object != cmcd.ObjectNone {
		e.ObjectType = r.Object.String()
	}
	e.Seq = schemas.OptInt64{V: r.Seq, OK: r.Has&cmcd.Keys(cmcd.SN) != 0}
	if r.Has&cmcd.Keys(cmcd.BR) != 0 {
		if v, ok := r.BitrateKbps.Main(); ok {
			e.BitrateKbps = schemas.OptInt32{V: int32(v), OK: true}
		}
	}
	if r.Has&cmcd.Keys(cmcd.MTP) != 0 {
		if v, ok := r.ThroughputKbps.Main(); ok {
			e.ThroughputKbps = schemas.OptInt32{V: int32(v), OK: true}
		}
	}
	if r.Has&cmcd.Keys(cmcd.RC) != 0 {
		e.ResponseCode = schemas.OptInt32{V: int32(r.Status), OK: true}
	}
	if r.Has&cmcd.Keys(cmcd.TTFB) != 0 {
		e.FirstByteMs = schemas.OptInt32{V: int32(r.FirstByteMs), OK: true}
	}
	if r.Has&cmcd.Keys(cmcd.TTLB) != 0 {
		e.LastByteMs = schemas.OptInt32{V: int32(r.LastByteMs), OK: true}
	}
	if r.Has&cmcd.Keys(cmcd.URL) != 0 {
		e.URLPath, _, _ = strings.Cut(strings.Clone(r.URL), "?")
	}
	if r.Has&cmcd.Keys(cmcd.BG) != 0 {
		e.Background = schemas.OptBool{V: r.Backgrounded, OK: true}
	}
	if r.Has&cmcd.Keys(cmcd.LTC) != 0 {
		e.LiveLatencyMs = schemas.OptInt32{V: int32(r.LatencyMs), OK: true}
	}
	return e
}

// run feeds rows as they arrived, ticking every second of stream time, until every session is closed.
func run(t *testing.T, rows []schemas.Telemetry) ([]schemas.Slice, session.Stats) {
	t.Helper()
	tab := session.New(session.Config{})
	var out []schemas.Slice
	tick := rows[0].ReceivedUnixUs/1000/1000*1000 + 1000
	for i := range rows {
		for now := rows[i].ReceivedUnixUs / 1000; now >= tick; tick += 1000 {
			out = append(out, tab.Tick(tick)...)
		}
		tab.Add(rows[i:i+1], rows[i].ReceivedUnixUs/1000)
	}
	for end := tick + 200_000; tick < end; tick += 1000 {
		out = append(out, tab.Tick(tick)...)
	}
	if tab.Open() != 0 {
		t.Fatalf("%d sessions still open", tab.Open())
	}
	return out, tab.Stats()
}

// total adds slices up.
func total(slices []schemas.Slice) (s schemas.Slice) {
	first := map[int64]int64{}
	for _, x := range slices {
		s.Sessions += x.Sessions
		s.Ended += x.Ended
		s.Attempts += x.Attempts
		s.Starts += x.Starts
		s.StartupMs += x.StartupMs
		s.ExitBefore += x.ExitBefore
		s.StartFails += x.StartFails
		s.PlayFails += x.PlayFails
		s.PlayedMs += x.PlayedMs
		s.StalledMs += x.StalledMs
		s.Stalls += x.Stalls
		s.StalledNetworkMs += x.StalledNetworkMs
		s.StalledCDNMs += x.StalledCDNMs
		s.StalledBackgroundMs += x.StalledBackgroundMs
		s.FramesWeightMs += x.FramesWeightMs
		s.SeekMs += x.SeekMs
		s.PausedMs += x.PausedMs
		s.Switches += x.Switches
		s.CDNMoves += x.CDNMoves
		s.LatencyMsSum += x.LatencyMsSum
		s.LatencyWeightMs += x.LatencyWeightMs
		s.BitrateKbpsMsSum += x.BitrateKbpsMsSum
		s.BitrateWeightMs += x.BitrateWeightMs
		s.DroppedFrames += x.DroppedFrames
		s.Requests += x.Requests
		s.RequestErrors += x.RequestErrors
		s.RequestBytes += x.RequestBytes
		s.Reports += x.Reports
		s.NumberedReports += x.NumberedReports
		s.ThroughputKbpsSum += x.ThroughputKbpsSum
		s.ThroughputReports += x.ThroughputReports
		s.LostReports += x.LostReports
		for i, b := range x.FirstScreenBins {
			first[b] += x.FirstScreenCounts[i]
		}
		if x.EndReason != "" {
			s.EndReason = x.EndReason
		}
	}
	for b, n := range first {
		if n != 0 {
			s.FirstScreenBins = append(s.FirstScreenBins, b)
		}
	}
	sort.Slice(s.FirstScreenBins, func(i, j int) bool { return s.FirstScreenBins[i] < s.FirstScreenBins[j] })
	for _, b := range s.FirstScreenBins {
		s.FirstScreenCounts = append(s.FirstScreenCounts, first[b])
	}
	return s
}

func near(t *testing.T, what string, got, want, tolerance int64) {
	t.Helper()
	if got < want-tolerance || got > want+tolerance {
		t.Errorf("%s is %d, want %d +- %d", what, got, want, tolerance)
	}
}

func TestRecordedPlayers(t *testing.T) {
	for _, tc := range []struct {
		name                             string
		startup, stalled, stalls, seek   int64
		sessions, attempts, starts, lost int64
		reason                           string
	}{
		// One stall of 4588 ms; the second is open when the recording ends, 2886 ms after it began.
		{"stall-hls", 372, 4588 + 2886, 2, 0, 1, 1, 1, 0, "silence"},
		// A start-up rebuffer, a stall of 7587 ms, and one of 6346 ms that turns into a seek of 5058 ms.
		{"stall-shaka", 191, 7587 + 6346, 2, 5058, 1, 1, 1, 0, "silence"},
		{"live-hls", 345, 0, 0, 0, 1, 1, 1, 0, "silence"},
		{"live-dash", 212, 0, 0, 0, 1, 1, 1, 0, "silence"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rows := recording(t, tc.name)
			slices, stats := run(t, rows)
			got := total(slices)
			near(t, "start-up", got.StartupMs, tc.startup, 50)
			near(t, "stall time", got.StalledMs, tc.stalled, 50)
			near(t, "seek time", got.SeekMs, tc.seek, 50)
			// The server that stops answering is seen in the answers that come at last.
			near(t, "stall time by slow answers", got.StalledNetworkMs, tc.stalled, 50)
			near(t, "stalls", got.Stalls, tc.stalls, 0)
			near(t, "sessions", got.Sessions, tc.sessions, 0)
			near(t, "ended", got.Ended, tc.sessions, 0)
			near(t, "attempts", got.Attempts, tc.attempts, 0)
			near(t, "starts", got.Starts, tc.starts, 0)
			near(t, "lost reports", got.LostReports, tc.lost, 0)
			near(t, "reports", got.Reports, int64(len(rows)), 0)
			if got.EndReason != tc.reason {
				t.Errorf("ended by %q, want %q", got.EndReason, tc.reason)
			}
			if stats.Duplicates != 0 || stats.Closed != tc.sessions {
				t.Errorf("%+v", stats)
			}
		})
	}
}

// TestEveryRecording wants nothing but sums that cannot be wrong, from whatever recordings there are.
func TestEveryRecording(t *testing.T) {
	for _, name := range []string{"hls2", "dash2", "shaka2", "hls1ev", "live-shaka", "batch-hls", "batch-dash", "destroy-hls", "destroy-dash", "fail-hls"} {
		t.Run(name, func(t *testing.T) {
			rows := recording(t, name)
			slices, stats := run(t, rows)
			got := total(slices)
			if got.Sessions == 0 || got.Sessions != got.Ended || got.Reports != int64(len(rows)) {
				t.Errorf("%d sessions, %d ended, %d of %d rows", got.Sessions, got.Ended, got.Reports, len(rows))
			}
			if got.Starts+got.ExitBefore+got.StartFails != got.Attempts {
				t.Errorf("%d attempts, but %d starts, %d given up, %d failed", got.Attempts, got.Starts, got.ExitBefore, got.StartFails)
			}
			from, to := rows[0].TsUnixMs, rows[0].TsUnixMs
			for _, r := range rows {
				from, to = min(from, r.TsUnixMs), max(to, r.TsUnixMs, r.ReceivedUnixUs/1000)
			}
			span := to - from
			if sum := got.PlayedMs + got.StalledMs + got.SeekMs + got.PausedMs; got.PlayedMs < 0 || sum > span*got.Sessions {
				t.Errorf("accounted for %d ms of %d", sum, span)
			}
			if stats.Overflow != 0 || stats.TooLate != 0 {
				t.Errorf("%+v", stats)
			}
		})
	}
}
