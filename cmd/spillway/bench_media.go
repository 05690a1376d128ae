package main

import (
	"errors"
	"flag"
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/testenv/bench"
)

// benchCommand measures Spillway beside its peers.
func (c *commands) benchCommand() *ffcli.Command {
	return c.parent("bench", "measure cost and delay, beside other servers on the same machine", c.benchMedia(), c.benchOrigin(), c.benchRouter(), c.benchPlayer(), c.benchRegions(), c.benchFailover(), c.benchTelemetry())
}

type benchMediaFlags struct {
	measureFlags
	publishers string
	seconds    int
	readers    string
	rounds     int
	clip       clipFlags
	mediamtx   string
	nginx      string
	profile    profileFlag
}

func (f *benchMediaFlags) register(fs *flag.FlagSet) {
	fs.StringVar(&f.publishers, "publishers", "20", "RTMP publishers at once; several numbers, comma-separated, show how the cost grows")
	fs.IntVar(&f.seconds, "seconds", 30, "how long CPU time and latency are counted, in each run")
	fs.StringVar(&f.readers, "readers", "0,1", "LL-HLS readers per stream; several, comma-separated, are measured one after the other")
	fs.IntVar(&f.rounds, "rounds", 1, "how often all is measured, in turn")
	fs.StringVar(&f.mediamtx, "mediamtx", "", "`path` of a MediaMTX binary to measure in turn")
	fs.StringVar(&f.nginx, "nginx", "", "`path` of an nginx binary, whose RTMP module is installed, to measure in turn")
	f.profile.register(fs)
	f.clip.register(fs, 2600)
	f.measureFlags.register(fs, "the bus's store and the clip")
}

func (c *commands) benchMedia() *ffcli.Command {
	var f benchMediaFlags
	return c.command("bench media", "", "server CPU and latency for N RTMP publishers, as JSON", 0, f.register, func(ctx ctx, _ []string) error {
		return c.runBenchMedia(ctx, &f)
	})
}

func (c *commands) runBenchMedia(ctx ctx, f *benchMediaFlags) error {
	logger, err := f.logger(c.stderr)
	if err != nil {
		return err
	}
	readers, err := numbers(f.readers)
	if err != nil {
		return fmt.Errorf("--readers %q: %w", f.readers, err)
	}
	publishers, err := numbers(f.publishers)
	if err != nil {
		return fmt.Errorf("--publishers %q: %w", f.publishers, err)
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
	servers := []bench.Starter{bench.Spillway{Binary: binary, Release: release(), TempDir: f.temp, CPUProfile: f.profile.path}.Starter()}
	if f.mediamtx != "" {
		servers = append(servers, bench.MediaMTX(f.mediamtx))
	}
	if f.nginx != "" {
		servers = append(servers, bench.NginxRTMP(f.nginx))
	}
	settings := bench.Settings{
		Clip: clip, Window: time.Duration(f.seconds) * time.Second, Readers: readers,
		Rounds: f.rounds, Servers: servers, Logger: logger,
	}
	var rep any
	if len(publishers) == 1 {
		settings.Publishers = publishers[0]
		rep, err = bench.Run(ctx, settings)
	} else {
		rep, err = bench.Grow(ctx, settings, publishers)
	}
	if err != nil {
		return err
	}
	return c.printJSON(rep)
}

func numbers(s string) ([]int, error) {
	var out []int
	for _, x := range strings.Split(s, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(x))
		if err != nil {
			return nil, errors.New("give numbers, comma-separated, e.g. 0,1")
		}
		out = append(out, n)
	}
	return out, nil
}

// release is the revision this program was built from.
func release() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	rev, modified := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			rev = s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = "+changes"
		}
	}
	if rev == "" {
		return ""
	}
	return rev + modified
}
