// Package regions measures the way of chunks over several regions, each a process
// of its own.
//
// It promises: real publishers (RTMP) in the first region and demand in the last;
// delays from the times at which each region's bus stored a chunk, all by the one
// clock of this machine; CPU of each region's process; what is lost or doubled,
// counted; and how soon a link that was cut brings chunks again. It leaves out
// players, and the way of real links: all is on loopback.
package regions

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/demand"
	"github.com/spillway-live/spillway/testenv/bench"
	"github.com/spillway-live/spillway/testenv/peers/procstat"
	"github.com/spillway-live/spillway/testenv/publisher"
)

// Settings of a measurement.
type Settings struct {
	// Binary is the path of our program, TempDir where the buses' stores are put.
	Binary, TempDir string
	// Clip is what every stream shows, FLV.
	Clip string
	// Regions in a row, 2 to 8; Streams that are published in the first and watched in the last, 1 to 1000.
	Regions, Streams int
	// Window is how long is measured; CutFor how long the last link is then cut, 0: not at all.
	Window, CutFor time.Duration
	Logger         *slog.Logger
}

// limit is how long is waited for what must happen in the end.
const limit = time.Minute

func (s *Settings) check() error {
	switch {
	case s.Regions < 2 || s.Regions > schemas.MaxRegionHops:
		return fmt.Errorf("measure regions: %d regions: give 2 to %d", s.Regions, schemas.MaxRegionHops)
	case s.Streams < 1 || s.Streams > 1000:
		return fmt.Errorf("measure regions: %d streams: give 1 to 1000", s.Streams)
	case s.Window <= 0 || s.Window > time.Hour || s.CutFor < 0 || s.CutFor > time.Minute:
		return errors.New("measure regions: measure for up to an hour, and cut for up to a minute: MEDIA keeps chunks no longer than that")
	}
	return nil
}

// Run starts the regions, measures and ends them.
func Run(ctx context.Context, s Settings) (_ *Report, err error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(s.TempDir, "spillway-regions-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	c, err := start(ctx, &s, dir)
	if err != nil {
		return nil, fmt.Errorf("measure regions: %w", err)
	}
	defer c.stop()
	bctx, stop := context.WithCancel(ctx)
	g, bctx := errgroup.WithContext(bctx)
	replay := &publisher.Replay{File: s.Clip, Logger: s.Logger}
	var keys []schemas.StreamKey
	for i := range s.Streams {
		k := schemas.StreamKey{App: application, Stream: fmt.Sprintf("s%d", i)}
		keys = append(keys, k)
		replay.URLs = append(replay.URLs, c.first().ready.Push+"/"+k.Stream)
	}
	g.Go(func() error { return replay.Run(bctx) })
	g.Go(func() error { return c.last().want(bctx, keys) })
	defer func() { stop(); err = errors.Join(err, g.Wait()) }()
	m := &measurement{Settings: s, chain: c, end: bctx}
	return m.run(stop)
}

// want says once a second that streams are watched in the region.
func (r *region) want(ctx context.Context, keys []schemas.StreamKey) error {
	t := time.NewTicker(demand.Every)
	defer t.Stop()
	for ctx.Err() == nil {
		for _, k := range keys {
			if err := demand.Say(r.conn, k); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
		case <-t.C:
		}
	}
	return nil
}

// measurement is one while it runs.
type measurement struct {
	Settings
	*chain
	end context.Context // the publishers' and viewers'
}

func (m *measurement) run(stop func()) (*Report, error) {
	err := m.await("every stream is in the last region", func() bool { return m.last().heard.streams() == m.Streams })
	if err != nil {
		return nil, err
	}
	if err := m.pause(min(2*time.Second, m.Window)); err != nil { // what was taken from before the first viewer is in
		return nil, err
	}
	rep := &Report{Machine: bench.ThisMachine(), Began: time.Now(), Streams: m.Streams, Seconds: m.Window.Seconds()}
	before, err := m.cpu()
	if err != nil {
		return nil, err
	}
	if err := m.pause(m.Window); err != nil {
		return nil, err
	}
	after, err := m.cpu()
	if err != nil {
		return nil, err
	}
	until := time.Now()
	rep.cpu(m.chain, before, after)
	if m.CutFor > 0 {
		if rep.Cut, err = m.cut(); err != nil {
			return nil, err
		}
	}
	ended := time.Now()
	_ = m.await("the last region has all of it", func() bool { return m.missing(rep.Began, ended) == 0 }) // what is missing then is in the report
	stop()
	rep.hops(m.chain, rep.Began, until)
	rep.Missing, rep.Doubled = m.missing(rep.Began, ended), m.doubled()
	return rep, nil
}

// cut cuts the last link, lets it pass again, and sees how soon chunks do.
func (m *measurement) cut() (*Cut, error) {
	link := m.links[len(m.links)-1]
	link.Cut()
	defer link.Pass()
	if err := m.pause(m.CutFor); err != nil {
		return nil, err
	}
	link.Pass()
	healed := time.Now()
	before, last := m.regions[len(m.regions)-2], m.last()
	c := &Cut{Seconds: m.CutFor.Seconds()}
	behind := before.heard.stored(time.Time{}, healed)
	c.Waiting = last.heard.missing(behind)
	if err := m.await("the last region has what was stored while the link was cut", func() bool { return last.heard.missing(behind) == 0 }); err != nil {
		return nil, err
	}
	c.FirstMs, c.CaughtUpMs = last.heard.after(healed, behind)
	return c, nil
}

// cpuSeconds are what processes have used: each region's, and all of the machine together.
type cpuSeconds struct {
	regions []float64
	machine float64
}

func (c *chain) cpu() (u cpuSeconds, err error) {
	for _, r := range c.regions {
		x, err := procstat.Tree(r.process.PID())
		if err != nil {
			return u, fmt.Errorf("CPU time of region %s: %w", r.name, err)
		}
		u.regions = append(u.regions, x.CPUSeconds)
	}
	u.machine, err = bench.BusyCPUSeconds()
	return u, err
}

// missing counts the chunks that the first region stored in that time and the last has not.
func (c *chain) missing(from, to time.Time) int {
	return c.last().heard.missing(c.first().heard.stored(from, to))
}

func (c *chain) doubled() (n int) {
	for _, r := range c.regions {
		n += r.heard.again()
	}
	return n
}

func (m *measurement) pause(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-m.end.Done():
		return context.Cause(m.end)
	}
}

// await looks until it is so, a minute at most.
func (m *measurement) await(what string, so func() bool) error {
	for until := time.Now().Add(limit); !so(); {
		if time.Now().After(until) {
			return fmt.Errorf("measure regions: not within %s: %s: %s", limit, what, m.output())
		}
		if err := m.pause(20 * time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}
