package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spillway-live/spillway/schemas/nap"
	"github.com/spillway-live/spillway/testenv/child"
)

// Roles whose processes are killed.
const (
	Ingest     = "ingest"
	Packager   = "packager"
	Origin     = "origin"
	Transcoder = "transcoder"
)

// process is one place in the stack: killed and started again, it keeps its name and address.
type process struct {
	name, role string
	args       []string
	plain      []string // args without what is changed between two starts
	addr       string   // host:port it listens on; empty for none
	env        []string
	binary     string
	logFile    string

	mu      sync.Mutex
	proc    *child.Process
	ready   bool
	killed  time.Time // last
	started time.Time // last time it was ready
}

// stack is all processes.
type stack struct {
	bus   *process
	edge  *process
	all   []*process // those that may be killed
	nats  string
	multi string // base URL of the edge
	env   []string
	dir   string
}

func (p *process) start(ctx context.Context) error {
	deadline := time.Now().Add(startWait)
	for {
		err := p.try(ctx)
		if err == nil || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
		_ = nap.For(ctx, 200*time.Millisecond) // its port may be taken for a moment
	}
}

func (p *process) try(ctx context.Context) error {
	f, err := os.OpenFile(p.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	at, err := f.Seek(0, 2)
	if err != nil {
		return err
	}
	cmd := exec.Command(p.binary, p.args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = p.env, f, f
	proc, err := child.Start(cmd)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.proc = proc
	p.mu.Unlock()
	for deadline := time.Now().Add(startWait); ; {
		b, err := os.ReadFile(p.logFile)
		if err != nil {
			return err
		}
		if text := string(b[at:]); strings.Contains(text, `msg="role runs"`) || strings.HasPrefix(text, "{") || strings.Contains(text, "\n{") {
			p.mu.Lock()
			p.ready, p.started = true, time.Now()
			p.mu.Unlock()
			return nil
		}
		select {
		case <-proc.Done():
			return fmt.Errorf("%s ended: %w: %s", p.name, proc.Err(), tail(string(b[at:]), 500))
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not run after %s: %s", p.name, startWait, tail(string(b[at:]), 500))
		}
	}
}

// kill ends it as a crash does and gives the moment.
func (p *process) kill() (time.Time, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ready, p.killed = false, time.Now()
	if err := syscall.Kill(p.proc.PID(), syscall.SIGKILL); err != nil {
		return p.killed, fmt.Errorf("kill %s: %w", p.name, err)
	}
	<-p.proc.Done()
	return p.killed, nil
}

// runs says whether it is ready now, and was all the time since t.
func (p *process) runs() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ready
}

func (p *process) runsSince(t time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ready && p.started.Before(t)
}

// died tells a process that ended by itself.
func (p *process) died() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ready {
		return false
	}
	select {
	case <-p.proc.Done():
		return true
	default:
		return false
	}
}

func (s *stack) start(ctx context.Context, c *Settings) error {
	s.prepare(c.Dir)
	data := filepath.Join(c.Dir, "data")
	s.bus = s.process(c.Binary, "bus and router", "up", nil, data, "--no-demo", "--json", "--only", "router", "--console", "0", "--rtmp", "0")
	if err := s.bus.start(ctx); err != nil {
		return err
	}
	var ready struct{ NATS, Router string }
	b, err := os.ReadFile(filepath.Join(data, "run.json"))
	if err == nil {
		err = json.Unmarshal(b, &ready)
	}
	if err != nil {
		return fmt.Errorf("read where the bus is: %w", err)
	}
	s.nats = ready.NATS
	roles := []struct {
		role  string
		n     int
		extra []string
	}{
		{Ingest, c.Ingests, []string{"--open-publish"}},
		{Packager, c.Packagers, nil},
		{Origin, c.Origins, []string{"--parts", "packagers"}},
		{Transcoder, c.Transcoders, []string{"--threads", "1", "--preset", "ultrafast", "--max-streams", fmt.Sprint(max(c.Renditions, 1))}},
	}
	ports, err := freePorts(c.Ingests + c.Origins + 1)
	if err != nil {
		return err
	}
	var origins []string
	for _, r := range roles {
		for i := range r.n {
			extra, addr := r.extra, ""
			if r.role == Ingest || r.role == Origin {
				addr, ports = ports[0], ports[1:]
				extra = append([]string{"--listen", addr}, extra...)
			}
			p := s.process(c.Binary, fmt.Sprintf("%s-%d", r.role, i+1), r.role, extra, data)
			p.addr = addr
			if r.role == Origin {
				origins = append(origins, "http://"+addr)
			}
			s.all = append(s.all, p)
		}
	}
	s.edge = s.process(c.Binary, "edge", "edge", []string{"--name", "a", "--listen", ports[0], "--origins", strings.Join(origins, ","), "--routers", ready.Router}, data)
	s.multi = "http://" + ports[0]
	for _, p := range append(s.all, s.edge) {
		if err := p.start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// prepare makes the environment of every process.
func (s *stack) prepare(dir string) {
	s.dir = dir
	// Settings of the caller's own Spillway must not reach these, nor the other way round.
	s.env = append(child.Environ("SPILLWAY_", "XDG_CACHE_HOME="), "XDG_CACHE_HOME="+filepath.Join(dir, "cache"))
}

func (s *stack) process(binary, name, role string, extra []string, data string, more ...string) *process {
	args := append([]string{role, "--data", data}, append(extra, more...)...)
	return &process{name: name, role: role, args: args, env: s.env, binary: binary,
		logFile: filepath.Join(s.dir, strings.ReplaceAll(name, " ", "-")+".log")}
}

// of gives the processes of a role.
func (s *stack) of(role string) []*process {
	var out []*process
	for _, p := range s.all {
		if p.role == role {
			out = append(out, p)
		}
	}
	return out
}

func (s *stack) each() []*process {
	out := append([]*process{}, s.all...)
	if s.edge != nil {
		out = append(out, s.edge)
	}
	if s.bus != nil {
		out = append(out, s.bus) // last: the others say goodbye to it
	}
	return out
}

func (s *stack) stop() {
	var wg sync.WaitGroup
	all := s.each()
	for i, p := range all {
		if p.proc == nil {
			continue
		}
		if i == len(all)-1 {
			wg.Wait()
		}
		wg.Go(func() { p.proc.Stop(8 * time.Second) })
	}
	wg.Wait()
}

// tails are the ends of all processes' logs.
func (s *stack) tails() string {
	var b strings.Builder
	for _, p := range s.each() {
		text, err := os.ReadFile(p.logFile)
		if err == nil && len(text) > 0 {
			fmt.Fprintf(&b, "--- end of the log of %s\n%s\n", p.name, tail(string(text), 3000))
		}
	}
	return b.String()
}

// freePorts gives addresses of this machine that nobody listens on.
func freePorts(n int) ([]string, error) {
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		out = append(out, l.Addr().String())
	}
	return out, nil
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }
