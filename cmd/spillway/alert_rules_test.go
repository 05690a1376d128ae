package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAlertRulesReachGrafana: what "alert set" changes is in the rules that "dashboards export" writes, unless the
// rules as they come are asked for; rules of others can be changed, unknown ones cannot.
func TestAlertRulesReachGrafana(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.ok("alert", "set", "cdn_stalls", "--threshold", "0.2", "--for", "70s")
	c.ok("alert", "set", "raised-review-nudity", "--webhook", "https://hooks.example/secret")
	c.refused("raised-NAME", "alert", "set", "nothing")
	c.refused("raises alerts", "alert", "set", "raised-a b")
	if out := c.ok("alert", "rules"); !strings.Contains(out, "raised-review-nudity") || !strings.Contains(out, "https://hooks.example/") || strings.Contains(out, "secret") {
		t.Errorf("the rules as they hold: %s", out)
	}
	export := func(args ...string) string {
		dir := t.TempDir()
		c.ok(append([]string{"dashboards", "export", dir}, args...)...)
		b, err := os.ReadFile(filepath.Join(dir, "provisioning", "alerting", "spillway.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if held := export(); !strings.Contains(held, ">= 0.2 AND") || !strings.Contains(held, `"70s"`) {
		t.Errorf("the exported rules are not those of the bus: %s", held)
	}
	if asTheyCome := export("--default-rules"); strings.Contains(asTheyCome, ">= 0.2 AND") || strings.Contains(asTheyCome, `"70s"`) {
		t.Error("the rules as they come are asked for, and those of the bus written")
	}
}
