package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/testenv/bench"
)

type benchFailoverFlags struct {
	measureFlags
	viewers, lowLatency, kbps int
	fault, modes, plot        string
	viewersProfile            string
	profile                   profileFlag
	join, settle, after       time.Duration
}

func (f *benchFailoverFlags) register(fs *flag.FlagSet) {
	fs.IntVar(&f.viewers, "viewers", 2000, "simulated viewers")
	fs.IntVar(&f.lowLatency, "low-latency", 100, "how many of them read parts; the others whole segments of 2 s")
	fs.IntVar(&f.kbps, "bitrate", 300, "bitrate of the stream, kbit/s of video")
	fs.StringVar(&f.fault, "fault", "down", "what one CDN of three does: `down` (closes connections), silent, errors (503) or slow")
	fs.StringVar(&f.modes, "modes", "steered,plain,round_robin", "`runs`, one after the other")
	fs.StringVar(&f.plot, "plot", "", "`file` for a plot, SVG")
	fs.DurationVar(&f.join, "join", 20*time.Second, "time in which they come")
	fs.DurationVar(&f.settle, "settle", 15*time.Second, "time from then to the fault")
	fs.DurationVar(&f.after, "after", 45*time.Second, "time from the fault to the end")
	fs.StringVar(&f.viewersProfile, "viewers-cpuprofile", "", "`file` for a CPU profile of the viewers, of all modes")
	f.profile.register(fs)
	f.measureFlags.register(fs, "the bus's store")
}

func (c *commands) benchFailover() *ffcli.Command {
	var f benchFailoverFlags
	return c.command("bench failover", "", "a CDN goes down under simulated viewers: how soon they are elsewhere and what they miss, as JSON", 0, f.register, func(ctx ctx, _ []string) error {
		return c.runBenchFailover(ctx, &f)
	})
}

func (c *commands) runBenchFailover(ctx ctx, f *benchFailoverFlags) error {
	logger, err := f.logger(c.stderr)
	if err != nil {
		return err
	}
	binary, err := thisProgram()
	if err != nil {
		return err
	}
	stop, err := startCPUProfile(f.viewersProfile)
	if err != nil {
		return err
	}
	rep, err := bench.RunFailover(ctx, bench.FailoverSettings{
		Spillway: bench.Spillway{Binary: binary, Release: release(), TempDir: f.temp, CPUProfile: f.profile.path},
		Viewers:  f.viewers, LowLatency: f.lowLatency, BitrateKbps: f.kbps, Fault: f.fault, Modes: splitList(f.modes),
		Join: f.join, Settle: f.settle, After: f.after, Logger: logger,
	})
	err = errors.Join(err, stop())
	if rep == nil {
		return err
	}
	if f.plot != "" {
		if werr := os.WriteFile(f.plot, rep.Plot(), 0o644); werr != nil {
			err = errors.Join(err, fmt.Errorf("write the plot: %w", werr))
		}
	}
	// The runs before an error are worth having.
	return errors.Join(err, c.printJSON(rep))
}
