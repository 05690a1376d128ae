package players_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/players"
)

// sessionRow is a session in ClickHouse.
type sessionRow struct {
	Session    string `json:"session_id"`
	Final      bool
	Client     string
	End        string `json:"end_reason"`
	CDN        string
	Attempts   int
	Starts     int
	StartupMs  int64 `json:"startup_ms"`
	Fails      int   `json:"playback_failures"`
	StartFail  int   `json:"start_failures"`
	PlayedMs   int64 `json:"played_ms"`
	StalledMs  int64 `json:"stalled_ms"`
	Stalls     int
	SeekMs     int64    `json:"seek_ms"`
	PausedMs   int64    `json:"paused_ms"`
	Latency    *float64 `json:"latency_mean_ms"`
	StallRatio *float64 `json:"stall_ratio"`
	Dropped    int64    `json:"dropped_frames"`
	Requests   int
	ReqErrors  int `json:"request_errors"`
	Lost       int `json:"lost_reports"`
}

// TestSessionsAgreeWithThePage: three real players and a plain video, with the
// beacon and with their own reports alone, through start-up, a stall that the
// edge forces, a seek, a pause, leaving the page, and media that is gone. What
// ClickHouse says of each session is what its page saw itself. Fifteen views at
// a time need a machine that is not busy: ./dev test:players runs them, every
// other run has one of each player and none of what is gone.
func TestSessionsAgreeWithThePage(t *testing.T) {
	p := newPipeline(t)
	views := []*view{{player: "hls", beacon: true}, {player: "dash"}, {player: "shaka", beacon: true}}
	if os.Getenv("SPILLWAY_PLAYERS_SESSIONS") != "" {
		views = everyView()
	}
	began := time.Now()
	step := func(what string) { t.Logf("%5.1f s: %s", time.Since(began).Seconds(), what) }
	th := open(t, p, views)
	all := func(v *view) bool { return !v.gone }
	streaming := func(v *view) bool { return !v.gone && v.player != "video" } // a small file is loaded at once
	reports := func(v *view) bool { return !v.gone && v.beacon }
	failing := func(v *view) bool { return v.gone }

	th.wait("plays 2 s", all, func(v *view) bool { return v.page.At > 2 })
	step("all play")
	stopped := time.Now()
	if err := p.edge.SetFault(schemas.Fault{RateBps: 1000}); err != nil {
		t.Fatal(err)
	}
	th.wait("stalls for 1.5 s", streaming, func(v *view) bool {
		m := players.Account(v.page.Log)
		return m.Waiting && time.Now().UnixMilli()-m.SinceMs > 1500
	})
	if err := p.edge.SetFault(schemas.Fault{}); err != nil {
		t.Fatal(err)
	}
	stop := time.Since(stopped)
	step(fmt.Sprintf("all stalled, the edge stood still for %.1f s", stop.Seconds()))
	before := map[*view]float64{}
	th.wait("plays on", all, func(v *view) bool {
		if before[v] == 0 {
			before[v] = v.page.At
		}
		return v.page.At > before[v]+1 && !players.Account(v.page.Log).Waiting
	})
	th.each("w.video.currentTime = 40", all)
	th.wait("plays after the seek", all, func(v *view) bool { return v.page.At > 40.5 })
	th.each("w.video.pause()", all)
	th.wait("pauses for 1 s", all, func(v *view) bool { return time.Now().UnixMilli()-players.Account(v.page.Log).SinceMs > 1000 })
	th.each("w.video.play()", all)
	// An app's own failed step, another size, and a page that is hidden: the browser here hides none, so it is said.
	th.each(`w.video.width = 480; w.beacon.error('licence', 'E42');
		Object.defineProperty(w.document, 'hidden', {value: true, configurable: true}); w.document.dispatchEvent(new w.Event('visibilitychange'));
		delete w.document.hidden; w.document.dispatchEvent(new w.Event('visibilitychange'))`, reports)
	for _, v := range views {
		before[v] = v.page.At
	}
	th.wait("plays after the pause", all, func(v *view) bool { return v.page.At > before[v]+1 })
	step("all did everything")
	th.wait("fails", failing, func(v *view) bool { return v.page.failed() })
	step("all that had to failed")
	th.leave()
	step("all were left")
	got := map[string]sessionRow{}
	await.Text(t, "every session is closed in ClickHouse", func() string {
		all, err := query[sessionRow](p, "SELECT * FROM spillway.v_sessions WHERE final")
		if err != nil || len(all) != len(views) {
			return fmt.Sprintf("%d of %d, %v", len(all), len(views), err)
		}
		for _, s := range all {
			got[s.Session] = s
		}
		return ""
	})
	step("all closed")
	for _, v := range views {
		t.Run(v.sid, func(t *testing.T) {
			c := check{t, v, players.Account(v.page.Log), got[v.sid]}
			t.Logf("page %+v, errors %v", c.page, v.page.Errors)
			t.Logf("ClickHouse %+v", c.row)
			c.all()
			c.reports(p)
		})
	}
}

// everyView is each player with the beacon and without, shaka's debug build without, and all of that with media that is gone.
func everyView() []*view {
	views := []*view{{player: "video", beacon: true}}
	for _, gone := range []bool{false, true} {
		for _, player := range []string{"hls", "dash", "shaka"} {
			views = append(views, &view{player: player, beacon: true, gone: gone}, &view{player: player, gone: gone})
		}
		views = append(views, &view{player: "shaka", debug: true, gone: gone})
	}
	return views
}

// failed says whether the player gave up, and nothing plays any more.
func (p *pageState) failed() bool {
	for _, e := range p.Errors {
		if strings.Contains(e, "fatal") || strings.Contains(e, "dash 27") || strings.Contains(e, "severity 2") {
			return players.Account(p.Log).Waiting
		}
	}
	return false
}
