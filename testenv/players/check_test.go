package players_test

import (
	"testing"

	"github.com/spillway-live/spillway/testenv/players"
)

// What the sums of a session may differ from what the page saw itself.
const (
	startupWithinMs = 100
	stallWithinMs   = 300
)

// check compares a session in ClickHouse with what its page saw.
type check struct {
	*testing.T
	v    *view
	page players.Seen
	row  sessionRow
}

func (c *check) near(what string, got, want, within int64) {
	c.Helper()
	if got < want-within || got > want+within {
		c.Errorf("%s is %d ms in ClickHouse and %d ms in the page: more than %d ms apart", what, got, want, within)
	}
}

func (c *check) all() {
	if c.row.Latency != nil {
		c.Errorf("a recording has a latency of %.0f ms", *c.row.Latency)
	}
	if c.v.player == "shaka" && !c.v.beacon && !c.v.debug {
		c.nothingKnown()
		return
	}
	if c.v.player == "shaka" && !c.v.beacon && c.v.page.Unsent > 0 {
		// shaka tries a report twice and drops it: on a machine too busy to answer, the session cannot be known.
		c.Logf("%d posts of reports failed, %d reports are missing", c.v.page.Unsent, c.row.Lost)
		return
	}
	if c.row.Attempts != 1 || c.row.Starts != 1 || c.row.StartFail != 0 {
		c.Errorf("%d attempts, %d starts, %d failed", c.row.Attempts, c.row.Starts, c.row.StartFail)
	}
	if c.v.beacon {
		c.near("start-up", c.row.StartupMs, c.page.StartupMs, startupWithinMs)
	} else if fastest := c.page.StartupMs - c.page.AskingMs; c.row.StartupMs < fastest-startupWithinMs || c.row.StartupMs > c.page.StartupMs+startupWithinMs {
		// Players say when they began somewhere in the call that asks them to, which is long on a busy machine.
		c.Errorf("start-up is %d ms in ClickHouse and %d to %d ms in the page", c.row.StartupMs, fastest, c.page.StartupMs)
	}
	switch {
	case !c.v.gone:
		c.watched()
	case c.v.beacon:
		c.failed()
	default:
		c.failedUntold()
	}
}

// watched: stall, seek, pause and the end of a view.
func (c *check) watched() {
	each := stallWithinMs * int64(max(c.page.Stalls, 1))
	c.near("stall time", c.row.StalledMs, c.page.StalledMs, each)
	c.near("seek time", c.row.SeekMs, c.page.SeekMs, stallWithinMs)
	c.near("pause", c.row.PausedMs, c.page.PausedMs, stallWithinMs)
	if c.v.player != "video" && (c.page.Stalls == 0 || c.row.Stalls == 0) {
		c.Errorf("%d stalls in the page, %d in ClickHouse: one was forced", c.page.Stalls, c.row.Stalls)
	}
	end := "silence" // no player says that it is left
	if c.v.beacon {
		end = "quit"
		if c.row.Stalls != c.page.Stalls {
			c.Errorf("%d stalls in ClickHouse, %d in the page", c.row.Stalls, c.page.Stalls)
		}
	}
	if c.row.End != end || c.row.Fails != 0 {
		c.Errorf("ended by %q with %d failures, want %q with none", c.row.End, c.row.Fails, end)
	}
}

// failed: media that is gone is a failure of playback, once nothing plays any more.
func (c *check) failed() {
	if c.row.Fails != 1 || c.row.End != "failed" {
		c.Errorf("%d playback failures, ended by %q", c.row.Fails, c.row.End)
	}
	c.near("played", c.row.PlayedMs, c.page.PlayedMs, stallWithinMs)
}

// failedUntold is what is known of the same without the beacon. shaka says it;
// hls.js and dash.js never do: their sessions wait until they are left, which is
// what the viewer saw, and only the edge's log has the reason.
func (c *check) failedUntold() {
	// shaka says so when loading fails; what was loaded is still played, and no player counts it then.
	loaded := int64(0)
	if c.v.player == "shaka" {
		loaded = 4000
	}
	if c.row.PlayedMs < c.page.PlayedMs-loaded-stallWithinMs || c.row.PlayedMs > c.page.PlayedMs+stallWithinMs {
		c.Errorf("played is %d ms in ClickHouse and %d ms in the page", c.row.PlayedMs, c.page.PlayedMs)
	}
	if c.row.ReqErrors == 0 {
		c.Error("the edge's log shows no failed request")
	}
	if c.v.player == "shaka" {
		if c.row.Fails != 1 || c.row.End != "failed" {
			c.Errorf("%d playback failures, ended by %q", c.row.Fails, c.row.End)
		}
		return
	}
	if c.row.Fails != 0 || c.row.End != "silence" || c.row.Stalls == 0 || c.row.StalledMs == 0 {
		c.Errorf("%d playback failures, ended by %q, %d stalls of %d ms", c.row.Fails, c.row.End, c.row.Stalls, c.row.StalledMs)
	}
}

// nothingKnown: shaka's release build says no state, so there is no attempt, no
// time and no ratio; requests are known all the same.
func (c *check) nothingKnown() {
	r := c.row
	if r.Attempts+r.Starts+r.Stalls+r.Fails != 0 || r.StartupMs+r.PlayedMs+r.StalledMs+r.SeekMs+r.PausedMs != 0 || r.StallRatio != nil {
		c.Errorf("something is told of a session of which no state is known: %+v", r)
	}
	if r.Requests == 0 || r.End != "silence" {
		c.Errorf("%d requests, ended by %q", r.Requests, r.End)
	}
}

// reports: what only a beacon tells is there with it, and unknown without it.
func (c *check) reports(p *pipeline) {
	type told struct {
		Dropped, Startup, Clock, Latency, Viewport int // rows in which it is known
		Widest, Hidden, Steps, Network             int
		MostDropped                                int64 `json:"most_dropped"`
	}
	rows, err := query[told](p, `SELECT count(dropped_frames) AS dropped, count(page_startup_ms) AS startup, count(clock_bound_ms) AS clock, count(e2e_latency_ms) AS latency,
		count(viewport_width) AS viewport, ifNull(max(viewport_width), 0) AS widest, countIf(event = 'background' AND background) AS hidden,
		countIf(event = 'error' AND error_code = 'E42' AND JSONExtractString(detail, 'step') = 'licence') AS steps, countIf(network_type != '') AS network,
		ifNull(max(dropped_frames), 0) AS most_dropped
		FROM spillway.telemetry WHERE session_id = '%s' AND source IN ('cmcd_event', 'beacon')`, c.v.sid)
	if err != nil || len(rows) != 1 {
		c.Fatalf("%+v, %v", rows, err)
	}
	r := rows[0]
	if !c.v.beacon {
		if r != (told{}) {
			c.Errorf("no player tells of this, and it is there: %+v", r)
		}
		return
	}
	if r.Dropped == 0 || r.Startup == 0 || r.Clock == 0 || r.Viewport == 0 || r.Network == 0 || r.Latency != 0 {
		c.Errorf("the beacon did not tell of everything: %+v", r)
	}
	if c.row.Dropped != r.MostDropped {
		c.Errorf("%d dropped frames in the session, %d in its reports", c.row.Dropped, r.MostDropped)
	}
	if !c.v.gone && (r.Widest != 480 || r.Hidden == 0 || r.Steps == 0) {
		c.Errorf("%d pixels at the widest, hidden %d times, %d failed steps", r.Widest, r.Hidden, r.Steps)
	}
}
