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
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/grafana-tools/sdk"

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
	// Timeout of one request; default 10 s.
	Timeout time.Duration
}

// Change is one thing that differed, or did not.
type Change struct {
	// Kind is folder, datasource or dashboard.
	Kind, UID string
	// Action is create, update or unchanged.
	Action string
}

// String is one line for people.
func (c Change) String() string { return c.Action + " " + c.Kind + " " + c.UID }

// Push makes folder, data source and dashboards as [Export] would, by uid: it
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
	for _, step := range []func(context.Context) error{p.folder, p.datasource, p.dashboards} {
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

func (p *pusher) note(kind, uid, action string) bool {
	p.changes = append(p.changes, Change{kind, uid, action})
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
		if p.note("folder", FolderUID, "update") {
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
			"host": host, "port": port, "protocol": "native", "secure": false, "username": "analyst", "defaultDatabase": "spillway",
		},
	}
	if missing {
		if p.note("datasource", DatasourceUID, "create") {
			if _, err := p.api.CreateDatasource(ctx, want); err != nil {
				return fmt.Errorf("create data source: %w", err)
			}
		}
		return nil
	}
	if contains(have.JSONData, want.JSONData) {
		p.note("datasource", DatasourceUID, "unchanged")
		return nil
	}
	// Settings that somebody added, such as TLS, stay.
	if m, ok := have.JSONData.(map[string]any); ok {
		for k, v := range want.JSONData.(map[string]any) {
			m[k] = v
		}
		want.JSONData = m
	}
	want.ID, want.OrgID, want.IsDefault = have.ID, have.OrgID, have.IsDefault
	if p.note("datasource", DatasourceUID, "update") {
		if _, err := p.api.UpdateDatasource(ctx, want); err != nil {
			return fmt.Errorf("update data source: %w", err)
		}
	}
	return nil
}

func (p *pusher) dashboards(ctx context.Context) error {
	for _, w := range queries.Walls() {
		want, err := JSON(w)
		if err != nil {
			return err
		}
		have, _, err := p.api.GetRawDashboardByUID(ctx, w.UID)
		action := "update"
		switch {
		case isMissing(err):
			action = "create"
		case err != nil:
			return fmt.Errorf("read dashboard %s: %w", w.UID, err)
		case same(have, want):
			action = "unchanged"
		}
		if p.note("dashboard", w.UID, action) {
			if err := p.save(ctx, want); err != nil {
				return fmt.Errorf("save dashboard %s: %w", w.UID, err)
			}
		}
	}
	return nil
}

// save posts a dashboard into the folder. The SDK only knows folders by number,
// which Grafana has given up in favour of uids.
func (p *pusher) save(ctx context.Context, dash []byte) error {
	body, err := json.Marshal(map[string]any{
		"dashboard": json.RawMessage(dash), "folderUid": FolderUID, "overwrite": true, "message": "pushed by spillway",
	})
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(p.t.URL, "/")+"/api/dashboards/db", bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	if user, password, basic := strings.Cut(p.t.Token, ":"); basic {
		r.SetBasicAuth(user, password)
	} else if p.t.Token != "" {
		r.Header.Set("Authorization", "Bearer "+p.t.Token)
	}
	resp, err := p.http.Do(r)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// same compares dashboards without what Grafana adds when it stores them.
func same(a, b []byte) bool {
	var x, y map[string]any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	for _, k := range []string{"id", "version", "iteration"} {
		delete(x, k)
		delete(y, k)
	}
	return reflect.DeepEqual(x, y)
}

// contains says whether every value of want is in have.
func contains(have, want any) bool {
	b, err := json.Marshal(want)
	var w map[string]any
	if err != nil || json.Unmarshal(b, &w) != nil {
		return false
	}
	h, ok := have.(map[string]any)
	if !ok {
		return false
	}
	for k, v := range w {
		if !reflect.DeepEqual(h[k], v) {
			return false
		}
	}
	return true
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
