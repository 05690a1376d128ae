package main

import (
	"errors"
	"flag"
	"time"

	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/testenv/bench"
	"github.com/spillway-live/spillway/testenv/bench/origin"
)

type benchOriginFlags struct {
	measureFlags
	publishers  int
	players     int
	connections int
	window      time.Duration
	clip        clipFlags
	profile     profileFlag
}

func (f *benchOriginFlags) register(fs *flag.FlagSet) {
	fs.IntVar(&f.publishers, "publishers", 20, "RTMP publishers at once, for the delay of parts")
	fs.IntVar(&f.players, "players", 1000, "players that wait for the same part")
	fs.IntVar(&f.connections, "connections", 16, "connections that ask for parts from memory")
	fs.DurationVar(&f.window, "window", 10*time.Second, "how long each measurement lasts")
	f.profile.register(fs)
	f.clip.register(fs, 2600)
	f.measureFlags.register(fs, "the bus's store and the clip")
}

func (c *commands) benchOrigin() *ffcli.Command {
	var f benchOriginFlags
	return c.command("bench origin", "", "CPU of an origin's answers, and how late parts and playlists are, as JSON", 0, f.register, func(ctx ctx, _ []string) error {
		return c.runBenchOrigin(ctx, &f)
	})
}

func (c *commands) runBenchOrigin(ctx ctx, f *benchOriginFlags) error {
	logger, err := f.logger(c.stderr)
	if err != nil {
		return err
	}
	binary, err := thisProgram()
	if err != nil {
		return err
	}
	clip, remove, err := f.clip.file(ctx, f.temp, logger)
	if err != nil {
		return err
	}
	defer remove()
	settings := origin.Settings{
		Clip: clip, Publishers: f.publishers, Players: f.players, Connections: f.connections, Window: f.window, Logger: logger,
	}
	if err := settings.Check(); err != nil {
		return err
	}
	srv, err := bench.Spillway{Binary: binary, Release: release(), TempDir: f.temp, CPUProfile: f.profile.path, Watched: true}.Start(ctx)
	if err != nil {
		return err
	}
	defer srv.Stop()
	settings.Server = srv
	rep, err := origin.Run(ctx, settings)
	if rep == nil {
		return err
	}
	// What was measured before an error is worth having.
	return errors.Join(err, c.printJSON(rep))
}
