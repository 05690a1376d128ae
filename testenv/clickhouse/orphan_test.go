//go:build linux

package clickhouse_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/clickhouse"
	"github.com/spillway-live/spillway/testenv/clickhouse/clickhousetest"
	"github.com/spillway-live/spillway/testenv/need"
)

// embedder is a running program that hosts a server with its own executable.
type embedder struct {
	cmd *exec.Cmd
	pid int    // the server's
	url string // the server's, for its administrator
}

// buildEmbedder compiles testdata/parent, with or without cgo: the library is loaded differently.
func buildEmbedder(t *testing.T, cgo bool) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "parent")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, "./testdata/parent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if cgo {
		cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return path
}

func runEmbedder(t *testing.T, executable, dataDir string) embedder {
	t.Helper()
	cmd := exec.Command(executable, dataDir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	var line struct {
		PID int
		URL string
	}
	if err := json.NewDecoder(out).Decode(&line); err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	return embedder{cmd, line.PID, line.URL}
}

func TestKilledParentLeavesNoOrphan(t *testing.T) {
	t.Parallel()
	for name, cgo := range map[string]bool{"with cgo": true, "without cgo": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if cgo {
				need.Program(t, "gcc")
			}
			dataDir := t.TempDir()
			e := runEmbedder(t, buildEmbedder(t, cgo), dataDir)
			for _, sql := range []string{"CREATE TABLE t (id UInt64) ENGINE = MergeTree ORDER BY id", "INSERT INTO t VALUES (1), (2)"} {
				if code, answer := post(t, e.url, sql); code != http.StatusOK {
					t.Fatalf("%s: %d %s", sql, code, answer)
				}
			}
			if err := e.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			killed := time.Now()
			// At once, while the orphan is still on its way out: the next server waits for it, then has all data.
			s := clickhousetest.StartOptions(t, clickhouse.Options{DataDir: dataDir})
			t.Logf("restarted %s after the parent's end", time.Since(killed).Round(time.Millisecond))
			if alive(e.pid) {
				t.Errorf("the orphan, process %d, lives on", e.pid)
			}
			if n := number(t, connect(t, s, clickhouse.Analyst), "SELECT count() FROM t"); n != 2 {
				t.Errorf("%d rows, want 2", n)
			}
		})
	}
}

// A launcher must also end when its parent dies before ClickHouse is up, or in the middle of a query.
func TestKilledParentWithABusyServer(t *testing.T) {
	t.Parallel()
	e := runEmbedder(t, buildEmbedder(t, false), t.TempDir())
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		req, err := http.NewRequest(http.MethodPost, e.url+"?query=SELECT+count()+FROM+numbers(1000000000000)+WHERE+NOT+ignore(number)", nil)
		if err != nil {
			t.Error(err)
			return
		}
		if code, _ := do(t, req); code == http.StatusOK {
			t.Error("the endless query ended by itself")
		}
	}()
	await.True(t, "the query runs", func() bool {
		_, n := post(t, e.url, "SELECT count() FROM system.processes")
		return n == "2"
	})
	if err := e.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	await.True(t, "the orphan's end", func() bool { return !alive(e.pid) })
	<-answered
}

// A program that does not know the hidden subcommand must not start itself for ever.
func TestEmbedderWithoutLauncher(t *testing.T) {
	t.Parallel()
	_, err := clickhouse.Start(t.Context(), clickhouse.Options{DataDir: t.TempDir(), LauncherCommand: []string{buildEmbedder(t, false)}})
	if err == nil || !strings.Contains(err.Error(), "does not call clickhouse.RunLauncher") {
		t.Errorf("error = %v; want one that names what is missing", err)
	}
}

// alive reports whether a process exists and is more than a corpse its parent has yet to collect.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return false
	}
	_, after, _ := bytes.Cut(b, []byte(") "))
	return len(after) > 0 && after[0] != 'Z'
}
