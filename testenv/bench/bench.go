// Package bench measures what a live-video server costs and how late it is: it pushes the same RTMP input to
// Spillway and to its peers, in turn, and reports each one's CPU time, memory and live latency.
//
// It promises equal terms: the load generator and the readers are this process, the server is a child process;
// CPU time is the kernel's account of the whole server process tree over a window that begins when everything is
// connected; the order of the servers is reversed every round; what else the machine did in the meantime is
// reported beside each figure. It leaves out judging: ratios of few rounds on a busy machine are noisy, and the
// report holds every single run so that this can be seen.
package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spillway-live/spillway/testenv/peers/procstat"
	"github.com/spillway-live/spillway/testenv/publisher"
)

// Settings say what to measure.
type Settings struct {
	// Clip is the file to publish, FLV with H.264 and AAC (see publisher.Clip). Required.
	Clip string
	// Publishers is the number of streams pushed at once; 20 when 0.
	Publishers int
	// Window is how long CPU time and latency are counted; 30 s when 0.
	Window time.Duration
	// Readers are the numbers of readers per stream to measure with, one after the other; {0} when empty.
	Readers []int
	// Rounds is how often everything is measured; 1 when 0.
	Rounds int
	// Servers in the order of the first round. The first is the one the others are compared with. Required.
	Servers []Starter
	// Logger is told how far it is; discards when nil.
	Logger *slog.Logger
}

const (
	maxPublishers = 1000
	maxReaders    = 50
	// readyTimeout bounds the wait until all publishers are connected and all readers read.
	readyTimeout = 60 * time.Second
	// probeTimeout bounds the check of all streams after the window.
	probeTimeout = 15 * time.Second
	pollEvery    = 10 * time.Millisecond
	// countFor is how long the packager's parts are counted once the window is over, when listening costs nothing
	// that is measured; fewestParts of each track must come, of 15 that are due, on a busy machine.
	countFor    = 3 * time.Second
	fewestParts = 8
)

