package web_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/analytics/experiments/control"
	"github.com/spillway-live/spillway/analytics/experiments/report"
	"github.com/spillway-live/spillway/analytics/experiments/web"
	"github.com/spillway-live/spillway/dashboards/console"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/axe"
	"github.com/spillway-live/spillway/testenv/browser/browsertest"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/clickhouse"
	"github.com/spillway-live/spillway/testenv/clickhouse/tablestest"
	"github.com/spillway-live/spillway/testenv/running"
)

const token = "sesame"

// serve runs a console with the pages of experiments.
func serve(t *testing.T, js jetstream.JetStream, conn driver.Conn, dsn string) string {
	t.Helper()
	c, err := console.New(console.Settings{JetStream: js, ClickHouse: dsn, AdminToken: token, Experiments: &web.Server{JS: js, ClickHouse: conn, Keep: time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	running.Start(t, c.Run)
	return c.URL()
}

func ask(t *testing.T, method, url, token, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// Experiments are changed over HTTP by the rules of the commands, and what is refused names its field.
func TestChange(t *testing.T) {
	b := bustest.Start(t)
	url := serve(t, b.JS, nil, "clickhouse://analyst@127.0.0.1:1/spillway") // nothing here asks ClickHouse
	const draft = `{"name":"delay","unit":"viewer","coverage":0.5,"arms":[{"name":"control","weight":1},{"name":"low","weight":1}],"primary_metric":"stall_ratio"%s}`
	for _, x := range []struct {
		method, path, token, body string
		want                      int
		says                      string
	}{
		{"GET", "", "guess", "", 401, "admin token"},
		{"POST", "/delay/start", "", "", 401, "admin token"},
		{"GET", "", token, "", 200, `"entries":{}`},
		{"PUT", "/delay", token, `{"nam":1}`, 400, "nam"},
		{"PUT", "/other", token, fmt.Sprintf(draft, ""), 400, "name:"},
		{"PUT", "/delay", token, fmt.Sprintf(draft, `,"guardrails":[{"metric":"latency_mean"}]`), 400, "guardrails[0].margin"},
		{"PUT", "/delay", token, strings.Replace(fmt.Sprintf(draft, ""), `"weight":1`, `"weight":-1`, 1), 400, "arms[0].weight"},
		{"PUT", "/delay", token, fmt.Sprintf(draft, `,"plan":{"effect":0.0001,"mean":1,"variance":9,"units_per_day":10,"days":7}`), 400, "too little traffic"},
		{"PUT", "/delay?check=1", token, fmt.Sprintf(draft, ""), 200, "no guardrails"},
		{"GET", "/delay", token, "", 404, "no such entry"},
		{"PUT", "/delay", token, strings.Repeat(" ", 70_000), 400, "too large"},
		{"PUT", "/delay", token, fmt.Sprintf(draft, ""), 200, `"status":"draft"`},
		{"GET", "/delay", token, "", 200, `"layer":"default"`},
		{"POST", "/delay/stop", token, "", 409, "only a running one"},
		{"POST", "/delay/begin", token, "", 400, "there is no act"},
		{"POST", "/gone/start", token, "", 404, "there is no experiment"},
		{"POST", "/delay/start", token, `{"by":"ana","reason":"go"}`, 200, `"status":"running"`},
		{"PUT", "/delay", token, fmt.Sprintf(draft, ""), 409, "choose another name"},
		{"DELETE", "/delay", token, "", 409, "only drafts are removed"},
		{"PUT", "/second", token, strings.Replace(fmt.Sprintf(draft, ""), `"delay"`, `"second"`, 1), 200, "draft"},
		{"POST", "/second/start", token, "", 409, "overlap in layer"},
		{"POST", "/delay/cover", token, `{"coverage":2}`, 400, "coverage:"},
		{"POST", "/delay/cover", token, `{"coverage":0.4}`, 409, "coverage:"},
		{"POST", "/delay/cover", token, `{"coverage":0.8}`, 200, `"coverage":0.8`},
		{"POST", "/delay/stop", token, `{"reason":"enough"}`, 200, `"status":"stopped"`},
		{"POST", "/delay/roll-out", token, `{"apps":["live"]}`, 409, "only a decided one"},
		{"POST", "/delay/decide", token, `{}`, 400, "winner:"},
		{"POST", "/delay/decide", token, `{"winner":"nobody"}`, 400, "winner:"},
		{"POST", "/delay/decide", token, `{"winner":"low"}`, 200, `"winner":"low"`},
		{"POST", "/delay/roll-out", token, `{"apps":["live/"]}`, 400, "apps[0]"},
		{"POST", "/delay/roll-out", token, `{"apps":["live","shop/demo"]}`, 200, `"shop.demo"`},
		{"GET", "/delay/history", token, "", 200, `"changed_by":"console: ana","change_reason":"go"`},
		{"DELETE", "/second", token, "", 204, ""},
	} {
		status, text := ask(t, x.method, url+"/v1/settings/experiments"+x.path, x.token, x.body)
		if status != x.want || !strings.Contains(text, x.says) {
			t.Errorf("%s %s %.80s: %d %s, want %d naming %q", x.method, x.path, x.body, status, text, x.want, x.says)
		}
	}
}

// However many browsers look, the bus is asked nothing more: what it tells is followed once.
func TestBrowsersShareOneReader(t *testing.T) {
	b := bustest.Start(t)
	url := serve(t, b.JS, nil, "clickhouse://analyst@127.0.0.1:1/spillway")
	const draft = `{"name":"delay","unit":"viewer","coverage":0.5,"arms":[{"name":"control","weight":1},{"name":"low","weight":1}],"primary_metric":"stall_ratio"}`
	if status, text := ask(t, "PUT", url+"/v1/settings/experiments/delay", token, draft); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	look := func(want string) {
		t.Helper()
		for path, says := range map[string]string{"/experiments": `data-experiment="delay"`, "/experiments/delay": want, "/v1/experiments/delay/status.part": want} {
			if status, text := ask(t, "GET", url+path, "", ""); status != 200 || !strings.Contains(text, says) {
				t.Fatalf("%s: %d, lacks %q: %s", path, status, says, text)
			}
		}
	}
	look(`data-status="draft"`) // reads the history
	before := b.JS.Conn().Stats().OutMsgs
	const browsers = 100
	for range browsers {
		look(`data-status="draft"`)
	}
	// Whoever follows says now and then that it is there.
	if asked := b.JS.Conn().Stats().OutMsgs - before; asked > 2*browsers {
		t.Errorf("%d browsers asked the bus %d times", browsers, asked)
	}
	// Who changes something is shown it at once, its history too; and so is what others change.
	if status, text := ask(t, "POST", url+"/v1/settings/experiments/delay/start", token, `{"by":"ana","reason":"go"}`); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	look(`data-status="running"`)
	if _, text := ask(t, "GET", url+"/v1/experiments/delay/status.part", "", ""); !strings.Contains(text, "console: ana") {
		t.Errorf("the history lacks who started it: %s", text)
	}
	if _, err := (&control.Control{JS: b.JS, By: "elsewhere"}).Stop(t.Context(), "delay", "enough"); err != nil {
		t.Fatal(err)
	}
	await.True(t, "what another has changed is shown", func() bool {
		_, text := ask(t, "GET", url+"/v1/experiments/delay/status.part", "", "")
		return strings.Contains(text, `data-status="stopped"`) && strings.Contains(text, "elsewhere")
	})
	if status, text := ask(t, "GET", url+"/v1/experiments/gone/status.part", "", ""); status != 404 || !strings.Contains(text, "there are: delay") {
		t.Errorf("an experiment that is not there: %d %s", status, text)
	}
}

// The pages show list, state, report and history, and change the state; without ClickHouse they say so.
func TestPages(t *testing.T) {
	chromium := browsertest.Start(t)
	b := bustest.Start(t)
	s, conn := tablestest.Start(t)
	url := serve(t, b.JS, conn, s.NativeURL(clickhouse.Analyst))
	x := &schemas.Experiment{
		Name: "delay", Hypothesis: `<img src=x onerror="document.title='owned'">`, Salt: "p1", Unit: schemas.UnitViewer, Layer: "player", Coverage: 1, PrimaryMetric: "stall_ratio",
		Arms: []schemas.Arm{{Name: "control", Weight: 1}, {Name: "low", Weight: 1}}, Status: schemas.ExperimentDraft,
	}
	body, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	if status, text := ask(t, "PUT", url+"/v1/settings/experiments/delay", token, string(body)); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	if status, text := ask(t, "GET", url+"/v1/experiments/delay/report.json", "", ""); status != 409 || !strings.Contains(text, "nothing to report") {
		t.Errorf("report of a draft: %d %s", status, text)
	}
	// The button starts it; then the report is made, of sessions that began after.
	var state, title string
	if err := chromedp.Run(chromium.Tab,
		chromedp.Navigate(url+"/experiments"), chromedp.WaitVisible(`#experiments tr[data-experiment=delay] a`), chromedp.Click(`#experiments tr[data-experiment=delay] a`),
		chromedp.WaitVisible(`#experiment`), chromedp.Click(`#change > summary`), chromedp.WaitVisible(`[data-for=draft] button`),
		chromedp.SendKeys("#token", token), chromedp.SendKeys("#by", "ana"), chromedp.Click(`[data-for=draft] button`),
		chromedp.WaitVisible(`#loop[data-status=running]`, chromedp.ByQuery), chromedp.Text("#state", &state), chromedp.Title(&title),
	); err != nil {
		t.Fatal(err)
	}
	if state != "running" || strings.Contains(title, "owned") {
		t.Errorf("state %q, title %q", state, title)
	}
	now := time.Now().UTC()
	for _, sql := range []string{
		`INSERT INTO spillway.exposures (time, experiment, salt, unit, session_id, viewer_id, arm, reason) SELECT now64(6), 'delay', 'p1', 'v' || toString(number), 's', 'v' || toString(number), ['control', 'low'][1 + number % 2], 'assigned' FROM numbers(600)`,
		`INSERT INTO spillway.session_slices (time_ms, session_id, viewer_id, cdn, isp, arms, sessions, attempts, starts, startup_ms, played_ms, stalled_ms, first_screen_bins, first_screen_counts)
			SELECT ` + fmt.Sprint(now.UnixMilli()) + ` + 1000, 's' || toString(number), 'v' || toString(number), 'a', '<script>document.title="owned"</script>', 'delay=' || ['control', 'low'][1 + number % 2], 1, 1, 1, 400, 60000, number % 91 * 10, [300 + number % 9], [1] FROM numbers(600)`,
	} {
		if err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	var r report.Report
	await.True(t, "a report of both arms", func() bool { // at most a second old
		status, text := ask(t, "GET", url+"/v1/experiments/delay/report.json", "", "")
		r = report.Report{}
		return status == 200 && json.Unmarshal([]byte(text), &r) == nil && len(r.Arms) == 2 && r.Arms[0].Exposed == 300 && r.Arms[1].Sessions == 300
	})
	var verdict, isp string
	var plots int
	if err := chromedp.Run(chromium.Tab,
		chromedp.Navigate(url+"/experiments/delay"), chromedp.WaitVisible(`#report #decision`), chromedp.Text(`#report #decision`, &verdict),
		chromedp.Text(`[data-segment=isp] tbody`, &isp), chromedp.Evaluate(`document.querySelectorAll("#distributions svg[role=img]").length`, &plots), chromedp.Title(&title),
	); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(verdict, r.Decision.Why[0]) || !strings.Contains(isp, "<script>") || plots == 0 || strings.Contains(title, "owned") {
		t.Errorf("decision %q, want %v; isp %q; %d plots; title %q", verdict, r.Decision.Why, isp, plots, title)
	}
	for _, page := range []string{"/experiments", "/experiments/delay", "/v1/experiments/delay/report.html"} {
		for _, theme := range []string{"light", "dark"} {
			if err := chromedp.Run(chromium.Tab, emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}}), chromedp.Navigate(url+page),
				chromedp.WaitReady("#experiments, #decision", chromedp.ByQuery), chromedp.Evaluate(`document.querySelectorAll("details").forEach((d) => { d.open = true })`, nil)); err != nil {
				t.Fatal(err)
			}
			if found, err := axe.Violations(chromium.Tab); err != nil || len(found) > 0 {
				t.Errorf("%s, %s: axe finds %d (%v): %s", page, theme, len(found), err, strings.Join(found[:min(len(found), 12)], "\n"))
			}
		}
	}
	if said := chromium.Errors(); len(said) > 0 {
		t.Errorf("the pages complain: %v", said)
	}
	if status, page := ask(t, "GET", url+"/v1/experiments/delay/report.html", "", ""); status != 200 || !strings.HasPrefix(page, "<!doctype html>") {
		t.Errorf("file: %d %.100s", status, page)
	}
	// Another experiment than the one that is kept: ClickHouse is asked, and is gone.
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status, text := ask(t, "POST", url+"/v1/settings/experiments/delay/stop", token, ""); status != 200 {
		t.Errorf("stopping without ClickHouse: %d %s", status, text)
	}
	if status, text := ask(t, "GET", url+"/v1/experiments/delay/report.json", "", ""); status != 503 {
		t.Errorf("report without ClickHouse: %d %s", status, text)
	}
}
