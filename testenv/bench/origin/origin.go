// Package origin measures what an origin's answers cost and how late they are: parts from memory, a thousand
// players that wait for the same part, and the way of a part from ingest to the first player that gets it.
//
// It promises that the server is another process, fed by real RTMP publishers over a durable bus, that requests
// are real HTTP/1.1 over connections that stay open, that CPU time is the kernel's account of the whole server
// process (what it uses without the load is measured first and said beside it), and that every answer was whole.
// It leaves out judging: on a machine that does other work, times are those of that work too.
package origin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"time"

	"github.com/spillway-live/spillway/schemas/nap"
	"github.com/spillway-live/spillway/testenv/bench"
	"github.com/spillway-live/spillway/testenv/bus"
	"github.com/spillway-live/spillway/testenv/peers/procstat"
	"github.com/spillway-live/spillway/testenv/publisher"
)

// Settings say what to measure.
type Settings struct {
	// Server runs and takes publishers. Required.
	Server bench.OwnServer
	// Clip is the file to publish, FLV with H.264 and AAC. Required.
	Clip string
	// Publishers of the third measurement; 20 when 0. The first two have one.
	Publishers int
	// Players wait for the same part in the second measurement; 1,000 when 0.
	Players int
	// Connections ask for parts in the first measurement, each for one at a time; 16 when 0.
	Connections int
	// Window is how long each measurement lasts; 10 s when 0.
	Window time.Duration
	// Logger is told how far it is; discards when nil.
	Logger *slog.Logger
}

// Check fills in what is left out and refuses what cannot be measured; Server may still be missing.
func (s *Settings) Check() error {
	set := func(p *int, d int) {
		if *p == 0 {
			*p = d
		}
	}
	set(&s.Publishers, 20)
	set(&s.Players, 1000)
	set(&s.Connections, 16)
	if s.Window == 0 {
		s.Window = 10 * time.Second
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	if s.Publishers < 1 || s.Publishers > 1000 || s.Players < 1 || s.Players > 5000 || s.Connections < 1 || s.Connections > 1000 {
		return fmt.Errorf("%d publishers, %d players, %d connections: choose 1 to 1000, 1 to 5000, 1 to 1000", s.Publishers, s.Players, s.Connections)
	}
	if s.Window < time.Second || s.Window > time.Hour {
		return fmt.Errorf("a window of %s: choose 1 s to 1 h", s.Window)
	}
	if _, err := os.Stat(s.Clip); err != nil {
		return fmt.Errorf("clip to publish: %w", err)
	}
	return nil
}

const (
	application  = "live"
	readyTimeout = 60 * time.Second
)

// Run measures. What was measured before an error comes with it.
func Run(ctx context.Context, s Settings) (*Report, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	if s.Server == nil {
		return nil, errors.New("no server to measure")
	}
	u, err := url.Parse(s.Server.OriginURL())
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("origin %q is not a URL", s.Server.OriginURL())
	}
	rep := &Report{Bench: "origin", Began: time.Now().UTC().Truncate(time.Second), Machine: bench.ThisMachine(),
		Version: s.Server.Version(), Seconds: s.Window.Seconds()}
	b := &run{s: s, addr: u.Host, pid: s.Server.PID()}
	err = b.published(ctx, []string{"one"}, func(ctx context.Context, f *follower) error {
		var err error
		if rep.Parts, err = b.parts(ctx, f); err != nil {
			return fmt.Errorf("parts from memory: %w", err)
		}
		if rep.Reloads, err = b.reloads(ctx, f); err != nil {
			return fmt.Errorf("blocking reloads: %w", err)
		}
		return nil
	})
	if err != nil {
		return rep, err
	}
	names := make([]string, s.Publishers)
	for i := range names {
		names[i] = fmt.Sprintf("s%d", i)
	}
	err = b.published(ctx, names, func(ctx context.Context, f *follower) (err error) {
		rep.Delays, err = b.delays(ctx, f)
		return err
	})
	if err != nil {
		return rep, fmt.Errorf("delay of parts: %w", err)
	}
	rep.ServerPeakRSSBytes, err = procstat.PeakRSS(b.pid)
	return rep, err
}

// run is what the measurements have in common.
type run struct {
	s    Settings
	addr string
	pid  int
}

// published runs do while the streams are published and their announcements are listened to.
func (b *run) published(ctx context.Context, names []string, do func(context.Context, *follower) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	nc, err := bus.Connect(b.s.Server.BusURL(), "bench", nil)
	if err != nil {
		return err
	}
	defer nc.Close()
	f, err := follow(nc, names)
	if err != nil {
		return err
	}
	replay := &publisher.Replay{File: b.s.Clip, Logger: b.s.Logger, Sent: f.sent}
	for _, n := range names {
		replay.URLs = append(replay.URLs, b.s.Server.PublishURL(n))
	}
	pushing := make(chan error, 1)
	go func() { pushing <- replay.Run(ctx) }()
	done := make(chan error, 1)
	go func() {
		if err := f.ready(ctx, readyTimeout); err != nil {
			done <- err
			return
		}
		done <- do(ctx, f)
	}()
	select {
	case err = <-done:
		cancel()
		err = errors.Join(err, <-pushing)
	case err = <-pushing:
		cancel()
		<-done
		err = fmt.Errorf("the publishers ended: %w", err)
	case <-b.s.Server.Done():
		cancel()
		<-done
		<-pushing
		err = fmt.Errorf("the server ended: %s", b.s.Server.Output())
	}
	if n := replay.Stats().Interruptions; err == nil && n > 0 {
		err = fmt.Errorf("%d publishers were interrupted: the server says: %s", n, b.s.Server.Output())
	}
	return err
}

// account is what had been used at a moment, CPU seconds.
type account struct {
	at                         time.Time
	server, generator, machine float64
}

func (b *run) account() (a account, err error) {
	u, err := procstat.Tree(b.pid)
	if err != nil {
		return a, fmt.Errorf("read the server's CPU time: %w", err)
	}
	a.server = u.CPUSeconds
	if a.generator, err = procstat.CPUSeconds(os.Getpid()); err != nil {
		return a, err
	}
	a.machine, err = bench.BusyCPUSeconds()
	a.at = time.Now()
	return a, err
}

// used measures what the server uses while do runs.
func (b *run) used(do func() error) (Usage, error) {
	before, err := b.account()
	if err != nil {
		return Usage{}, err
	}
	if err := do(); err != nil {
		return Usage{}, err
	}
	after, err := b.account()
	u := Usage{
		WindowSeconds: after.at.Sub(before.at).Seconds(), ServerCPUSeconds: after.server - before.server,
		GeneratorCPUSeconds: after.generator - before.generator,
	}
	u.OtherCPUSeconds = max(0, after.machine-before.machine-u.ServerCPUSeconds-u.GeneratorCPUSeconds)
	return u, err
}

// idle measures the same window with one request a second, which keeps the stream watched, and no load.
func (b *run) idle(ctx context.Context, f *follower) (float64, error) {
	c, err := dial(ctx, b.addr)
	if err != nil {
		return 0, err
	}
	defer c.close()
	u, err := b.used(func() error {
		for end := time.Now().Add(b.s.Window); time.Now().Before(end); {
			p, _ := f.newest(0, "video")
			if _, err := c.get(f.path(0, p)); err != nil {
				return err
			}
			if err := nap.For(ctx, min(time.Second, time.Until(end))); err != nil {
				return err
			}
		}
		return nil
	})
	return u.ServerCPUSeconds / u.WindowSeconds, err
}
