package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	chgo "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/testenv/bench/telemetry"
	"github.com/spillway-live/spillway/testenv/child"
	"github.com/spillway-live/spillway/testenv/clickhouse"
)

type benchTelemetryFlags struct {
	measureFlags
	rate     int
	perPost  int
	sessions int
	conns    int
	window   time.Duration
	compare  bool
	explain  bool
	profile  profileFlag

	openSessions  int
	reportEvery   time.Duration
	snapshotEvery time.Duration
}

func (f *benchTelemetryFlags) register(fs *flag.FlagSet) {
	fs.IntVar(&f.rate, "rate", 80_000, "events a second")
	fs.IntVar(&f.perPost, "per-post", 20, "events of a POST")
	fs.IntVar(&f.sessions, "sessions", 40_000, "playback sessions, which post in turn")
	fs.IntVar(&f.conns, "connections", 1000, "connections to the collector")
	fs.DurationVar(&f.window, "window", time.Minute, "how long the load lasts")
	fs.BoolVar(&f.compare, "compare", true, "send the same rows to ClickHouse as JSONEachRow, too")
	fs.BoolVar(&f.explain, "explain", false, "tell where ClickHouse's CPU time goes, by its own logs, which cost some themselves")
	fs.IntVar(&f.openSessions, "open-sessions", 0, "`N` sessions held open by one sessioniser, which is killed: measure that and its takeover instead")
	fs.DurationVar(&f.reportEvery, "report-every", 30*time.Second, "with --open-sessions, time between two reports of a session")
	fs.DurationVar(&f.snapshotEvery, "snapshot-every", 30*time.Second, "with --open-sessions, time between snapshots")
	f.profile.register(fs)
	f.measureFlags.register(fs, "bus and ClickHouse")
}

func (c *commands) benchTelemetry() *ffcli.Command {
	var f benchTelemetryFlags
	return c.command("bench telemetry", "", "CPU of a telemetry event from POST to roll-up, and how long that takes, as JSON", 0, f.register, func(ctx ctx, _ []string) error {
		return c.runBenchTelemetry(ctx, &f)
	})
}

func (c *commands) runBenchTelemetry(ctx ctx, f *benchTelemetryFlags) error {
	logger, err := f.logger(c.stderr)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(f.temp, "spillway-bench-telemetry-")
	if err != nil {
		return fmt.Errorf("make its directory: %w", err)
	}
	defer os.RemoveAll(dir)
	if f.openSessions != 0 {
		return c.benchOpenSessions(ctx, f, dir, logger)
	}
	ch, err := clickhouse.Start(ctx, clickhouse.Options{DataDir: filepath.Join(dir, "clickhouse"), QueryLog: f.explain, Logger: logger, Progress: c.stderr})
	if err != nil {
		return err
	}
	defer func() {
		stop, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = ch.Stop(stop)
	}()
	data := filepath.Join(dir, "data")
	sec, err := loadSecrets(data)
	if err != nil {
		return err
	}
	signer, err := sec.signer()
	if err != nil {
		return err
	}
	srv, err := startTelemetryServer(ctx, f, data, "--only", "collector,sessioniser,loader", "--clickhouse", ch.NativeURL(clickhouse.Admin))
	if err != nil {
		return err
	}
	defer srv.process.Stop(15 * time.Second)
	if srv.ready.Collector == "" {
		return errors.New("start the servers: their line of JSON lacks the collector")
	}
	o, err := chgo.ParseDSN(ch.NativeURL(clickhouse.Admin))
	if err != nil {
		return err
	}
	conn, err := chgo.Open(o)
	if err != nil {
		return err
	}
	defer conn.Close()
	s := telemetry.Settings{
		CollectorURL: srv.ready.Collector, Sign: signer.SignSession, ClickHouse: conn,
		ServerPID: srv.process.PID(), ClickHousePID: ch.PID(),
		EventsPerSecond: f.rate, PerPost: f.perPost, Sessions: f.sessions, Conns: f.conns, Window: f.window, Explain: f.explain, Logger: logger,
	}
	if f.compare {
		s.ClickHouseHTTP = ch.HTTPURL(clickhouse.Admin)
	}
	rep, err := telemetry.Run(ctx, s)
	if rep != nil {
		err = errors.Join(err, c.printJSON(rep))
	}
	if err != nil {
		return fmt.Errorf("%w; the servers said: %s", err, strings.TrimSpace(srv.output.String()))
	}
	return nil
}

// telemetryServer is a "spillway up" with some roles alone.
type telemetryServer struct {
	process *child.Process
	output  *child.Tail
	ready   runFile
}

func startTelemetryServer(ctx ctx, f *benchTelemetryFlags, data string, more ...string) (*telemetryServer, error) {
	binary, err := thisProgram()
	if err != nil {
		return nil, err
	}
	args := append([]string{"up", "--no-demo", "--data", data, "--json", "--log-level", "warn"}, more...)
	for _, port := range []string{"rtmp", "console", "router", "collector", "origin", "nats-port"} {
		args = append(args, "--"+port, "0")
	}
	if f.profile.path != "" {
		args = append(args, "--cpuprofile", f.profile.path)
	}
	cmd := exec.Command(binary, args...)
	cmd.Env = child.Environ("SPILLWAY_") // the caller's own settings must not reach it
	s := &telemetryServer{output: &child.Tail{}}
	cmd.Stderr = s.output
	if s.process, err = child.StartJSON(ctx, cmd, &s.ready, time.Minute); err != nil {
		return nil, err
	}
	return s, nil
}
