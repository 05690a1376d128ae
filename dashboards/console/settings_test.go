package console

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/testenv/bus/bustest"
)

func TestSettingsOverHTTP(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	c := start(t, Settings{JetStream: b.JS, ClickHouse: nowhere, AdminToken: "sesame"})
	do := func(method, path, token, body string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, c.URL()+"/v1/settings/"+path, strings.NewReader(body))
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
	for _, x := range []struct {
		method, path, token, body string
		want                      int
		says                      string
	}{
		{"PUT", "apps/home", "guess", `{"private":true}`, 401, "admin token"},
		{"GET", "sources", "", ``, 401, "admin token"},
		{"DELETE", "apps/home", "guess", ``, 401, "admin token"},
		{"PUT", "apps/home", "sesame", `{"privat":true}`, 400, "privat"},
		{"PUT", "apps/home", "sesame", `{"private":true}`, 204, ""},
		{"GET", "apps", "sesame", ``, 200, `"home":{"private":true}`},
		{"DELETE", "apps/home", "sesame", ``, 204, ""},
		{"DELETE", "apps/home", "sesame", ``, 404, "no such entry"},
		{"PUT", "sources/home.door", "sesame", `{"url":"rtsp://admin:hunter2@10.0.0.9/1","on_demand":true}`, 204, ""},
		{"GET", "sources", "sesame", ``, 200, "admin:xxxxx@10.0.0.9"},
		{"PUT", "shares/home.link", "sesame", `{"app":"home","stream":"door"}`, 204, ""},
		{"PUT", "shares/home.link", "sesame", `{"app":"home","stream":"garden"}`, 409, "choose another"},
		{"PUT", "shares/home.link", "sesame", `{"app":"home","stream":"door","withdrawn":1795000000}`, 204, ""},
		{"PUT", "shares/home.link", "sesame", `{"app":"home","stream":"door"}`, 409, "withdrawn"},
		{"DELETE", "shares/home.link", "sesame", ``, 409, "withdrawn"},
		{"GET", "cdns", "guess", ``, 401, "admin token"},
		{"GET", "cdns/a/history", "guess", ``, 401, "admin token"},
		{"PUT", "cdns/a", "sesame", `{"name":"b","base_url":"http://a.example","state":"active"}`, 400, "named"},
		{"PUT", "cdns/a", "sesame", `{"name":"a","base_url":"a.example","state":"active"}`, 400, "base_url"},
		{"PUT", "cdns/a", "sesame", `{"name":"a","base_url":"http://a.example","state":"active","capacity":5}`, 400, "capacity"},
		{"PATCH", "cdns/a", "sesame", `{"capacity_viewers":100}`, 400, "base_url"},
		{"PATCH", "cdns/a", "sesame", `{"base_url":"http://a.example","region_capacity":{"eu":{"viewers":10},"us":{"bps":1000000}},"commit_gb":5}`, 200, `"state":"active"`},
		{"PATCH", "cdns/a", "sesame", `{"region_capacity":{"us":null},"commit_gb":null,"price_tiers":[{"from_gb":0,"per_gb_micro_usd":1}]}`, 400, "price_tiers[0]"},
		{"PATCH", "cdns/a", "sesame", `{"region_capacity":{"us":null},"commit_gb":null}`, 200, `"region_capacity":{"eu":{"viewers":10}}`},
		{"PATCH", "cdns/a", "sesame", `["state"]`, 400, "JSON object"},
		{"GET", "cdns/a", "sesame", ``, 200, `"base_url":"http://a.example"`},
		{"GET", "cdns/a/history", "sesame", ``, 200, `"commit_gb":5`},
		{"GET", "cdns/b", "sesame", ``, 404, "no such entry"},
		{"GET", "cdns/b/history", "sesame", ``, 404, "no such entry"},
		{"GET", "cdns/%20", "sesame", ``, 404, "no such entry"},
		{"PUT", "policies/mine?check=1", "sesame", `{"name":"mine","kind":"expression","score":"harm +* 2.0"}`, 400, "1:7"},
		{"PUT", "policies/mine?check=1", "sesame", `{"name":"mine","kind":"expression","score":"-harm"}`, 204, ""},
		{"GET", "policies/mine", "sesame", ``, 404, "no such entry"},
		{"PUT", "policies/mine", "sesame", `{"name":"mine","kind":"expression","score":"-harm","version":9}`, 204, ""},
		{"PATCH", "policies/mine", "sesame", `{"explore":0.01}`, 200, `"version":2`},
		{"PATCH", "policies/mine", "sesame", `{"explore":2}`, 400, "explore"},
		{"GET", "policies/mine/history", "sesame", ``, 200, `"explore":0.01`},
		{"DELETE", "policies/mine", "sesame", ``, 204, ""},
		{"GET", "policies", "sesame", ``, 200, `"entries":{}`},
	} {
		if code, text := do(x.method, x.path, x.token, x.body); code != x.want || !strings.Contains(text, x.says) || strings.Contains(text, "hunter2") {
			t.Errorf("%s %s %s: %d %s, want %d with %q", x.method, x.path, x.body, code, text, x.want, x.says)
		}
	}
}
