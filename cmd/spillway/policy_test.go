package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/policy"
)

func TestPolicyCommands(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	file := func(name, text string) string {
		p := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	good := file("good.json", `{"name":"mine","kind":"expression","score":"-harm - price_usd_per_gb","explore":0.01}`)
	if out := c.ok("policy", "set", good); !strings.Contains(out, "version 1 ") {
		t.Error(out)
	}
	if out := c.ok("policy", "set", good); !strings.Contains(out, "version 2 ") {
		t.Error(out)
	}
	var p schemas.Policy
	if err := json.Unmarshal([]byte(c.ok("policy", "show", "mine")), &p); err != nil || p.Version != 2 || p.Explore != 0.01 {
		t.Errorf("%+v, %v", p, err)
	}
	if out := c.ok("policy", "list"); !strings.Contains(out, "score: -harm - price_usd_per_gb; explore: 0.01") || !strings.Contains(out, "quality") {
		t.Error(out)
	}
	c.refused("1:7", "policy", "set", file("bad.json", `{"name":"mine","kind":"expression","score":"harm +* 2.0"}`))
	c.refused("unknown field", "policy", "set", file("unknown.json", `{"name":"mine","kind":"quality","colour":"blue"}`))
	c.refused("explore", "policy", "set", file("range.json", `{"name":"mine","kind":"quality","explore":2}`))
	c.refused("there are: mine", "policy", "show", "other")
	c.ok("app", "set", "live", "--policy", "mine")
	if out := c.ok("app", "show", "live"); !strings.Contains(out, "--policy mine") {
		t.Error(out)
	}
	c.ok("policy", "remove", "mine")
	if out := c.ok("policy", "history", "mine"); strings.Count(out, "expression") != 2 || !strings.Contains(out, "removed") {
		t.Error(out)
	}
	c.refused("there is no policy", "policy", "remove", "mine")
	if out := c.ok("policy", "show", "quality"); !strings.Contains(out, `"kind": "quality"`) {
		t.Error(out)
	}
}

func TestCDNMoneyAndPlaces(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.ok("cdn", "set", "a", "--url", "http://a.example", "--price", "0.03", "--price-tiers", "100:0.02,1000:0.005", "--commit-gb", "50",
		"--strong-in", "eu,us/comcast", "--region-capacity", "eu=1000/10Gbps,us=/2Gbps", "--stream-viewers", "500")
	out := c.ok("cdn", "show", "a")
	var d schemas.CDN
	if err := json.Unmarshal([]byte(out), &d); err != nil {
		t.Fatal(err)
	}
	if len(d.PriceTiers) != 2 || d.PriceTiers[1] != (schemas.PriceTier{FromGB: 1000, PerGBMicroUSD: 5000}) || d.CommitGB != 50 || d.StreamViewers != 500 ||
		strings.Join(d.StrongIn, " ") != "eu us/comcast" || d.RegionCapacity["eu"] != (schemas.Capacity{Viewers: 1000, Bps: 10e9}) || d.RegionCapacity["us"] != (schemas.Capacity{Bps: 2e9}) {
		t.Errorf("%s", out)
	}
	c.refused("stream_viewers", "cdn", "set", "a", "--stream-viewers", "-1")
	c.refused("price_tiers[1]", "cdn", "set", "a", "--price-tiers", "100:0.02,50:0.01")
	c.refused("--price-tiers", "cdn", "set", "a", "--price-tiers", "cheap")
	c.refused("--region-capacity", "cdn", "set", "a", "--region-capacity", "eu")
	c.ok("cdn", "set", "a", "--price-tiers", "", "--strong-in", "", "--region-capacity", "")
	if err := json.Unmarshal([]byte(c.ok("cdn", "show", "a")), &d); err != nil {
		t.Fatal(err)
	}
	var clean schemas.CDN
	if err := json.Unmarshal([]byte(c.ok("cdn", "show", "a")), &clean); err != nil || clean.PriceTiers != nil || clean.StrongIn != nil || clean.RegionCapacity != nil || clean.CommitGB != 50 {
		t.Errorf("%+v, %v", clean, err)
	}
}

// TestDocumentedPolicy keeps the example in docs/routing.md one that is accepted.
func TestDocumentedPolicy(t *testing.T) {
	text, err := os.ReadFile("../../docs/routing.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, ok := strings.Cut(string(text), "```json\n")
	example, _, ok2 := strings.Cut(example, "```")
	if !ok || !ok2 {
		t.Fatal("docs/routing.md has no example")
	}
	if _, err := policy.Value("evening", []byte(example)); err != nil {
		t.Error(err)
	}
}
