package grafana

//lint:file-ignore SA1019 see build.go.

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/alerting"
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"

	"github.com/spillway-live/spillway/analytics/alerts/rules"
	"github.com/spillway-live/spillway/dashboards/queries"
	"github.com/spillway-live/spillway/schemas"
)

var update = flag.Bool("update", false, "write the exported files anew")

// TestExportedFilesAreUpToDate compares the folder json with what Export writes:
// go test ./dashboards/grafana -run Exported -update brings it up to date.
func TestExportedFilesAreUpToDate(t *testing.T) {
	if *update {
		if err := os.RemoveAll("json"); err != nil {
			t.Fatal(err)
		}
		if err := Export("json", queries.DefaultThresholds(), nil); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	if err := Export(dir, queries.DefaultThresholds(), nil); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, pair := range [][2]string{{dir, "json"}, {"json", dir}} {
		err := filepath.WalkDir(pair[0], func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			n++
			rel, err := filepath.Rel(pair[0], path)
			if err != nil {
				return err
			}
			a, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if b, err := os.ReadFile(filepath.Join(pair[1], rel)); err != nil || !bytes.Equal(a, b) {
				t.Errorf("%s is not up to date (%v): run go test ./dashboards/grafana -run Exported -update", rel, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if want := 2 * (len(queries.Walls(queries.DefaultThresholds())) + 3); n != want && !t.Failed() {
		t.Errorf("%d files looked at, want %d", n, want)
	}
}

// TestDashboards checks what Grafana relies on.
func TestDashboards(t *testing.T) {
	for _, w := range queries.Walls(queries.DefaultThresholds()) {
		b, err := JSON(w)
		if err != nil {
			t.Fatal(err)
		}
		var d struct {
			UID    string
			Panels []struct {
				ID          uint32
				Type        string
				Title       string
				Datasource  struct{ Type, UID string }
				GridPos     struct{ X, Y, W, H int }
				FieldConfig struct {
					Defaults  struct{ Unit string }
					Overrides []fieldOverride
				}
				Targets []struct {
					RefID, RawSQL, QueryType string
					Format                   int
				}
			}
			Templating struct {
				List []struct {
					Name, Type string
					Multi      bool
					IncludeAll bool
					Query      string
				}
			}
		}
		if err := json.Unmarshal(b, &d); err != nil {
			t.Fatal(err)
		}
		if d.UID != w.UID || len(d.Panels) != len(w.Panels())+len(w.Sections) || len(d.Templating.List) != len(w.Variables) {
			t.Errorf("%s: uid %s, %d panels, %d variables", w.UID, d.UID, len(d.Panels), len(d.Templating.List))
		}
		for i, v := range d.Templating.List {
			if w.Variables[i].SQL == "" {
				if v.Type != "textbox" || v.Name != w.Variables[i].Name {
					t.Errorf("%s: variable %+v", w.UID, v)
				}
				continue
			}
			if v.Name != w.Variables[i].Name || v.Type != "query" || !v.Multi || !v.IncludeAll || v.Query != w.Variables[i].SQL {
				t.Errorf("%s: variable %+v", w.UID, v)
			}
		}
		ids := map[uint32]string{}
		cells := map[[2]int]string{}
		sqls := map[string]queries.Panel{}
		for _, p := range w.Panels() {
			sqls[p.SQL] = p
		}
		for _, p := range d.Panels {
			if p.ID == 0 || ids[p.ID] != "" {
				t.Errorf("%s: panels %q and %q have the id %d", w.UID, p.Title, ids[p.ID], p.ID)
			}
			ids[p.ID] = p.Title
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					if at := [2]int{x, y}; cells[at] != "" || x >= 24 {
						t.Fatalf("%s: %q lies on %q or outside, at %v", w.UID, p.Title, cells[at], at)
					}
					cells[[2]int{x, y}] = p.Title
				}
			}
			if p.Type == "row" {
				continue
			}
			want := map[queries.Kind]string{queries.TimeSeries: "timeseries", queries.Stat: "stat", queries.Table: "table", queries.Bar: "barchart"}
			if len(p.Targets) != 1 {
				t.Fatalf("%s: %q has %d targets", w.UID, p.Title, len(p.Targets))
			}
			src, ok := sqls[p.Targets[0].RawSQL]
			if !ok || p.Type != want[src.Kind] || p.Datasource.UID != DatasourceUID || p.Datasource.Type != PluginType {
				t.Errorf("%s: %q is a %s of %+v", w.UID, p.Title, p.Type, p.Datasource)
			}
			checkUnits(t, &src, p.FieldConfig.Defaults.Unit, p.FieldConfig.Overrides)
			if ts := src.Kind == queries.TimeSeries; ts != (p.Targets[0].Format == 0) || ts != (p.Targets[0].QueryType == "timeseries") {
				t.Errorf("%s: %q has format %d and type %s", w.UID, p.Title, p.Targets[0].Format, p.Targets[0].QueryType)
			}
		}
	}
}

// fieldOverride is what a panel says of one column.
type fieldOverride struct {
	Matcher    struct{ Options string }
	Properties []struct {
		ID    string
		Value any
	}
}

// checkUnits wants every value of a panel to be shown in its unit.
func checkUnits(t *testing.T, p *queries.Panel, defaults string, overrides []fieldOverride) {
	t.Helper()
	for _, c := range p.Columns {
		if c.Unit == queries.UnitText || c.Unit == queries.UnitTime {
			continue
		}
		got := defaults
		for _, o := range overrides {
			for _, x := range o.Properties {
				if o.Matcher.Options == c.Name && x.ID == "unit" {
					got = fmt.Sprint(x.Value)
				}
			}
		}
		if c.Unit == "" || got != c.Unit {
			t.Errorf("%s: %s is shown in %q, its unit is %q", p.ID, c.Name, got, c.Unit)
		}
	}
}

// TestThresholdsAreConfigured: what is orange and red is as it was told, in files and in a running Grafana.
func TestThresholdsAreConfigured(t *testing.T) {
	th := queries.DefaultThresholds()
	th.StallWarn, th.StallBad = 0.123, 0.456
	files, err := Files(th, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range files {
		has := bytes.Contains(b, []byte("0.123")) && bytes.Contains(b, []byte("0.456"))
		coloured := strings.HasSuffix(name, queries.WallCDNs+".json") || strings.HasSuffix(name, queries.WallStreams+".json") || strings.HasSuffix(name, queries.WallQoE+".json")
		if coloured && !has {
			t.Errorf("%s has not the thresholds of stalls that were told", name)
		}
	}
	_, url := newFake(t)
	if _, err := Push(context.Background(), Target{URL: url, Token: "secret", ClickHouse: "ch:9000"}); err != nil {
		t.Fatal(err)
	}
	dry, err := Push(context.Background(), Target{URL: url, Token: "secret", ClickHouse: "ch:9000", Thresholds: &th, DryRun: true})
	if got := fmt.Sprint(dry); err != nil || !strings.Contains(got, "-> 0.456") {
		t.Errorf("a dry run says %v, %v", got, err)
	}
}

// TestAgainstTheSchema reads what is exported back by the SDK's own types: what they do not know, or miss, is an error.
func TestAgainstTheSchema(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	cog.NewRuntime().RegisterDataqueryVariant(variants.DataqueryConfig{
		Identifier: PluginType,
		DataqueryUnmarshaler: func(raw []byte) (variants.Dataquery, error) {
			var q query
			return q, json.Unmarshal(raw, &q)
		},
		StrictDataqueryUnmarshaler: func(raw []byte) (variants.Dataquery, error) {
			var q query
			d := json.NewDecoder(bytes.NewReader(raw))
			d.DisallowUnknownFields()
			return q, d.Decode(&q)
		},
	})
	for _, w := range queries.Walls(queries.DefaultThresholds()) {
		b, err := JSON(w)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard.Dashboard
		if err := d.UnmarshalJSONStrict(b); err != nil && err.Error() != "" { // the SDK gives an empty list of errors for none
			t.Errorf("%s: %v", w.UID, err)
		}
		if err := d.Validate(); err != nil {
			t.Errorf("%s: %v", w.UID, err)
		}
		if len(d.Annotations.List) != len(w.Annotations) || len(w.Annotations) == 0 {
			t.Errorf("%s: %d annotations", w.UID, len(d.Annotations.List))
		}
	}
	g, err := Rules(nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	var back alerting.RuleGroup
	if err := back.UnmarshalJSONStrict(b); err != nil && err.Error() != "" {
		t.Error(err)
	}
	if err := back.Validate(); err != nil {
		t.Error(err)
	}
	panels := map[string]bool{}
	for _, w := range queries.Walls(queries.DefaultThresholds()) {
		for _, p := range w.Panels() {
			panels[fmt.Sprint(w.UID, "/", id(p.ID))] = true
		}
	}
	for _, r := range g.Rules {
		if !panels[r.Annotations["__dashboardUid__"]+"/"+r.Annotations["__panelId__"]] {
			t.Errorf("%s leads to no panel: %v", r.Title, r.Annotations)
		}
		if len(*r.Uid) > 40 {
			t.Errorf("uid %s is longer than Grafana takes", *r.Uid)
		}
	}
}

// TestLinks: every drill-down leads to a wall that has the variables it sets, by columns that are there.
func TestLinks(t *testing.T) {
	vars := map[string]bool{}
	for _, w := range queries.Walls(queries.DefaultThresholds()) {
		for _, v := range w.Variables {
			vars[w.UID+" "+v.Name] = true
		}
	}
	ways := map[string]bool{}
	for _, w := range queries.Walls(queries.DefaultThresholds()) {
		for _, p := range w.Panels() {
			for _, l := range p.Links {
				ways[w.UID+" to "+l.Wall] = true
				for name, column := range l.Vars {
					if !vars[l.Wall+" "+name] || !slices.ContainsFunc(p.Columns, func(c queries.Column) bool { return c.Name == column }) {
						t.Errorf("%s: link of %s sets %s to %s", p.ID, l.Column, name, column)
					}
				}
			}
		}
	}
	for _, way := range []string{queries.WallCDNs + " to " + queries.WallStreams, queries.WallStreams + " to " + queries.WallSession} {
		if !ways[way] {
			t.Errorf("no drill-down from %s", way)
		}
	}
}

// fakeGrafana plays the part of Grafana's HTTP API that Push uses, as its
// documentation describes it: uids, numbers and versions given on storing,
// 404 with a message, 412 where a version is stale and nothing says overwrite.
type fakeGrafana struct {
	t     *testing.T
	token string

	mu      sync.Mutex
	folders map[string]map[string]any
	sources map[string]map[string]any
	boards  map[string]map[string]any
	rules   map[string]any
	writes  []string
	refuse  int // status for every write, if not 0
}

func newFake(t *testing.T) (*fakeGrafana, string) {
	f := &fakeGrafana{t: t, token: "Bearer secret", folders: map[string]map[string]any{}, sources: map[string]map[string]any{}, boards: map[string]map[string]any{}}
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return f, s.URL
}

func (f *fakeGrafana) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	answer := func(code int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		if err := json.NewEncoder(w).Encode(v); err != nil {
			f.t.Error(err)
		}
	}
	message := func(code int, m string) { answer(code, map[string]any{"message": m}) }
	if r.Header.Get("Authorization") != f.token {
		message(401, "Unauthorized")
		return
	}
	var body map[string]any
	if r.Method != http.MethodGet {
		f.writes = append(f.writes, r.Method+" "+r.URL.Path)
		b, err := io.ReadAll(r.Body)
		if err != nil || json.Unmarshal(b, &body) != nil {
			message(400, "bad request data")
			return
		}
		if f.refuse != 0 {
			w.WriteHeader(f.refuse) // without a body, as proxies do
			return
		}
	}
	last := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	get := func(m map[string]map[string]any, wrap string) {
		v, ok := m[last]
		switch {
		case !ok:
			message(404, "not found")
		case wrap != "":
			answer(200, map[string]any{wrap: v, "meta": map[string]any{"version": v["version"]}})
		default:
			answer(200, v)
		}
	}
	switch path := r.Method + " " + strings.TrimSuffix(r.URL.Path, last); path {
	case "GET /api/folders/":
		get(f.folders, "")
	case "POST /api/":
		switch last {
		case "folders":
			body["id"], body["version"] = len(f.folders)+1, 1
			f.folders[body["uid"].(string)] = body
			answer(200, body)
		case "datasources":
			body["id"] = len(f.sources) + 1
			f.sources[body["name"].(string)] = body
			answer(200, map[string]any{"id": body["id"], "message": "Datasource added"})
		default:
			message(404, "no such path")
		}
	case "PUT /api/datasources/":
		for name, s := range f.sources {
			if fmt.Sprint(s["id"]) == last {
				f.sources[name] = body
				answer(200, map[string]any{"message": "Datasource updated"})
				return
			}
		}
		message(404, "no such data source")
	case "GET /api/datasources/name/":
		get(f.sources, "")
	case "GET /api/dashboards/uid/":
		get(f.boards, "dashboard")
	case "GET /api/v1/provisioning/folder/" + FolderUID + "/rule-groups/":
		if f.rules == nil {
			message(404, "rule group not found")
			return
		}
		answer(200, f.rules)
	case "PUT /api/v1/provisioning/folder/" + FolderUID + "/rule-groups/":
		for i, r := range body["rules"].([]any) {
			r.(map[string]any)["id"] = i + 1 // a member that Grafana adds
		}
		f.rules = body
		answer(200, body)
	case "POST /api/dashboards/":
		d, _ := body["dashboard"].(map[string]any)
		uid, _ := d["uid"].(string)
		if _, ok := f.folders[fmt.Sprint(body["folderUid"])]; !ok || uid == "" {
			message(400, "folder not found")
			return
		}
		version := 1.0
		if old, ok := f.boards[uid]; ok {
			if body["overwrite"] != true {
				message(412, "The dashboard has been changed by someone else")
				return
			}
			version = old["version"].(float64) + 1
		}
		d["id"], d["version"] = float64(len(f.boards)+1), version
		f.boards[uid] = d
		answer(200, map[string]any{"status": "success", "uid": uid, "version": version})
	default:
		message(404, "no such path "+path)
	}
}

func actions(cs []Change) string {
	n := map[string]int{}
	for _, c := range cs {
		n[c.Action]++
	}
	return fmt.Sprintf("%d created, %d updated, %d unchanged", n["create"], n["update"], n["unchanged"])
}

func TestPush(t *testing.T) {
	f, url := newFake(t)
	ctx := context.Background()
	push := func(want string, target Target) {
		t.Helper()
		target.URL, target.Token = url, "secret"
		cs, err := Push(ctx, target)
		if err != nil {
			t.Fatal(err)
		}
		if got := actions(cs); got != want {
			t.Errorf("%s, want %s: %v", got, want, cs)
		}
	}
	push("9 created, 0 updated, 0 unchanged", Target{ClickHouse: "ch:9000", DryRun: true})
	if len(f.writes) != 0 {
		t.Errorf("a dry run wrote %v", f.writes)
	}
	push("9 created, 0 updated, 0 unchanged", Target{ClickHouse: "ch:9000"})
	if len(f.boards) != 6 || len(f.folders) != 1 || len(f.sources) != 1 {
		t.Errorf("%d dashboards, %d folders, %d data sources", len(f.boards), len(f.folders), len(f.sources))
	}
	if j := f.sources[DatasourceName]["jsonData"].(map[string]any); j["secure"] != false || j["username"] != "analyst" {
		t.Errorf("a new data source %v", j)
	}
	n := len(f.writes)
	push("0 created, 0 updated, 9 unchanged", Target{ClickHouse: "ch:9000"})
	push("0 created, 0 updated, 9 unchanged", Target{})
	if len(f.writes) != n {
		t.Errorf("a second push wrote %v", f.writes[n:])
	}
	// Somebody changed a title, and ClickHouse has moved; TLS that an operator set stays.
	f.boards[queries.WallQoE]["title"] = "mine"
	f.rules["rules"].([]any)[0].(map[string]any)["for"] = "1h"
	f.sources[DatasourceName]["jsonData"].(map[string]any)["secure"] = true
	f.sources[DatasourceName]["jsonData"].(map[string]any)["tlsSkipVerify"] = true
	f.sources[DatasourceName]["jsonData"].(map[string]any)["username"] = "reader"
	if cs, err := Push(ctx, Target{URL: url, Token: "secret", ClickHouse: "ch:9000", DryRun: true}); err != nil || actions(cs) != "0 created, 2 updated, 7 unchanged" {
		t.Errorf("TLS and the user are not the operator's: %v, %v", cs, err)
	}
	dry, err := Push(ctx, Target{URL: url, Token: "secret", ClickHouse: "other:9001", DryRun: true})
	if got := fmt.Sprint(dry); err != nil || !strings.Contains(got, `.title: "mine" -> "Spillway: quality of experience"`) || !strings.Contains(got, `.host: "ch" -> "other"`) ||
		!strings.Contains(got, `.rules["A CDN stalls"].for: "1h" -> "30s"`) {
		t.Errorf("a dry run says %v, %v", got, err)
	}
	push("0 created, 3 updated, 6 unchanged", Target{ClickHouse: "other:9001"})
	if f.boards[queries.WallQoE]["title"] == "mine" || f.boards[queries.WallQoE]["version"] != 2.0 {
		t.Errorf("dashboard not restored: %v, version %v", f.boards[queries.WallQoE]["title"], f.boards[queries.WallQoE]["version"])
	}
	if j := f.sources[DatasourceName]["jsonData"].(map[string]any); j["host"] != "other" || j["tlsSkipVerify"] != true || j["secure"] != true || j["username"] != "reader" || j["port"] != 9001.0 {
		t.Errorf("data source %v", j)
	}
}

func TestPushRefusals(t *testing.T) {
	f, url := newFake(t)
	ctx := context.Background()
	for name, c := range map[string]struct {
		target Target
		refuse int
		want   string
	}{
		"bad address":        {Target{URL: "grafana"}, 0, "not like http://"},
		"wrong token":        {Target{URL: url, Token: "wrong", ClickHouse: "ch:9000"}, 0, "service account"},
		"no data source":     {Target{URL: url, Token: "secret"}, 0, "say where ClickHouse is"},
		"bad ClickHouse":     {Target{URL: url, Token: "secret", ClickHouse: "ch"}, 0, "not host:port"},
		"refused, no body":   {Target{URL: url, Token: "secret", ClickHouse: "ch:9000"}, 403, "answered 403"},
		"broken, no body":    {Target{URL: url, Token: "secret", ClickHouse: "ch:9000"}, 500, "answered 500"},
		"nobody listens":     {Target{URL: "http://127.0.0.1:1", Token: "secret", ClickHouse: "ch:9000"}, 0, "push to Grafana: read folder"},
		"a write not found":  {Target{URL: url, Token: "secret", ClickHouse: "ch:9000"}, 404, "answered 404"},
		"redirected to home": {Target{URL: url, Token: "secret", ClickHouse: "ch:9000"}, 302, "answered 302"},
	} {
		f.mu.Lock()
		f.folders = map[string]map[string]any{}
		f.refuse = c.refuse
		f.mu.Unlock()
		if cs, err := Push(ctx, c.target); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v %v, want an error with %q", name, cs, err, c.want)
		}
	}
	f.refuse = 0
	f.folders = map[string]map[string]any{}
	f.sources[DatasourceName] = map[string]any{"id": 1, "uid": "other", "name": DatasourceName, "type": "prometheus"}
	if _, err := Push(ctx, Target{URL: url, Token: "secret", ClickHouse: "ch:9000"}); err == nil || !strings.Contains(err.Error(), "rename") {
		t.Errorf("another data source of that name was taken over: %v", err)
	}
}

// TestRulesAreAsOperatorsSetThem: Grafana's rules have the thresholds, factors and times that hold on the bus; what is
// disabled is paused; a push says what it would change, and changes it once.
func TestRulesAreAsOperatorsSetThem(t *testing.T) {
	held := rules.All(map[string]*schemas.AlertRule{
		schemas.AlertRuleDefaults: {Name: schemas.AlertRuleDefaults, ForSec: 90},
		queries.AlertCDNStalls:    {Name: queries.AlertCDNStalls, Threshold: 0.2, Factor: 5},
		queries.AlertBalance:      {Name: queries.AlertBalance, Disabled: true},
	})
	files, err := Files(queries.DefaultThresholds(), held)
	if err != nil {
		t.Fatal(err)
	}
	text := string(files["provisioning/alerting/spillway.yaml"])
	for _, want := range []string{"value \\u003e= 0.2 AND", "value \\u003e= 5 * past", `"for": "90s"`, `"isPaused": true`} {
		if !strings.Contains(text, want) && !strings.Contains(text, strings.ReplaceAll(want, "\\u003e", ">")) {
			t.Errorf("the exported rules lack %s", want)
		}
	}
	_, url := newFake(t)
	push := func(held []rules.Rule, dry bool) Change {
		t.Helper()
		cs, err := Push(context.Background(), Target{URL: url, Token: "secret", ClickHouse: "ch:9000", Rules: held, DryRun: dry})
		if err != nil {
			t.Fatal(err)
		}
		return cs[len(cs)-1]
	}
	push(nil, false)
	if c := push(held, true); c.Action != "update" || !strings.Contains(c.String(), `.rules["A CDN stalls"].for: "30s" -> "90s"`) || !strings.Contains(c.String(), `.rules["Telemetry does not add up"].isPaused`) {
		t.Errorf("a dry run says %v", c)
	}
	push(held, false)
	if c := push(held, false); c.Action != "unchanged" {
		t.Errorf("a second push: %v", c)
	}
	// And back: what is no longer paused goes on.
	if c := push(nil, false); c.Action != "update" || !strings.Contains(c.String(), "isPaused") {
		t.Errorf("back to the rules as they come: %v", c)
	}
	if c := push(nil, false); c.Action != "unchanged" {
		t.Errorf("a second push: %v", c)
	}
}
