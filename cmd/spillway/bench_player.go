package main

import (
	"errors"
	"flag"
	"time"

	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/dashboards/player"
	"github.com/spillway-live/spillway/testenv/bench"
)

type benchPlayerFlags struct {
	measureFlags
	views    int
	seconds  int
	rounds   int
	slowdown float64
	delay    time.Duration
	settle   time.Duration
	logs     string
	allLogs  bool
	browser  string
	mediamtx string
	holdBack float64
}

func (f *benchPlayerFlags) register(fs *flag.FlagSet) {
	fs.IntVar(&f.views, "views", 3, "how often each server is watched, in each round, one view after the other")
	fs.IntVar(&f.seconds, "seconds", 60, "length of each view")
	fs.IntVar(&f.rounds, "rounds", 1, "how often every server is started and watched, in turn")
	fs.Float64Var(&f.slowdown, "cpu-slowdown", 1, "make the page's threads so many `times` slower")
	fs.DurationVar(&f.delay, "request-delay", 0, "delay each request of the page by this `time`")
	fs.StringVar(&f.logs, "logs", "", "`directory` for hls.js's log of every view that stalled")
	fs.BoolVar(&f.allLogs, "all-logs", false, "keep hls.js's log of every view")
	fs.DurationVar(&f.settle, "settle", 15*time.Second, "watch a stream that has been live for this `time`")
	fs.StringVar(&f.browser, "chromium", "", "`path` of Chromium (default: looked for)")
	fs.StringVar(&f.mediamtx, "mediamtx", "", "`path` of a MediaMTX binary to watch in turn")
	fs.Float64Var(&f.holdBack, "mediamtx-hold-back", 1, "`seconds` to write into MediaMTX's PART-HOLD-BACK; 0 leaves it")
	f.measureFlags.register(fs, "the bus's store")
}

func (c *commands) benchPlayer() *ffcli.Command {
	var f benchPlayerFlags
	return c.command("bench player", "", "first picture, latency and stalls of hls.js with default settings, as JSON", 0, f.register, func(ctx ctx, _ []string) error {
		return c.runBenchPlayer(ctx, &f)
	})
}

func (c *commands) runBenchPlayer(ctx ctx, f *benchPlayerFlags) error {
	logger, err := f.logger(c.stderr)
	if err != nil {
		return err
	}
	binary, err := thisProgram()
	if err != nil {
		return err
	}
	script, err := player.HLSJS()
	if err != nil {
		return err
	}
	servers := []bench.Starter{bench.Spillway{Binary: binary, Release: release(), TempDir: f.temp, Edge: true}.Starter()}
	if f.mediamtx != "" {
		peer := bench.MediaMTX(f.mediamtx)
		if f.holdBack > 0 {
			peer = peer.WithHoldBack(f.holdBack)
		}
		servers = append(servers, peer)
	}
	rep, err := bench.RunPlayer(ctx, bench.PlayerSettings{
		HLSJS: script, Browser: f.browser, Views: f.views, View: time.Duration(f.seconds) * time.Second, Rounds: f.rounds,
		CPUSlowdown: f.slowdown, RequestDelay: f.delay, Settle: f.settle, Logs: f.logs, AllLogs: f.allLogs, Servers: servers, Logger: logger,
	})
	if rep == nil {
		return err
	}
	// The views before an error are worth having: they took minutes.
	return errors.Join(err, c.printJSON(rep))
}
