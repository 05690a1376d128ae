package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/testenv/bench"
	"github.com/spillway-live/spillway/testenv/bench/origin"
	"github.com/spillway-live/spillway/testenv/publisher"
)

type benchOriginFlags struct {
	base        // of which only logging and the file of settings apply
	publishers  int
	players     int
	connections int
	window      time.Duration
	kbps        int
	clip        string
	temp        string
	cpuProfile  string
}

func (f *benchOriginFlags) register(fs *flag.FlagSet) {
	fs.IntVar(&f.publishers, "publishers", 20, "RTMP publishers at once, for the delay of parts")
	fs.IntVar(&f.players, "players", 1000, "players that wait for the same part")
	fs.IntVar(&f.connections, "connections", 16, "connections that ask for parts from memory")
	fs.DurationVar(&f.window, "window", 10*time.Second, "how long each measurement lasts")
	fs.IntVar(&f.kbps, "kbps", 2600, "bit rate of every stream, kbit/s, picture and sound")
	fs.StringVar(&f.clip, "clip", "", "`file` to publish in a loop, H.264 and AAC (default: one is made with ffmpeg, 720p at 30 frames/s)")
	fs.StringVar(&f.temp, "temp", "", "`directory` for the bus's store and the clip, removed afterwards (default: "+os.TempDir()+")")
	fs.StringVar(&f.cpuProfile, "cpuprofile", "", "`file` for a CPU profile of the server")
	fs.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	fs.StringVar(&f.logFormat, "log-format", "text", "text or json")
	fs.String("config", "", "`file` of settings: one \"flag value\" a line")
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
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program to run it as the server: %w", err)
	}
	if f.cpuProfile != "" {
		if f.cpuProfile, err = filepath.Abs(f.cpuProfile); err != nil {
			return fmt.Errorf("--cpuprofile: %w", err)
		}
	}
	if f.clip == "" {
		dir, err := os.MkdirTemp(f.temp, "spillway-bench-clip-")
		if err != nil {
			return fmt.Errorf("make a clip: %w", err)
		}
		defer os.RemoveAll(dir)
		f.clip = filepath.Join(dir, "clip.flv")
		logger.Info("making the clip to publish", "kbps", f.kbps)
		if err := (publisher.Clip{Path: f.clip, BitrateKbps: f.kbps}).Make(ctx); err != nil {
			return err
		}
	}
	settings := origin.Settings{
		Clip: f.clip, Publishers: f.publishers, Players: f.players, Connections: f.connections, Window: f.window, Logger: logger,
	}
	if err := settings.Check(); err != nil {
		return err
	}
	srv, err := bench.Spillway{Binary: binary, Release: release(), TempDir: f.temp, CPUProfile: f.cpuProfile, Watched: true}.Start(ctx)
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
	out := json.NewEncoder(c.stdout)
	out.SetIndent("", "  ")
	return errors.Join(err, out.Encode(rep))
}
