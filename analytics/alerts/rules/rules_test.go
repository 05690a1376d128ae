package rules

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/dashboards/queries"
	"github.com/spillway-live/spillway/schemas"
)

func rule(t *testing.T, name string, changed ...*schemas.AlertRule) *Rule {
	t.Helper()
	m := map[string]*schemas.AlertRule{}
	for _, c := range changed {
		m[c.Name] = c
	}
	for _, r := range All(m) {
		if r.Name == name {
			return &r
		}
	}
	t.Fatalf("no rule %s", name)
	return nil
}

var nan = math.NaN()

func TestBad(t *testing.T) {
	stalls, frozen := rule(t, queries.AlertCDNStalls), rule(t, queries.AlertPublisher)
	for name, c := range map[string]struct {
		r         *Rule
		row       Row
		now, open bool // bad where no alert is open, and where one is
	}{
		"against the others":         {stalls, Row{Value: 0.05, Weight: 500, Past: 0.05, Others: 0.002}, true, true},
		"against its past":           {stalls, Row{Value: 0.05, Weight: 500, Past: 0.001, Others: 0.05}, true, true},
		"as ever and as all":         {stalls, Row{Value: 0.05, Weight: 500, Past: 0.05, Others: 0.04}, false, false},
		"little, but much more":      {stalls, Row{Value: 0.01, Weight: 500, Past: 0, Others: 0}, false, false},
		"near the threshold":         {stalls, Row{Value: 0.015, Weight: 500, Past: 0, Others: 0}, false, true},
		"nearly three times":         {stalls, Row{Value: 0.05, Weight: 500, Past: 0.02, Others: 0.02}, false, true},
		"hardly watched":             {stalls, Row{Value: 0.9, Weight: 5, Past: 0, Others: 0}, false, false},
		"alone and new":              {stalls, Row{Value: 0.05, Weight: 500, Past: nan, Others: nan}, true, true},
		"not known":                  {stalls, Row{Value: nan, Weight: 500, Past: 0, Others: 0}, false, false},
		"stands still":               {frozen, Row{Value: 0, Weight: 6, Past: 30, Others: nan}, true, true},
		"slow, and was still before": {frozen, Row{Value: 1.2, Weight: 6, Past: 30, Others: nan}, false, true},
		"moves":                      {frozen, Row{Value: 25, Weight: 6, Past: 30, Others: nan}, false, false},
	} {
		if got := c.r.Bad(&c.row, false); got != c.now {
			t.Errorf("%s: bad %v", name, got)
		}
		if got := c.r.Bad(&c.row, true); got != c.open {
			t.Errorf("%s, open: bad %v", name, got)
		}
	}
	if stalls.Bad(nil, true) {
		t.Error("nothing is bad")
	}
}

// TestNext walks an alert through its life with a clock of its own.
func TestNext(t *testing.T) {
	r := rule(t, queries.AlertCDNStalls, &schemas.AlertRule{Name: queries.AlertCDNStalls, ForSec: 30, ClearSec: 60})
	bad := &Row{Subject: "b", CDN: "b", Value: 0.3, Weight: 500, Past: 0.001, Others: 0.002}
	near := &Row{Subject: "b", CDN: "b", Value: 0.015, Weight: 500, Past: 0.001, Others: 0.002}
	good := &Row{Subject: "b", CDN: "b", Value: 0.001, Weight: 500, Past: 0.001, Others: 0.002}
	start := time.Unix(1_795_000_000, 0)
	var a *schemas.Alert
	opened, resolved := 0, 0
	for _, step := range []struct {
		at    int // seconds
		row   *Row
		state string
	}{
		{0, good, ""}, {10, bad, schemas.AlertPending}, {20, good, ""}, // too short to tell
		{30, bad, schemas.AlertPending}, {50, bad, schemas.AlertPending}, {60, bad, schemas.AlertOpen}, {70, bad, schemas.AlertOpen},
		{80, near, schemas.AlertOpen}, {200, near, schemas.AlertOpen}, // near the threshold it stays open
		{210, good, schemas.AlertOpen}, {240, bad, schemas.AlertOpen}, {250, nil, schemas.AlertOpen}, {300, good, schemas.AlertOpen},
		{310, good, schemas.AlertResolved}, {320, good, schemas.AlertResolved}, {330, bad, schemas.AlertPending}, {360, bad, schemas.AlertOpen},
	} {
		before := ""
		if a != nil {
			before = a.State
		}
		next, store := r.Next(a, step.row, start.Add(time.Duration(step.at)*time.Second))
		state := ""
		if next != nil {
			state = next.State
		}
		if state != step.state {
			t.Fatalf("at %d s: %q, want %q", step.at, state, step.state)
		}
		if state != before {
			if !store {
				t.Errorf("at %d s: %q to %q is not stored", step.at, before, state)
			}
			switch {
			case state == schemas.AlertOpen:
				opened++
			case state == schemas.AlertResolved:
				resolved++
			}
			if next != nil && next.Told {
				t.Errorf("at %d s: told before it was", step.at)
			}
		}
		a = next
	}
	if opened != 2 || resolved != 1 {
		t.Errorf("opened %d times, resolved %d times", opened, resolved)
	}
	if a.Page != "/cdns#b" || !strings.Contains(a.Reason, "30 %") || !strings.Contains(a.Reason, "0.2 % on the other CDNs") {
		t.Errorf("%+v", a)
	}
	// It only goes on: stored once a minute, so that nobody takes it for forgotten.
	if _, store := r.Next(a, bad, start.Add(370*time.Second)); store {
		t.Error("stored although nothing changed")
	}
	if _, store := r.Next(a, bad, start.Add(430*time.Second)); !store {
		t.Error("not stored for over a minute")
	}
	r.Disabled = true
	if next, _ := r.Next(a, bad, start.Add(440*time.Second)); next.State != schemas.AlertResolved {
		t.Error("open although its rule is disabled")
	}
}

