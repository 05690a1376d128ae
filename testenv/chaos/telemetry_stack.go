package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	chgo "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	schemach "github.com/spillway-live/spillway/schemas/clickhouse"
	"github.com/spillway-live/spillway/testenv/clickhouse"
)

// place is what can be killed and started again: a process of the program, or ClickHouse.
type place interface {
	label() string
	kill() (time.Time, error)
	start(ctx context.Context) error
	runs() bool
	// ended says why it is gone without having been killed.
	ended() error
}

func (p *process) label() string { return p.name }

func (p *process) ended() error {
	if p.died() {
		return fmt.Errorf("%s ended by itself: %w", p.name, p.proc.Err())
	}
	return nil
}

// database is ClickHouse as a place.
type database struct {
	mu    sync.Mutex
	srv   *clickhouse.Server
	ready bool
}

func (d *database) label() string { return ClickHouse }

func (d *database) kill() (time.Time, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ready = false
	at := time.Now()
	return at, d.srv.Kill()
}

func (d *database) start(ctx context.Context) error {
	next, err := d.srv.Restart(ctx)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.srv, d.ready = next, true
	return nil
}

func (d *database) runs() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ready
}

func (d *database) ended() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.ready {
		return nil
	}
	select {
	case <-d.srv.Done():
		return fmt.Errorf("ClickHouse ended by itself: %w", d.srv.Err())
	default:
		return nil
	}
}

// signal sends to the server while it runs.
func (d *database) signal(sig syscall.Signal) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ready {
		_ = syscall.Kill(d.srv.PID(), sig) // it may have ended just now
	}
}

// telemetryStack is all that telemetry goes through.
type telemetryStack struct {
	stack
	db   database
	conn driver.Conn
}

func (s *telemetryStack) start(ctx context.Context, c *TelemetrySettings) error {
	s.prepare(c.Dir)
	data := filepath.Join(c.Dir, "data")
	srv, err := clickhouse.Start(ctx, clickhouse.Options{DataDir: filepath.Join(c.Dir, "clickhouse"), Logger: c.Logger, MemoryLimitBytes: 2 << 30})
	if err != nil {
		return err
	}
	s.db.srv, s.db.ready = srv, true
	o, err := chgo.ParseDSN(srv.NativeURL(clickhouse.Admin))
	if err != nil {
		return err
	}
	o.ReadTimeout = time.Minute
	if s.conn, err = chgo.Open(o); err != nil {
		return err
	}
	if err := schemach.Migrate(ctx, s.conn, schemach.Options{Logger: c.Logger}); err != nil {
		return err
	}
	ports, err := freePorts(c.Collectors + 1)
	if err != nil {
		return err
	}
	_, busPort, _ := strings.Cut(ports[0], ":")
	if err := copySecrets(c.SecretsFile, data); err != nil {
		return err
	}
	s.bus = s.process(c.Binary, Bus, "up", nil, data, "--no-demo", "--json", "--only", "router",
		"--console", "0", "--rtmp", "0", "--router", "0", "--nats-port", busPort)
	if err := s.bus.start(ctx); err != nil {
		return err
	}
	var ready struct{ NATS string }
	b, err := os.ReadFile(filepath.Join(data, "run.json"))
	if err == nil {
		err = json.Unmarshal(b, &ready)
	}
	if err != nil {
		return fmt.Errorf("read where the bus is: %w", err)
	}
	s.nats = ready.NATS
	for i := range c.Collectors {
		name := fmt.Sprintf("%s-%d", Collector, i+1)
		own := filepath.Join(c.Dir, name) // its spool
		if err := copySecrets(c.SecretsFile, own); err != nil {
			return err
		}
		p := s.process(c.Binary, name, Collector, []string{"--nats", s.nats, "--listen", ports[1+i]}, own)
		p.addr = ports[1+i]
		s.all = append(s.all, p)
	}
	for i := range c.Sessionisers {
		s.all = append(s.all, s.process(c.Binary, fmt.Sprintf("%s-%d", Sessioniser, i+1), Sessioniser, []string{"--nats", s.nats}, data))
	}
	for i := range c.Loaders {
		s.all = append(s.all, s.process(c.Binary, fmt.Sprintf("%s-%d", Loader, i+1), Loader,
			[]string{"--nats", s.nats, "--clickhouse", srv.NativeURL(clickhouse.Writer)}, data))
	}
	for _, p := range s.all {
		if err := p.start(ctx); err != nil {
			return err
		}
	}
	return nil
}

func copySecrets(file, dir string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "secrets.json"), b, 0o600)
}

func (s *telemetryStack) collectorURLs() []string {
	var out []string
	for _, p := range s.of(Collector) {
		out = append(out, "http://"+p.addr)
	}
	return out
}

// places are those of a role, or all.
func (s *telemetryStack) places(role string) []place {
	var out []place
	for _, p := range s.all {
		if p.role == role || role == "" {
			out = append(out, p)
		}
	}
	if role == Bus || role == "" {
		out = append(out, s.bus)
	}
	if role == ClickHouse || role == "" {
		out = append(out, &s.db)
	}
	return out
}

func (s *telemetryStack) stop() {
	if s.conn != nil {
		_ = s.conn.Close()
	}
	s.stack.stop()
	if s.db.srv != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		s.db.signal(syscall.SIGCONT)
		_ = s.db.srv.Stop(ctx)
	}
}