func (s *Settings) defaults() error {
	set(&s.Publishers, 20)
	set(&s.Window, 30*time.Second)
	set(&s.Rounds, 1)
	if len(s.Readers) == 0 {
		s.Readers = []int{0}
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	if s.Publishers < 1 || s.Publishers > maxPublishers {
		return fmt.Errorf("%d publishers: choose 1 to %d", s.Publishers, maxPublishers)
	}
	if s.Window < time.Second || s.Window > time.Hour {
		return fmt.Errorf("a window of %s: choose 1 s to 1 h", s.Window)
	}
	if s.Rounds < 1 {
		return fmt.Errorf("%d rounds: choose at least one", s.Rounds)
	}
	for _, n := range s.Readers {
		if n < 0 || n > maxReaders {
			return fmt.Errorf("%d readers per stream: choose 0 to %d", n, maxReaders)
		}
	}
	if len(s.Servers) == 0 {
		return errors.New("no server to measure")
	}
	if _, err := os.Stat(s.Clip); err != nil {
		return fmt.Errorf("clip to publish: %w", err)
	}
	return nil
}

func set[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Run measures. The error names the server and round that failed; a report of the runs before it comes with it.
func Run(ctx context.Context, s Settings) (*Report, error) {
	if err := s.defaults(); err != nil {
		return nil, err
	}
	rep := &Report{
		Bench: "media", Began: time.Now().UTC().Truncate(time.Second), Machine: machine(),
		Publishers: s.Publishers, Seconds: s.Window.Seconds(), Rounds: s.Rounds,
	}
	defer rep.sumUp(s.Servers[0].Name)
	for round := range s.Rounds {
		for _, readers := range s.Readers {
			for i := range s.Servers {
				server := s.Servers[i]
				if round%2 == 1 {
					server = s.Servers[len(s.Servers)-1-i]
				}
				if readers > 0 && !server.LowLatency {
					continue
				}
				s.Logger.Info("measuring", "server", server.Name, "round", round+1, "readers_per_stream", readers)
				run, err := s.measure(ctx, server, readers)
				if err != nil {
					return rep, fmt.Errorf("round %d, %s, %d readers per stream: %w", round+1, server.Name, readers, err)
				}
				run.Round = round + 1
				rep.Runs = append(rep.Runs, *run)
			}
		}
	}
	return rep, nil
}

// measure starts a server, loads it, and takes it down again.
func (s *Settings) measure(ctx context.Context, starter Starter, readers int) (*Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	srv, err := starter.Start(ctx)
	if err != nil {
		return nil, err
	}
	defer srv.Stop()
	res := &Result{Server: starter.Name, Version: srv.Version(), ReadersPerStream: readers}

	replay := &publisher.Replay{File: s.Clip, Logger: s.Logger}
	names := make([]string, s.Publishers)
	for i := range names {
		names[i] = fmt.Sprintf("s%d", i)
		replay.URLs = append(replay.URLs, srv.PublishURL(names[i]))
	}
	pushing := make(chan error, 1)
	pushCtx, stopPushing := context.WithCancel(ctx)
	go func() { pushing <- replay.Run(pushCtx) }()
	pushed := false
	endPush := func() error {
		stopPushing()
		if pushed {
			return nil
		}
		pushed = true
		return <-pushing
	}
	defer func() { _ = endPush() }()
	// alive waits for ok, or until the server, the publishers or the context end.
	alive := func(what string, limit time.Duration, ok func() bool) error {
		deadline := time.NewTimer(limit)
		defer deadline.Stop()
		tick := time.NewTicker(pollEvery)
		defer tick.Stop()
		for ok == nil || !ok() {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-srv.Done():
				return fmt.Errorf("the server ended: %s", srv.Output())
			case err := <-pushing:
				pushed = true
				return fmt.Errorf("the publishers ended: %w", err)
			case <-deadline.C:
				if ok == nil {
					return nil
				}
				return fmt.Errorf("%s after %s: %+v; the server says: %s", what, limit, replay.Stats(), srv.Output())
			case <-tick.C:
			}
		}
		return nil
	}
	if err := alive("publishers are not connected", readyTimeout, func() bool { return replay.Stats().Connected == s.Publishers }); err != nil {
		return nil, err
	}
	var urls []string
	for _, name := range names {
		for range readers {
			urls = append(urls, srv.PlayURL(name))
		}
	}
	crowd := startCrowd(ctx, urls, s.Logger)
	defer crowd.stop()
	if err := alive("readers have no media", readyTimeout, crowd.reading); err != nil {
		return nil, errors.Join(err, crowd.lastError())
	}

	before, err := look(srv.PID(), replay)
	if err != nil {
		return nil, err
	}
	s.Logger.Debug("counting", "server", starter.Name)
	crowd.count(true)
	if err := alive("", s.Window, nil); err != nil {
		return nil, err
	}
	after, err := look(srv.PID(), replay)
	if err != nil {
		return nil, err
	}
	crowd.count(false)
	res.fill(before, after, s.Publishers)
	if res.PeakRSSBytes, err = procstat.PeakRSS(srv.PID()); err != nil {
		return nil, err
	}
	crowd.stop()
	if readers > 0 {
		res.Reading = crowd.result()
	}
	if err := s.checkPackaged(ctx, srv, names, res); err != nil {
		return nil, err
	}
	if err := endPush(); err != nil {
		return nil, err
	}
	st := replay.Stats()
	res.Interruptions, res.MaxLagMs = st.Interruptions, st.MaxLag.Milliseconds()
	if st.Interruptions > 0 {
		s.Logger.Warn("publishers were interrupted: the figures of this run are of less work", "server", res.Server,
			"interruptions", st.Interruptions, "server_output", srv.Output())
	}
	return res, nil
}

// moment is the state of all accounts at one time.
type moment struct {
	at        time.Time
	server    procstat.Usage
	generator float64
	machine   machineCPU
	sentBytes int64
}

func look(pid int, r *publisher.Replay) (m moment, err error) {
	if m.server, err = procstat.Tree(pid); err != nil {
		return m, fmt.Errorf("read the server's usage: %w", err)
	}
	if m.generator, err = procstat.CPUSeconds(os.Getpid()); err != nil {
		return m, fmt.Errorf("read the generator's usage: %w", err)
	}
	if m.machine, err = readMachineCPU(); err != nil {
		return m, err
	}
	m.sentBytes, m.at = r.Stats().Bytes, time.Now()
	return m, nil
}

// checkPackaged looks at every stream once the window is over: a server that does not package what it takes
// would look cheap.
func (s *Settings) checkPackaged(ctx context.Context, srv Server, names []string, res *Result) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if c, ok := srv.(partCounter); ok {
		n, parts, err := c.countParts(ctx, names, countFor, fewestParts)
		if err != nil {
			return fmt.Errorf("count packaged parts: %w", err)
		}
		res.PartsOnBus = parts
		if n < len(names) {
			return fmt.Errorf("%d of %d streams are packaged: the figure would be of less work", n, len(names))
		}
	}
	client := newClient()
	defer client.CloseIdleConnections()
	for _, name := range names {
		if err := probe(ctx, client, srv.PlayURL(name)); err != nil {
			return fmt.Errorf("stream %s was not packaged: %w", name, err)
		}
		res.StreamsPackaged++
	}
	return nil
}
