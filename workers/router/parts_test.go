package router_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
)

// TestTelemetryTakesARegionOfACDNOut: a CDN that does not serve one region is left by its viewers, by
// new sessions there, and by nobody else; decisions and health say so.
func TestTelemetryTakesARegionOfACDNOut(t *testing.T) {
	b := world(t)
	r := start(t, b.JS)
	from := func(i int, region string) []string {
		return []string{"X-Forwarded-For", fmt.Sprintf("10.0.%d.1", i), "X-Spillway-Region", region}
	}
	type viewer struct{ id, cdn, region string }
	var all []viewer
	for i := range 96 {
		v := viewer{cdn: []string{"a", "b"}[i%2], region: []string{"us", "eu"}[i/2%2]}
		v.id = r.dispatch(t, "&pin="+v.cdn, from(i, v.region)...).SessionID
		all = append(all, v)
	}
	tell := func() {
		var rows []schemas.Slice
		for _, v := range all {
			s := schemas.Slice{Kind: schemas.SliceDelta, SessionID: v.id, CDN: v.cdn, Region: v.region, PlayedMs: 5000}
			if v.cdn == "a" && v.region == "us" {
				s.PlayedMs, s.StalledMs = 0, 5000
			}
			rows = append(rows, s)
		}
		data, err := schemas.EncodeSlices(rows)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.JS.Publish(t.Context(), schemas.SlicesSubject(0), data); err != nil {
			t.Fatal(err)
		}
	}
	us, eu := r.dispatch(t, "", from(200, "us")...), r.dispatch(t, "", from(201, "eu")...)
	if us.Candidates[0].CDN != "a" || eu.Candidates[0].CDN != "a" {
		t.Fatalf("the publisher's CDN is first while nothing is wrong: %+v, %+v", us.Candidates, eu.Candidates)
	}
	var last schemas.Dispatch
	await.True(t, "new sessions of the region leave the CDN", func() bool {
		tell()
		last = r.dispatch(t, "", from(200, "us")...)
		return last.Candidates[0].CDN == "b"
	})
	if got := r.dispatch(t, "", from(201, "eu")...); got.Candidates[0].CDN != "a" {
		t.Errorf("new sessions of another region leave it, too: %+v", got.Candidates)
	}
	for _, x := range []struct{ of, token, want string }{{"the region", us.Token, `["b",`}, {"another", eu.Token, `["a",`}} {
		if a := r.get(t, "/v1/steering?s="+x.token+"&_HLS_pathway=a"); !strings.Contains(a.body, x.want) {
			t.Errorf("a session of %s is told %s, want %s", x.of, a.body, x.want)
		}
	}
	tiers := map[string]string{}
	for _, c := range last.Candidates {
		tiers[c.CDN] = c.Tier
	}
	if tiers["a"] != "failing_region" {
		t.Errorf("tiers of the answer: %v", tiers)
	}
	for query, want := range map[string]string{`{"cdn":"a"}`: `"failing":false,"failing_parts":["us"]`, `{"cdn":"a","region":"us"}`: `"failing":true,"failing_in":"region"`, `{"cdn":"a","region":"eu"}`: `"failing":false,"in_doubt"`} {
		m, err := b.Conn.Request(schemas.SubjectRouterHealth, []byte(query), 30*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(m.Data) || !strings.Contains(string(m.Data), want) {
			t.Errorf("health of %s: %s, want %s", query, m.Data, want)
		}
	}
}