// TestWords: every rule says something of its own, and leads to a page that is there: of the console, a panel of a
// wall, or what its subject has.
func TestWords(t *testing.T) {
	pages := map[string]bool{}
	for _, w := range queries.Walls(queries.DefaultThresholds()) {
		for _, p := range w.Panels() {
			pages["/walls/"+w.UID+"#"+p.ID] = true
		}
	}
	for _, r := range All(nil) {
		if page := r.page(&Row{Subject: "x"}); !pages[page] {
			t.Errorf("%s leads to %s, where no panel is", r.Name, page)
		}
		if page := r.page(&Row{CDN: "b/#?"}); page != "/cdns#b%2F%23%3F" {
			t.Errorf("%s leads to %s for a CDN", r.Name, page)
		}
		if page := r.page(&Row{App: "live", Stream: "a"}); page != "/streams/live/a" {
			t.Errorf("%s leads to %s for a stream", r.Name, page)
		}
		row := &Row{Subject: `<b>'x'`, Value: 7, Weight: 1e6, Past: nan, Others: nan}
		if r.Name == queries.AlertRaised {
			row.Says = "seen by an operator"
		}
		a := &schemas.Alert{}
		r.fill(a, row, 1)
		if a.Reason == "" || strings.Contains(a.Reason, "NaN") && r.Name != queries.AlertPublisher && r.Name != queries.AlertCapacity || !strings.HasPrefix(a.Page, "/") {
			t.Errorf("%s: %q at %q", r.Name, a.Reason, a.Page)
		}
	}
}

func TestSettings(t *testing.T) {
	d := &schemas.AlertRule{Name: schemas.AlertRuleDefaults, WebhookURL: "https://a.example/x", ClearSec: 7}
	own := &schemas.AlertRule{Name: queries.AlertCDNStalls, Threshold: 0.5, Factor: 9, WebhookURL: "https://b.example/y"}
	r, other := rule(t, queries.AlertCDNStalls, d, own), rule(t, queries.AlertBalance, d, own)
	if r.Threshold != 0.5 || r.Factor != 9 || r.WebhookURL != own.WebhookURL || r.Clear != 7*time.Second || other.WebhookURL != d.WebhookURL || other.Threshold != 0.01 {
		t.Errorf("%+v and %+v", r, other)
	}
}

// TestRaisedRules: what others raise is told as the rule raised says, unless an entry about their own rule says
// otherwise.
func TestRaisedRules(t *testing.T) {
	changed := map[string]*schemas.AlertRule{}
	for _, c := range []*schemas.AlertRule{
		{Name: queries.AlertRaised, WebhookURL: "https://all.example/"}, {Name: "raised-review-nudity", WebhookURL: "https://one.example/", ClearSec: 9}, {Name: "raised-noise", Disabled: true},
	} {
		changed[c.Name] = c
	}
	raised := rule(t, queries.AlertRaised, changed[queries.AlertRaised])
	if r := raised.Of("review-nudity", changed); r.WebhookURL != "https://one.example/" || r.Clear != 9*time.Second || r.Disabled {
		t.Errorf("its own entry: %+v", r)
	}
	if r := raised.Of("review-other", changed); r.WebhookURL != "https://all.example/" || r.Clear != raised.Clear {
		t.Errorf("without an entry: %+v", r)
	}
	if r := raised.Of("", changed); r.Disabled || r.WebhookURL != "https://all.example/" {
		t.Errorf("the rule itself: %+v", r)
	}
	noise := raised.Of("noise", changed)
	row := &Row{Subject: "noise live/demo", By: "noise", Value: 1, Weight: 1, Past: nan, Others: nan}
	if a, _ := noise.Next(nil, row, time.Unix(1, 0)); a != nil {
		t.Errorf("what is disabled opened %+v", a)
	}
	if a, _ := raised.Next(nil, row, time.Unix(1, 0)); a == nil || a.By != "noise" || a.State != schemas.AlertOpen {
		t.Errorf("raised: %+v", a)
	}
}
