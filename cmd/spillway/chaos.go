package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/testenv/chaos"
)

// chaosCommand proves what the system promises when its processes are killed.
func (c *commands) chaosCommand() *ffcli.Command {
	return c.parent("chaos", "kill processes under load and check what is left", c.chaosMedia(), c.chaosTelemetry())
}

type chaosMediaFlags struct {
	measureFlags
	s      chaos.Settings
	clip   clipFlags
	report string
}

func (f *chaosMediaFlags) register(fs *flag.FlagSet) {
	fs.IntVar(&f.s.Kills, "kills", 50, "processes to kill, one after the other: ingest, packager, origin and transcoder in turn, in random order")
	fs.Uint64Var(&f.s.Seed, "seed", 1, "chooses processes, moments and pauses")
	fs.IntVar(&f.s.Publishers, "publishers", 6, "RTMP publishers at once")
	fs.IntVar(&f.s.Viewers, "viewers", 6, "low-latency viewers at once, through an edge")
	fs.IntVar(&f.s.Renditions, "renditions", 2, "streams that have a rendition beside the publisher's; -1 is none")
	fs.DurationVar(&f.s.Between, "between", 6*time.Second, "longest time between two kills")
	fs.StringVar(&f.report, "report", "", "Markdown `file` of whose section Media a summary is made (default: none)")
	f.clip.register(fs, 600)
	f.measureFlags.register(fs, "the bus's store and logs")
}

func (c *commands) chaosMedia() *ffcli.Command {
	var f chaosMediaFlags
	return c.command("chaos media", "", "kill ingests, packagers, origins and transcoders at random and check every part and every player; JSON", 0, f.register, func(ctx ctx, _ []string) error {
		return c.runChaosMedia(ctx, &f)
	})
}

func (c *commands) runChaosMedia(ctx ctx, f *chaosMediaFlags) (err error) {
	if f.s.Logger, err = f.logger(c.stderr); err != nil {
		return err
	}
	if f.s.Binary, err = thisProgram(); err != nil {
		return err
	}
	if f.s.Dir, err = os.MkdirTemp(f.temp, "spillway-chaos-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(f.s.Dir)) }()
	f.clip.width, f.clip.height = 320, 180
	clip, remove, err := f.clip.file(ctx, f.temp, f.s.Logger)
	if err != nil {
		return err
	}
	defer remove()
	f.s.Clip = clip
	rep, err := chaos.Run(ctx, f.s)
	if err != nil {
		return err
	}
	if f.report != "" {
		if err := chaos.WriteSection(f.report, "Media", rep.Markdown()); err != nil {
			return err
		}
	}
	if err := c.printJSON(rep); err != nil {
		return err
	}
	if len(rep.Failures) > 0 {
		rep.Write(c.stderr)
		return fmt.Errorf("%d of what must not happen happened; see above", len(rep.Failures))
	}
	return nil
}
