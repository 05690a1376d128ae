package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/ingest/report"
	"github.com/spillway-live/spillway/testenv/chaos"
)

type chaosTelemetryFlags struct {
	base   // of which only logging and the file of settings apply
	s      chaos.TelemetrySettings
	busMiB int
	temp   string
	report string
}

func (f *chaosTelemetryFlags) register(fs *flag.FlagSet) {
	fs.IntVar(&f.s.Kills, "kills", 300, "processes to kill, one after the other: collector, bus, sessioniser, loader and ClickHouse in turn, in random order")
	fs.Uint64Var(&f.s.Seed, "seed", 1, "chooses processes, moments, pauses and faults")
	fs.DurationVar(&f.s.Between, "between", 7*time.Second, "longest time between two kills")
	fs.IntVar(&f.s.EventsPerSecond, "events", 1500, "events a second of all players together")
	fs.IntVar(&f.s.Players, "players", 150, "players at once")
	fs.BoolVar(&f.s.TakeoverOnly, "takeover-only", false, "kill sessionisers and loaders alone, without other faults: how fast others take over")
	fs.IntVar(&f.busMiB, "bus-disk", 1024, "`MiB` of the bus's own file system in memory, which is filled now and then (Linux); 0 leaves that out")
	fs.StringVar(&f.temp, "temp", "", "`directory` for bus, ClickHouse, spools and logs, removed afterwards (default: "+os.TempDir()+")")
	fs.StringVar(&f.report, "report", "", "Markdown `file` of whose section Telemetry a summary is made (default: none)")
	fs.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	fs.StringVar(&f.logFormat, "log-format", "text", "text or json")
	fs.String("config", "", "`file` of settings: one \"flag value\" a line")
}

func (c *commands) chaosTelemetry() *ffcli.Command {
	var f chaosTelemetryFlags
	return c.command("chaos telemetry", "", "kill collectors, bus, sessionisers, loaders and ClickHouse at random and check that every event is accounted for once; JSON", 0, f.register, func(ctx ctx, _ []string) error {
		return c.runChaosTelemetry(ctx, &f)
	})
}

func (c *commands) runChaosTelemetry(ctx ctx, f *chaosTelemetryFlags) (err error) {
	if f.busMiB > 0 {
		if again, err := c.inOwnMounts(ctx); again {
			return err
		}
	}
	if f.s.Logger, err = f.logger(c.stderr); err != nil {
		return err
	}
	if f.s.Binary, err = os.Executable(); err != nil {
		return fmt.Errorf("find this program to run it: %w", err)
	}
	if f.s.Dir, err = os.MkdirTemp(f.temp, "spillway-chaos-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(f.s.Dir)) }()
	sec, err := loadSecrets(f.s.Dir)
	if err != nil {
		return err
	}
	signer, err := sec.signer()
	if err != nil {
		return err
	}
	f.s.SecretsFile, f.s.Signer, f.s.EdgeKey = filepath.Join(f.s.Dir, "secrets.json"), signer, sec.EdgeKey
	f.s.NewReporter = func(js jetstream.JetStream) (chaos.Reporter, error) {
		return report.New(report.Settings{JetStream: js, Logger: f.s.Logger})
	}
	if f.busMiB > 0 {
		unmount, err := mountMemory(filepath.Join(f.s.Dir, "data", "nats"), f.busMiB)
		if err != nil {
			f.s.Logger.Warn("the bus gets no file system of its own: its disk will not be full", "err", err)
		} else {
			f.s.BusDisk = true
			defer unmount()
		}
	}
	rep, err := chaos.RunTelemetry(ctx, f.s)
	if err != nil {
		return err
	}
	if f.report != "" {
		title := "Telemetry"
		if f.s.TakeoverOnly {
			title = "Takeover of telemetry"
		}
		if err := chaos.WriteSection(f.report, title, rep.Markdown()); err != nil {
			return err
		}
	}
	out := json.NewEncoder(c.stdout)
	out.SetIndent("", "  ")
	if err := out.Encode(rep); err != nil {
		return err
	}
	if len(rep.Failures) > 0 {
		rep.Write(c.stderr)
		return fmt.Errorf("%d of what must not happen happened; see above", len(rep.Failures))
	}
	return nil
}
