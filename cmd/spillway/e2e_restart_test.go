package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestRestartKeepsEverything: Ctrl-C and start again, then kill -9 and start
// again, on the same data directory. ClickHouse keeps its rows, the stream goes
// on in a new epoch with the next segment number behind a discontinuity, and
// the killed system leaves no process behind.
func TestRestartKeepsEverything(t *testing.T) {
	t.Parallel()
	env, dir := environment(t), t.TempDir()
	type row struct{ N, Sum int64 }
	// What is in ClickHouse of the time before.
	kept := func(u *upProgram, before time.Time) row {
		t.Helper()
		return rows[row](t, u.ClickHouse, `SELECT toInt64(count()) AS n, toInt64(sum(cityHash64(session_id, source, event, ts_ms, bus_partition, bus_seq, bus_row) %% 1000000007)) AS sum
			FROM spillway.telemetry WHERE received_us < %d`, before.UnixMicro())[0]
	}
	newest := func(u *upProgram) (msn uint64, epoch string, jump bool) {
		t.Helper()
		f := &follower{multivariant: u.HLS["a"]}
		p, err := f.snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range p.Segments {
			if i > 0 && s.Discontinuity {
				jump = true
			}
			for _, part := range s.Parts {
				epoch, _, _ = strings.Cut(part.URI, "-")
			}
			msn = s.MSN
		}
		return msn, epoch, jump || p.DiscontinuitySeq > 0
	}
	flows := func(u *upProgram) {
		t.Helper()
		began := time.Now().UnixMicro()
		within(t, time.Minute, "rows of viewers arrive", func() error {
			got, err := tryRows[row](u.ClickHouse, "SELECT toInt64(count()) AS n, 0 AS sum FROM spillway.telemetry WHERE source = 'cmcd_event' AND received_us > %d", began)
			if err == nil && got[0].N < 6 {
				err = fmt.Errorf("%d", got[0].N)
			}
			return err
		})
	}

	u := up(t, env, dir, "--viewers", "1")
	flows(u)
	msn, epoch, _ := newest(u)
	cut := time.Now()
	u.interrupt() // within 5 s, nothing left

	u = up(t, env, dir, "--viewers", "1")
	atRestart := kept(u, cut)
	if atRestart.N < 6 {
		t.Errorf("%d rows are left after the restart", atRestart.N)
	}
	flows(u)
	// What was accepted before the stop and not yet loaded came since.
	before := kept(u, cut)
	if before.N < atRestart.N {
		t.Errorf("rows were lost: %d, then %d", atRestart.N, before.N)
	}
	msn2, epoch2, jump := newest(u)
	t.Logf("segment %d of epoch %s before the restart, segment %d of epoch %s behind a discontinuity (%t) after it; %d rows kept", msn, epoch, msn2, epoch2, jump, before.N)
	if epoch != "1" || epoch2 != "2" || msn2 <= msn || !jump {
		t.Error("the stream does not go on in a new epoch")
	}

	below := u.descendants()
	if names := strings.Join(stillRunning(below), " "); !strings.Contains(names, "ffmpeg") || len(below) < 2 {
		t.Errorf("the system runs no ffmpeg and ClickHouse: %s", names)
	}
	cut = time.Now()
	flows(u) // what was accepted before is loaded by then
	before = kept(u, cut)
	u.kill()
	within(t, time.Minute, "no process outlives kill -9", func() error {
		if left := stillRunning(below); len(left) > 0 {
			return fmt.Errorf("%s", left)
		}
		return nil
	})

	u = up(t, env, dir, "--viewers", "1")
	flows(u)
	if after := kept(u, cut); after != before {
		t.Errorf("rows of before kill -9: %+v, after: %+v", before, after)
	}
	msn3, epoch3, jump := newest(u)
	t.Logf("segment %d of epoch %s after kill -9", msn3, epoch3)
	if epoch3 != "3" || msn3 <= msn2 || !jump {
		t.Error("the stream does not go on in a new epoch")
	}
	u.interrupt()
}
