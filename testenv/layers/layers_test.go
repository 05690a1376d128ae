package layers

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/spillway-live/spillway/"

// pure lists packages without I/O: anyone may import them. Each may itself
// import only schemas, libraries and other pure packages.
var pure = map[string]bool{
	"analytics/alerts/rules":       true,
	"analytics/experiments/assign": true,
	"analytics/hoptrace":           true,
	"analytics/stats":              true,
	"analytics/stats/loghist":      true,
	"analytics/stats/eval":         true,
	"analytics/qoe/session":        true,
	"analytics/sandbox":            true,
	"analytics/sandbox/plot":       true,
	"analytics/sandbox/predict":    true,
	"analytics/sandbox/scenario":   true,
	"analytics/sandbox/validate":   true,
	"dashboards/queries":           true,
	"ingest/beacon":                true, // a script, and how it is served
	"ingest/cmcd":                  true,
	"ingest/cut":                   true,
	"ingest/mpegts":                true,
	"ingest/geo":                   true, // reads one file at start, then only answers from memory
	"workers/archive":              true,
	"workers/cenc":                 true,
	"workers/cmaf":                 true,
	"workers/dash":                 true,
	"workers/hls":                  true,
	"workers/ts":                   true,
	"workers/router/health":        true,
	"workers/router/load":          true,
	"workers/router/policy":        true,
	"workers/router/overflow":      true,
	"workers/router/reach":         true,
	"workers/screenshot/look":      true,
}

// TestImportsPointOneWay keeps the architecture: schemas imports nothing of
// ours; ingest, workers, analytics and dashboards meet at a subject or a table,
// never by import; only cmd/spillway and tests import testenv and everything.
func TestImportsPointOneWay(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v: %s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	seen := map[string]bool{}
	d := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		from := strings.TrimPrefix(p.ImportPath, module)
		seen[from] = true
		for _, imp := range p.Imports {
			to, ours := strings.CutPrefix(imp, module)
			if !ours {
				continue
			}
			if why := forbidden(from, to); why != "" {
				t.Errorf("%s imports %s: %s", from, to, why)
			}
		}
	}
	for p := range pure {
		if !seen[p] {
			t.Errorf("%s is listed as pure and does not exist", p)
		}
	}
}

func forbidden(from, to string) string {
	top := func(p string) string { first, _, _ := strings.Cut(p, "/"); return first }
	switch {
	case top(from) == "cmd":
		return ""
	case top(to) == "cmd":
		return "nothing imports the program"
	case top(from) == "schemas":
		if top(to) != "schemas" {
			return "schemas is the bottom and imports nothing of ours"
		}
		return ""
	case top(to) == "schemas":
		return ""
	case pure[from] && !pure[to]:
		return "a pure package imports only schemas, libraries and pure packages"
	case pure[to]:
		return ""
	case top(to) == "testenv" && top(from) != "testenv" && !forTests(from):
		return "only tests and cmd/spillway use the test environment"
	case top(from) != top(to) && top(from) != "testenv" && !forTests(from):
		return "services meet at a subject or a table, never by import"
	}
	return ""
}

// forTests says whether a package only serves tests: it, or a folder it lies
// in, is named like publishtest.
func forTests(from string) bool {
	for part := range strings.SplitSeq(from, "/") {
		if strings.HasSuffix(part, "test") {
			return true
		}
	}
	return false
}
