package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/peterbourgon/ff/v3/ffcli"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/testenv/bus"
	"github.com/spillway-live/spillway/testenv/clickhouse"
	"github.com/spillway-live/spillway/testenv/edge"
)

const (
	demoApp    = "live"
	demoStream = "demo"
)

func (c *commands) upCommand() *ffcli.Command {
	var f upFlags
	return c.command("up", "", "run everything on this machine, with a demo stream and viewers", 0, f.register, func(ctx ctx, _ []string) error {
		return c.up(ctx, &f)
	})
}

// stopDeadline bounds the way down; "Ctrl-C stops everything within five seconds".
const stopDeadline = 4500 * time.Millisecond

// system is what "spillway up" has running.
type system struct {
	c      *commands
	f      *upFlags
	d      *deps
	g      *group
	logger *slog.Logger
	run    runFile
	nc     *nats.Conn
	reg    *prometheus.Registry
	edges  []*edge.Edge
	ingest *ingestServers // nil when it does not run here
	ch     *clickhouse.Server
	bus    *bus.Server // nil where it is another's
	region *regionFile // nil: this is not one of several
}

func (c *commands) up(ctx ctx, f *upFlags) (err error) {
	logger, err := f.logger(c.stderr)
	if err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	tuneMemory()
	if slices.ContainsFunc(roomyRoles, f.runs) {
		go keepHeadroom(ctx)
	}
	dir := f.dataDir()
	release, err := lockDataDir(dir)
	if err != nil {
		return err
	}
	defer release()
	stopProfile, err := startCPUProfile(f.profile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopProfile()) }()
	if err := checkFFmpeg(f); err != nil {
		return err
	}
	s := &system{c: c, f: f, logger: logger, g: newGroup(logger, stopDeadline), reg: prometheus.NewRegistry()}
	s.run.PID = os.Getpid()
	defer func() { err = errors.Join(err, s.g.stop()) }()
	if err := s.start(ctx, dir); err != nil {
		if ctx.Err() != nil {
			return nil // stopped while starting
		}
		return err
	}
	return s.serve(ctx, dir)
}

// serve says where everything is and waits for the end.
func (s *system) serve(ctx ctx, dir string) error {
	removeRun, err := writeRun(dir, &s.run)
	if err != nil {
		return err
	}
	defer removeRun()
	if err := s.announce(ctx); err != nil {
		return err
	}
	return s.g.wait(ctx)
}

// checkFFmpeg refuses to start a demo that could publish nothing. Screenshots
// and renditions say themselves that they cannot be made.
func checkFFmpeg(f *upFlags) error {
	if f.noDemo || f.only != "" {
		return nil
	}
	if _, err := exec.LookPath("ffmpeg"); err == nil {
		return nil
	}
	return errors.New("ffmpeg is not installed, and the demo publisher needs it: install it (apt-get install ffmpeg), or run with --no-demo")
}

// step starts the parts of the system that one or more roles need.
type step struct {
	roles []string // what --only calls it; the step is taken when one of them is wanted
	start func(s *system, ctx ctx) error
}

// upSteps are the parts of "spillway up", behind the bus, in the order in which
// they start. They stop in reverse, so nothing that was accepted is lost on the
// way down.
func upSteps() []step {
	return []step{
		{[]string{"loader", "sessioniser", "usage", "experimenter", "alerts"}, (*system).startAnalytics},
		{[]string{"collector"}, (*system).startCollector},
		{[]string{"ingest"}, (*system).startIngest},
		{[]string{"puller"}, (*system).startPuller},
		{[]string{"packager"}, (*system).startPackager},
		{[]string{"recorder"}, (*system).startRecorder},
		{[]string{"transcoder"}, (*system).startTranscoder},
		{[]string{"origin"}, (*system).startOrigin},
		{[]string{"router"}, (*system).startRouter},
		{[]string{"push"}, (*system).startPush},
		{[]string{"screenshot"}, (*system).startScreenshot},
		{[]string{"hotlist"}, (*system).startHotList},
		{[]string{"reviewer"}, (*system).startReviewer},
		{[]string{"console"}, (*system).startConsole},
		{[]string{"alerts"}, (*system).startAlerts},
		{[]string{"edge"}, (*system).startEdges},
		{[]string{"relay"}, (*system).startRelay},
		{[]string{"probe"}, (*system).startProbe},
		{[]string{"demo"}, (*system).startDemo},
	}
}

// start brings the parts up in order.
func (s *system) start(ctx ctx, dir string) error {
	if err := s.openDeps(dir); err != nil {
		return err
	}
	if err := s.startBus(ctx, dir); err != nil {
		return err
	}
	if !s.f.noDemo {
		if err := s.ensureDemoExperiment(ctx); err != nil {
			return err
		}
	}
	for _, step := range upSteps() {
		if !slices.ContainsFunc(step.roles, s.f.runs) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := step.start(s, ctx); err != nil {
			return err
		}
	}
	return nil
}

// openDeps reads what every role is built from, the bus apart, out of the data directory.
func (s *system) openDeps(dir string) error {
	sec, err := loadSecrets(dir)
	if err != nil {
		return err
	}
	if replaced, err := renewSalts(dir, sec, time.Now()); err != nil {
		return err
	} else if replaced {
		s.logger.Info("viewer ids are hashed with a new salt from now on; the old one is kept for erasing", "old_salts", len(sec.OldViewerSalts))
	}
	signer, err := sec.signer()
	if err != nil {
		return err
	}
	places, err := s.openGeo(dir)
	if err != nil {
		return err
	}
	s.d = &deps{logger: s.logger, reg: s.reg, secrets: sec, signer: signer, geo: places, dataDir: dir}
	return nil
}

func (s *system) add(r role) { s.g.start(r.name, r.run) }

// waitFor blocks until a part that was just started says that it serves.
func (s *system) waitFor(ctx ctx, what string, ready <-chan struct{}) error {
	select {
	case <-ready:
		return nil
	case <-time.After(20 * time.Second):
		return fmt.Errorf("%s is not ready after 20 s", what)
	case <-ctx.Done():
		return ctx.Err()
	}
}
