package session_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/spillway-live/spillway/analytics/qoe/session"
	"github.com/spillway-live/spillway/schemas"
)

// say is a beacon at ms after t0; state may be empty.
func say(ms, sn int64, kind, state string) schemas.Telemetry {
	r := report(ms, sn, kind, state)
	r.Source = schemas.SourceBeacon
	return r
}

// page is what a page says of a view: start-up 380 ms, a stall of 900 ms, a pause of 500 ms, a seek of 300 ms.
var page = []schemas.Telemetry{
	say(0, 0, "start", ""), say(20, 1, "state", "s"), say(400, 2, "state", "p"), say(3100, 3, "state", "r"), say(4000, 4, "state", "p"),
	say(5000, 5, "progress", "p"), say(6000, 6, "state", "a"), say(6500, 7, "state", "k"), say(6800, 8, "state", "p"), say(8000, 9, "end", ""),
}

func TestPageSaysTheStates(t *testing.T) {
	check := func(t *testing.T, rows []schemas.Telemetry, startup, lost int64) {
		t.Helper()
		rows = slices.Clone(rows)
		slices.SortStableFunc(rows, func(a, b schemas.Telemetry) int { return int(a.ReceivedUnixUs - b.ReceivedUnixUs) })
		all, _ := run(t, rows)
		s := total(all)
		near(t, "start-up", s.StartupMs, startup, 0)
		near(t, "stall time", s.StalledMs, 900, 0)
		near(t, "stalls", s.Stalls, 1, 0)
		near(t, "paused", s.PausedMs, 500, 0)
		near(t, "seek", s.SeekMs, 300, 0)
		near(t, "played", s.PlayedMs, 2700+2000+1200, 0)
		near(t, "lost reports", s.LostReports, lost, 0)
		if s.Attempts != 1 || s.Starts != 1 || s.PlayFails != 0 || s.EndReason != "quit" {
			t.Errorf("%+v", s)
		}
	}
	t.Run("alone, as an app without CMCD", func(t *testing.T) { check(t, page, 380, 0) })
	t.Run("some never arrived", func(t *testing.T) {
		check(t, slices.Delete(slices.Clone(page), 5, 6), 380, 1)
	})
	// What a player says of the same view: another stall, a stall in the seek, a failure, a second load.
	player := []schemas.Telemetry{
		report(10, 0, "ps", "s"), report(410, 1, "ps", "p"), report(3500, 2, "ps", "r"), report(3900, 3, "ps", "p"), report(5200, 4, "ps", "w"),
		report(5300, 5, "ps", "p"), report(6600, 6, "ps", "r"), report(7000, 0, "ps", "s"), report(7100, 1, "ps", "f"), report(7500, 2, "t", "r"),
	}
	t.Run("beside a player with an account of its own", func(t *testing.T) {
		check(t, slices.Concat(page, player), 390, 0) // the attempt began with the player's word, before the page's first
	})
	t.Run("after the player, late and in any order", func(t *testing.T) {
		for seed := range uint64(20) {
			rng := rand.New(rand.NewPCG(seed, 2))
			late := slices.Clone(page)
			for i := range late {
				late[i].ReceivedUnixUs += rng.Int64N(3_000_000)
			}
			check(t, slices.Concat(late, player), 390, 0)
		}
	})
}

// A beacon that is attached in the middle of a view tells of the rest of it.
func TestPageSaysTheStatesFromTheMiddle(t *testing.T) {
	rows := append(watch(3), report(3500, 10, "ps", "r"), report(4000, 11, "ps", "p"),
		say(4500, 0, "start", ""), say(4500, 1, "state", "p"), report(5000, 12, "ps", "r"), say(5010, 2, "state", "r"),
		report(5500, 13, "ps", "p"), say(5510, 3, "state", "p"), say(6000, 4, "end", ""))
	all, _ := run(t, rows)
	s := total(all)
	near(t, "stalls", s.Stalls, 2, 0)
	near(t, "stall time", s.StalledMs, 500+500, 0)
	near(t, "start-up", s.StartupMs, 400, 0)
}

// A step that failed before the first frame is a failed start, unless it plays after all.
func TestFailedStep(t *testing.T) {
	all, _ := run(t, []schemas.Telemetry{say(0, 0, "start", ""), say(0, 1, "state", "s"), say(700, 2, "error", ""), say(900, 3, "end", "")})
	if s := total(all); s.Attempts != 1 || s.StartFails != 1 || s.ExitBefore != 0 || s.EndReason != "failed" {
		t.Errorf("%+v", s)
	}
	all, _ = run(t, []schemas.Telemetry{say(0, 0, "state", "s"), say(700, 1, "error", ""), say(900, 2, "state", "p"), say(2000, 3, "end", "")})
	if s := total(all); s.Starts != 1 || s.StartFails != 0 || s.EndReason != "quit" {
		t.Errorf("%+v", s)
	}
}

// What the page said is in the snapshot.
func TestSnapshotKnowsThePage(t *testing.T) {
	tab := session.New(session.Config{})
	tab.Add(page[:4], t0+3200)
	tab.Tick(t0 + 3300)
	buf := tab.AppendSnapshot(nil)
	tab, err := session.Restore(buf, session.Config{})
	if err != nil {
		t.Fatal(err)
	}
	tab.Add([]schemas.Telemetry{report(3500, 9, "ps", "p"), say(4000, 5, "state", "p"), say(5000, 6, "end", "")}, t0+5100)
	var stalled, lost int64
	for _, s := range tab.Tick(t0 + 6000) {
		stalled, lost = stalled+s.StalledMs, lost+s.LostReports
	}
	near(t, "stall after the snapshot", stalled, 900-180, 0) // 180 ms were counted by the tick before it
	near(t, "lost reports", lost, 1, 0)
}
