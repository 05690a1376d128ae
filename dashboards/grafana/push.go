package grafana

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/grafana-tools/sdk"

	"github.com/spillway-live/spillway/analytics/alerts/rules"
	"github.com/spillway-live/spillway/dashboards/queries"
)

// Target is the Grafana that [Push] brings up to date.
type Target struct {
	// URL of Grafana, e.g. http://localhost:3000.
	URL string
	// Token of a service account that may edit folders, data sources and dashboards.
	Token string
	// ClickHouse is host:port of the native protocol as Grafana reaches it;
	// empty leaves an existing data source alone, and is an error when there is none.
	ClickHouse string
	// DryRun asks and compares, and changes nothing.
	DryRun bool
	// Thresholds colour the walls; nil: the defaults.
	Thresholds *queries.Thresholds
	// Rules are the alert rules as operators have set them; nil: as they come.
	Rules []rules.Rule
	// NoAlerts leaves alert rules alone: where the role alerts is what people listen to.
	NoAlerts bool
	// Timeout of one request; default 10 s.
	Timeout time.Duration
}

// Change is one thing that differed, or did not.
type Change struct {
	// Kind is folder, datasource, dashboard or alert rules.
	Kind, UID string
	// Action is create, update or unchanged.
	Action string
	// Diff says what an update changes, a line each.
	Diff []string
}

// String is a line for people, and one for each difference.
func (c Change) String() string {
	return strings.Join(append([]string{c.Action + " " + c.Kind + " " + c.UID}, c.Diff...), "\n    ")
}

// Push makes folder, data source, dashboards and alert rules as [Export] would, by uid: it
// creates what is missing, updates what differs and leaves the rest alone, so
// that a second push changes nothing. It gives what it did, or with DryRun what
// it would do, up to the first error.
func Push(ctx context.Context, t Target) ([]Change, error) {
	u, err := url.Parse(t.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("push to Grafana: address %q is not like http://host:3000", t.URL)
	}
	if t.Timeout <= 0 {
		t.Timeout = 10 * time.Second
	}
	hc := &http.Client{Transport: strict{http.DefaultTransport}, Timeout: t.Timeout}
	api, err := sdk.NewClient(t.URL, t.Token, hc)
	if err != nil {
		return nil, fmt.Errorf("push to Grafana: %w", err)
	}
	p := &pusher{t: t, api: api, http: hc}
	for _, step := range []func(context.Context) error{p.folder, p.datasource, p.dashboards, p.rules} {
		if err := step(ctx); err != nil {
			return p.changes, fmt.Errorf("push to Grafana: %w", err)
		}
	}
	return p.changes, nil
}

type pusher struct {
	t       Target
	api     *sdk.Client
	http    *http.Client
	changes []Change
}

func (p *pusher) note(kind, uid, action string, diff ...string) bool {
	p.changes = append(p.changes, Change{kind, uid, action, diff})
	return action != "unchanged" && !p.t.DryRun
}

func (p *pusher) folder(ctx context.Context) error {
	f, err := p.api.GetFolderByUID(ctx, FolderUID)
	switch {
	case isMissing(err):
		if p.note("folder", FolderUID, "create") {
			if _, err := p.api.CreateFolder(ctx, sdk.Folder{UID: FolderUID, Title: FolderTitle}); err != nil {
				return fmt.Errorf("create folder: %w", err)
			}
		}
	case err != nil:
		return fmt.Errorf("read folder: %w", err)
	case f.Title != FolderTitle:
		f.Title, f.Overwrite = FolderTitle, true
		if p.note("folder", FolderUID, "update", ".title: not "+FolderTitle) {
			if _, err := p.api.UpdateFolderByUID(ctx, f); err != nil {
				return fmt.Errorf("update folder: %w", err)
			}
		}
	default:
		p.note("folder", FolderUID, "unchanged")
	}
	return nil
}

func (p *pusher) datasource(ctx context.Context) error {
	have, err := p.api.GetDatasourceByName(ctx, DatasourceName)
	missing := isMissing(err)
	if err != nil && !missing {
		return fmt.Errorf("read data source: %w", err)
	}
	if !missing && (have.UID != DatasourceUID || have.Type != PluginType) {
		return fmt.Errorf("there is another data source named %s (uid %s, type %s): rename it", DatasourceName, have.UID, have.Type)
	}
	if p.t.ClickHouse == "" {
		if missing {
			return errors.New("there is no data source yet: say where ClickHouse is, host:port")
		}
		p.note("datasource", DatasourceUID, "unchanged")
		return nil
	}
	host, portText, err := net.SplitHostPort(p.t.ClickHouse)
	port, perr := strconv.Atoi(portText)
	if err != nil || perr != nil || host == "" || port < 1 || port > 65535 {
		return fmt.Errorf("ClickHouse address %q is not host:port", p.t.ClickHouse)
	}
	want := sdk.Datasource{
		UID: DatasourceUID, Name: DatasourceName, Type: PluginType, Access: "proxy",
		JSONData: map[string]any{
			"host": host, "port": port, "protocol": "native", "defaultDatabase": "spillway",
		},
	}
	if missing {
		// The first settings; what an operator makes of these two afterwards is theirs.
		data := want.JSONData.(map[string]any)
		data["secure"], data["username"] = false, "analyst"
		if p.note("datasource", DatasourceUID, "create") {
			if _, err := p.api.CreateDatasource(ctx, want); err != nil {
				return fmt.Errorf("create data source: %w", err)
			}
		}
		return nil
	}
	asked, err := plainJSON(want.JSONData)
	if err != nil {
		return err
	}
	diff := differences(have.JSONData, asked, true)
	if len(diff) == 0 {
		p.note("datasource", DatasourceUID, "unchanged")
		return nil
	}
	// Settings that somebody added or changed, such as TLS and the user, stay.
	if m, ok := have.JSONData.(map[string]any); ok {
		for k, v := range want.JSONData.(map[string]any) {
			m[k] = v
		}
		want.JSONData = m
	}
	want.ID, want.OrgID, want.IsDefault = have.ID, have.OrgID, have.IsDefault
	if p.note("datasource", DatasourceUID, "update", diff...) {
		if _, err := p.api.UpdateDatasource(ctx, want); err != nil {
			return fmt.Errorf("update data source: %w", err)
		}
	}
	return nil
}

