package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/axe"
)

// hostileSession is a session whose id and player are markup and SQL at once.
const hostileSession = `<img src=x onerror="document.title='owned'">' OR 1=1 --`

// plantHostile writes a session, its reports and decisions, everything in them hostile, and an alert about it.
func plantHostile(t *testing.T, c *Console, conn driver.Conn) {
	t.Helper()
	const bad = `<b onclick=alert(1)>"'); DROP TABLE x --`
	now := time.Now()
	exec := func(q string, a ...any) {
		t.Helper()
		if err := conn.Exec(t.Context(), q, a...); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		at := now.Add(-time.Duration(100-5*i) * time.Second)
		stalled := 0
		if i > 12 {
			stalled = 4000
		}
		exec(`INSERT INTO spillway.session_slices (time_ms, kind, session_id, app, stream, cdn, region, isp, client, played_ms, stalled_ms, stalls, starts, startup_ms)
			VALUES (?, 'delta', ?, 'live', 'demo', ?, ?, ?, ?, ?, ?, ?, ?, ?)`, at.UnixMilli(), hostileSession, []string{"a", "b"}[i/14], bad, bad, bad, 5000-stalled, stalled, stalled/4000, 0, 0)
		exec(`INSERT INTO spillway.telemetry (received_us, ts_ms, source, event, session_id, app, stream, cdn, state, buffer_ms, live_latency_ms, error_code)
			VALUES (?, ?, 'cmcd_event', 'ps', ?, 'live', 'demo', 'a', ?, ?, 2000, ?)`, at.UnixMicro(), at.UnixMilli()-7000, hostileSession, []string{"s", "p", "r", "p"}[min(i, 2+i%2)], 100*i, strings.Repeat(bad, i/19))
	}
	exec(`INSERT INTO spillway.decisions (time, kind, id, app, stream, session_id, policy, previous, chosen, probability, reason_code, candidate_cdns, candidate_scores, candidate_viewers, candidate_excluded)
		VALUES (fromUnixTimestamp64Milli(?), 'steering', 'd', 'live', 'demo', ?, ?, 'a', 'b', 1, ?, ['b'], [1], [2], [?])`, now.Add(-40*time.Second).UnixMilli(), hostileSession, bad, bad, bad)
	a := schemas.Alert{Rule: "raised", Subject: bad, State: schemas.AlertOpen, SinceUs: now.UnixMicro(), OpenedUs: now.UnixMicro(), Reason: bad, Page: "/cdns#b"}
	put(t, bucket(t, c.s.JetStream, schemas.BucketAlerts), schemas.AlertKey(a.Rule, a.Subject), a)
}

// plantExperiment makes an experiment that runs, with viewers in both arms.
func plantExperiment(t *testing.T, js jetstream.JetStream, conn driver.Conn) {
	t.Helper()
	now := time.Now()
	x := schemas.Experiment{
		Name: "delay", Hypothesis: "later is steadier", Salt: "p1", Unit: schemas.UnitViewer, Layer: "player", Coverage: 1, PrimaryMetric: "stall_ratio",
		Arms: []schemas.Arm{{Name: "control", Weight: 1}, {Name: "low", Weight: 1}}, Status: schemas.ExperimentRunning, StartedUnixUs: now.Add(-time.Hour).UnixMicro(),
	}
	if err := x.Check(); err != nil {
		t.Fatal(err)
	}
	put(t, bucket(t, js, schemas.BucketExperiments), x.Name, x)
	for _, sql := range []string{
		`INSERT INTO spillway.exposures (time, experiment, salt, unit, session_id, viewer_id, arm, reason)
			SELECT fromUnixTimestamp64Milli(?), 'delay', 'p1', 'v' || toString(number), 'x' || toString(number), 'v' || toString(number), ['control', 'low'][1 + number % 2], 'assigned' FROM numbers(600)`,
		// Older than what pages show of the present.
		`INSERT INTO spillway.session_slices (time_ms, session_id, viewer_id, app, stream, cdn, arms, sessions, attempts, starts, startup_ms, played_ms, stalled_ms, first_screen_bins, first_screen_counts)
			SELECT ?, 'x' || toString(number), 'v' || toString(number), 'shop', 'gone', 'a', 'delay=' || ['control', 'low'][1 + number % 2], 1, 1, 1, 400, 60000, number % 91 * 10, [300 + number % 9], [1] FROM numbers(600)`,
	} {
		if err := conn.Exec(t.Context(), sql, now.Add(-20*time.Minute).UnixMilli()); err != nil {
			t.Fatal(err)
		}
	}
}

