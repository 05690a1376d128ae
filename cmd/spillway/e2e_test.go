package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spillway-live/spillway/testenv/child"
	"github.com/spillway-live/spillway/testenv/need"
	"github.com/spillway-live/spillway/testenv/peers/procstat"
)

// The tests in the files e2e_* run the real program as its own processes, with
// the real NATS, ClickHouse, ffmpeg and Chromium behind it. Mostly they wait, so they run side by side
// (t.Parallel), but for those in which a machine that is busy for a second would show: these run first and alone.

// stopPromise: "Ctrl-C stops everything within five seconds".
const stopPromise = 5 * time.Second

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := binaryDir(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

var (
	binaryDir = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "spillway-e2e-") })
	// binary builds the program once for all tests. Not with -race: fifteen viewers, an encoder and a browser
	// share a small machine with it, and the packages' own tests run with -race.
	binary = sync.OnceValues(func() (string, error) {
		dir, err := binaryDir()
		if err != nil {
			return "", err
		}
		bin := filepath.Join(dir, "spillway")
		if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build: %w: %s", err, out)
		}
		return bin, nil
	})
)

// output collects what a process writes.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// program is a spillway process of a test.
type program struct {
	t        *testing.T
	name     string
	proc     *child.Process
	cmd      *exec.Cmd
	out, log output
}

// environment is that of a user of its own: its cache holds nothing but the
// ClickHouse library, so that "the last spillway up of this user" is the test's.
func environment(t *testing.T) []string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	mine := t.TempDir()
	for _, name := range []string{"clickhouse"} {
		real := filepath.Join(cache, "spillway", name)
		if err := os.MkdirAll(real, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(mine, "spillway"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(real, filepath.Join(mine, "spillway", name)); err != nil {
			t.Fatal(err)
		}
	}
	return append(os.Environ(), "XDG_CACHE_HOME="+mine, "XDG_DATA_HOME="+mine)
}

// launch starts "spillway args..."; it is stopped with the test.
func launch(t *testing.T, env []string, args ...string) *program {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, name: args[0]}
	p.cmd = exec.Command(bin, args...)
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = env, &p.out, &p.log
	if p.proc, err = child.Start(p.cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.proc.Stop(10 * time.Second)
		if t.Failed() {
			t.Logf("spillway %s: end of its log:\n%s", strings.Join(args, " "), tail(p.log.String(), 8000))
		}
	})
	return p
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// command runs "spillway args..." to its end and gives exit code and output.
func command(t *testing.T, env []string, stdin io.Reader, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	var out, log output
	cmd := exec.Command(bin, args...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, stdin, &out, &log
	p, err := child.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Done():
	case <-time.After(3 * time.Minute): // a run of chaos beside three other whole programs takes more than one
		p.Stop(time.Second)
		t.Fatalf("spillway %s does not end; it said: %s%s", strings.Join(args, " "), out.String(), log.String())
	}
	return cmd.ProcessState.ExitCode(), out.String(), log.String()
}

// waitLog waits until the log has a match and gives its last group.
func (p *program) waitLog(pattern string) string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	var m []string
	within(p.t, time.Minute, "the log of "+p.name+" says "+pattern, func() error {
		if m = re.FindStringSubmatch(p.log.String()); m != nil {
			return nil
		}
		p.alive()
		return errors.New("it does not")
	})
	return m[len(m)-1]
}

// alive fails the test when the process has ended.
func (p *program) alive() {
	p.t.Helper()
	select {
	case <-p.proc.Done():
		p.t.Fatalf("spillway %s ended: %v\n%s", p.name, p.proc.Err(), tail(p.log.String(), 4000))
	default:
	}
}

// kill ends the process as a crash does.
func (p *program) kill() {
	p.t.Helper()
	if err := syscall.Kill(p.proc.PID(), syscall.SIGKILL); err != nil {
		p.t.Fatal(err)
	}
	<-p.proc.Done()
}

// descendants are the processes under p.
func (p *program) descendants() []int {
	p.t.Helper()
	pids, err := procstat.Descendants(p.proc.PID())
	if err != nil {
		p.t.Fatal(err)
	}
	return pids
}

// interrupt presses Ctrl-C and checks what it promises: exit 0 within five
// seconds, and nothing left behind.
func (p *program) interrupt() {
	p.t.Helper()
	p.alive()
	below := p.descendants()
	began := time.Now()
	if err := syscall.Kill(p.proc.PID(), syscall.SIGINT); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.proc.Done():
	case <-time.After(20 * time.Second):
		p.t.Fatalf("spillway %s runs on 20 s after Ctrl-C", p.name)
	}
	took := time.Since(began)
	p.t.Logf("spillway %s stopped in %s", p.name, took.Round(time.Millisecond))
	if took > stopPromise {
		p.t.Errorf("spillway %s stopped %s after Ctrl-C, not within %s", p.name, took.Round(time.Millisecond), stopPromise)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		p.t.Errorf("spillway %s: exit code %d after Ctrl-C", p.name, code)
	}
	if left := stillRunning(below); len(left) > 0 {
		p.t.Errorf("spillway %s leaves processes behind: %v", p.name, left)
	}
}

// stillRunning gives those of pids that run, zombies left out.
func stillRunning(pids []int) []string {
	var left []string
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		_, after, _ := strings.Cut(string(stat), ") ")
		if strings.HasPrefix(after, "Z") || strings.HasPrefix(after, "X") {
			continue
		}
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		left = append(left, fmt.Sprintf("%d (%s)", pid, bytes.TrimSpace(name)))
	}
	return left
}

// within polls until ok gives nil.
func within(t testing.TB, limit time.Duration, what string, ok func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s: %v", limit, what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// upProgram is a running "spillway up".
type upProgram struct {
	*program
	runFile
	dir string
	env []string
}

// up starts "spillway up" on free ports and waits until it is ready.
func up(t *testing.T, env []string, dir string, args ...string) *upProgram {
	t.Helper()
	need.Program(t, "ffmpeg")
	u := &upProgram{dir: dir, env: env}
	u.program = launch(t, env, append([]string{"up", "--json", "--data", dir, "--rtmp", "0", "--console", "0"}, args...)...)
	// The first start on a machine fetches ClickHouse.
	within(t, 5*time.Minute, "spillway up is ready", func() error {
		line, _, ready := strings.Cut(u.out.String(), "\n")
		if ready {
			return json.Unmarshal([]byte(line), &u.runFile)
		}
		select {
		case <-u.proc.Done():
			if strings.Contains(u.log.String(), "cannot run on this machine") {
				need.Missing(t, "%s", tail(u.log.String(), 1000))
			}
		default:
		}
		u.alive()
		return errors.New("no line yet")
	})
	return u
}

// rows asks ClickHouse as the analyst.
func rows[T any](t testing.TB, clickhouse, sql string, args ...any) []T {
	t.Helper()
	out, err := tryRows[T](clickhouse, sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func tryRows[T any](clickhouse, sql string, args ...any) ([]T, error) {
	sql = fmt.Sprintf(sql, args...)
	c := http.Client{Timeout: 20 * time.Second}
	resp, err := c.Post(clickhouse, "text/plain", strings.NewReader(sql+"\nFORMAT JSONEachRow"))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s: %s", sql, resp.Status, body)
	}
	var out []T
	for d := json.NewDecoder(bytes.NewReader(body)); ; {
		var row T
		if err := d.Decode(&row); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", sql, err)
		}
		out = append(out, row)
	}
}

// httpGet gives status and body.
func httpGet(u string) (int, string, error) {
	c := http.Client{Timeout: 15 * time.Second}
	resp, err := c.Get(u)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}