func (p *pusher) dashboards(ctx context.Context) error {
	th := queries.DefaultThresholds()
	if p.t.Thresholds != nil {
		th = *p.t.Thresholds
	}
	for _, w := range queries.Walls(th) {
		want, err := JSON(w)
		if err != nil {
			return err
		}
		have, _, err := p.api.GetRawDashboardByUID(ctx, w.UID)
		if err != nil && !isMissing(err) {
			return fmt.Errorf("read dashboard %s: %w", w.UID, err)
		}
		action, diff := "create", []string(nil)
		if err == nil {
			action = "update"
			if diff = compare(have, want); len(diff) == 0 {
				action = "unchanged"
			}
		}
		if p.note("dashboard", w.UID, action, diff...) {
			body := map[string]any{"dashboard": json.RawMessage(want), "folderUid": FolderUID, "overwrite": true, "message": "pushed by spillway"}
			if _, err := p.call(ctx, http.MethodPost, "/api/dashboards/db", body); err != nil {
				return fmt.Errorf("save dashboard %s: %w", w.UID, err)
			}
		}
	}
	return nil
}

// rules brings the group of alert rules up to date. People may go on editing
// what else is in the folder; the group itself is replaced as a whole.
func (p *pusher) rules(ctx context.Context) error {
	if p.t.NoAlerts {
		return nil
	}
	g, err := Rules(p.t.Rules)
	if err != nil {
		return err
	}
	path := "/api/v1/provisioning/folder/" + FolderUID + "/rule-groups/" + RuleGroup
	have, err := p.call(ctx, http.MethodGet, path, nil)
	if err != nil {
		return fmt.Errorf("read alert rules: %w", err)
	}
	action, diff := "create", []string(nil)
	if have != nil {
		want, err := plainJSON(g)
		if err != nil {
			return err
		}
		action = "update"
		if diff = differences(have, want, true); len(diff) == 0 {
			action = "unchanged"
		}
	}
	if p.note("alert rules", RuleGroup, action, diff...) {
		if _, err := p.call(ctx, http.MethodPut, path, g); err != nil {
			return fmt.Errorf("save alert rules: %w", err)
		}
	}
	return nil
}

// call asks what the SDK has no call for: it knows folders by number only, which
// Grafana has given up in favour of uids, and no alert rules. What is not found
// is nil.
func (p *pusher) call(ctx context.Context, method, path string, body any) (any, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(p.t.URL, "/")+path, bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	if method == http.MethodPut {
		r.Header.Set("X-Disable-Provenance", "true") // else nobody could silence or edit a rule in Grafana
	}
	if user, password, basic := strings.Cut(p.t.Token, ":"); basic {
		r.SetBasicAuth(user, password)
	} else if p.t.Token != "" {
		r.Header.Set("Authorization", "Bearer "+p.t.Token)
	}
	resp, err := p.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return nil, nil
	}
	var out any
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		return nil, fmt.Errorf("%s answered no JSON: %w", path, err)
	}
	return out, nil
}

// compare lists where a stored dashboard differs, without what Grafana adds when it stores one.
func compare(have, want []byte) []string {
	x, err := plainJSON(have)
	y, err2 := plainJSON(want)
	if err != nil || err2 != nil {
		return []string{"the stored one cannot be read"}
	}
	for _, v := range []any{x, y} {
		if m, ok := v.(map[string]any); ok {
			for _, k := range []string{"id", "version", "iteration"} {
				delete(m, k)
			}
		}
	}
	return differences(x, y, false)
}

func isMissing(err error) bool {
	return err != nil && strings.HasPrefix(err.Error(), "HTTP error 404")
}

// strict makes errors of refusals: the SDK does not look at the status of every
// answer, and stops the program at some refusals without a message.
type strict struct{ next http.RoundTripper }

// maxAnswer bounds what is read of an answer.
const maxAnswer = 16 << 20

func (s strict) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := s.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 && !(resp.StatusCode == http.StatusNotFound && r.Method == http.MethodGet) {
		defer resp.Body.Close()
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
		hint := ""
		if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
			hint = ": give the token of a service account with the role Admin"
		}
		return nil, fmt.Errorf("%s answered %d %s%s", r.URL.Path, resp.StatusCode, bytes.TrimSpace(b), hint)
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	return resp, nil
}