// drillDown goes from the CDN in red to its streams, to one of them, to a session, by clicks.
func drillDown(t *testing.T, tab context.Context, c *Console, conn driver.Conn, until func(what, js string)) {
	t.Helper()
	plantHostile(t, c, conn)
	do := func(what string, a ...chromedp.Action) {
		t.Helper()
		ctx, cancel := context.WithTimeout(tab, time.Minute)
		defer cancel()
		if err := chromedp.Run(ctx, a...); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	do("open the overview", chromedp.Navigate(c.URL()+"/"))
	until("the faulty CDN in red again", `document.querySelector("table.cdns tr.c1 .value.bad")`)
	do("click on the CDN", chromedp.Click(`table.cdns tr.c1 a.name`))
	until("its streams", `location.pathname === "/walls/spillway-streams" && location.search.includes("cdn=b") && document.querySelector("#streams-top a[href='/streams/live/demo']")`)
	do("click on the stream", chromedp.Click(`#streams-top a[href='/streams/live/demo']`))
	until("the stream's charts, hops or their absence, and sessions", `document.querySelectorAll("#part-sessions a").length > 10 && !document.querySelector("#part-hops .said").textContent.includes("Reading")`)
	link := "/sessions/" + url.PathEscape(hostileSession)
	until("the session that stalled most", fmt.Sprintf(`[...document.querySelectorAll("#part-sessions a")].some((a) => decodeURIComponent(a.getAttribute("href")) === decodeURIComponent(%s))`, quoteJS(link)))
	do("click on the session", chromedp.Evaluate(fmt.Sprintf(`[...document.querySelectorAll("#part-sessions a")].find((a) => decodeURIComponent(a.getAttribute("href")) === decodeURIComponent(%s)).click()`, quoteJS(link)), nil))
	until("its story on one time line", `document.querySelectorAll(".timeline .st-stall").length > 0 && document.querySelectorAll(".timeline .own").length === 2 && document.querySelector(".timeline .mark.moved") && document.querySelector("table.rows")`)
	until("nothing hostile became markup", `!document.querySelector("main img") && !document.querySelector("main b") && document.title.startsWith("Session <img") && document.querySelector("h1").textContent.includes("<img")`)
}

func quoteJS(s string) string {
	b, _ := json.Marshal(s) // a string encodes
	return string(b)
}

// weighAndCheckPages opens every page: it weighs less than 300 kB, axe-core has nothing against it, light and dark.
func weighAndCheckPages(t *testing.T, tab context.Context, c *Console, weight func() (int, float64), until func(what, js string)) {
	t.Helper()
	// What must be there before a page counts as drawn.
	drawn := map[string]string{
		"wall": `document.querySelectorAll(".panel .said[hidden]").length > 2`, "alerts": `document.querySelector(".alerts li")`,
		"walls": `document.querySelectorAll(".list a").length === 6`, "stream": `document.querySelectorAll("#part-sessions a").length > 0`,
		"session": `document.querySelector(".timeline")`, "settings": `document.querySelectorAll("form.fields").length === 3`,
		"cdns": `document.querySelectorAll(".chart canvas").length === 5`, "overview": `document.querySelector(".wall li")`,
		"pictures": `document.querySelectorAll(".pictures img").length === 6`, "pushes": `document.querySelector("table.pushes tbody tr")`,
		"experiments": `document.querySelector("#experiments tr[data-experiment]")`, "experiment": `document.querySelector("#report #decision")`,
	}
	for _, p := range c.pages() {
		path := strings.NewReplacer("{$}", "", "{app}", "live", "{stream}", "demo").Replace(p.path)
		switch p.name {
		case "wall":
			path = "/walls/spillway-cdn-health"
		case "session":
			path = "/sessions/" + url.PathEscape(hostileSession)
		case "experiment":
			path = "/experiments/delay"
		}
		if p.name == "settings" {
			if err := chromedp.Run(tab, chromedp.Evaluate(`sessionStorage.setItem("token", "admin")`, nil)); err != nil {
				t.Fatal(err)
			}
		}
		weight()
		if err := chromedp.Run(tab, chromedp.Navigate(c.URL()+path)); err != nil {
			t.Fatal(err)
		}
		until("a drawn page "+p.name, `document.querySelector("#pulse.on")`)
		if js := drawn[p.name]; js != "" {
			until("what belongs on page "+p.name, js)
		}
		if n, bytes := weight(); bytes > 300_000 {
			t.Errorf("page %s weighs %.0f bytes in %d requests, more than 300 kB", p.name, bytes, n)
		} else {
			t.Logf("page %s: %d requests, %.1f kB, cached ones not counted", p.name, n, bytes/1000)
		}
		for scheme, rules := range map[string][]string{"light": nil, "dark": {"color-contrast"}} {
			if err := chromedp.Run(tab, emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}})); err != nil {
				t.Fatal(err)
			}
			found, err := axe.Violations(tab, rules...)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range found {
				t.Errorf("page %s, %s: %s", p.name, scheme, v)
			}
		}
	}
}
