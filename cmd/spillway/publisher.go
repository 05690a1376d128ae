package main

import (
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
)

type publisherRegistry = registry.Registry[schemas.PublisherState]

// publisherKind are the publishers that report.
var publisherKind = kind[schemas.PublisherState]{
	what: "publisher", bucket: schemas.BucketPublishers, parse: schemas.ParsePublisherState, key: streamKey,
	heads: "APP/STREAM\tREPORTED\tBIT/S\tFPS\tCOMMAND",
	row: func(s *schemas.PublisherState) string {
		what := "-"
		switch now := time.Now(); {
		case s.Command == nil:
		case s.Ended != "":
			what = s.Ended
		case s.Pending(now) == nil:
			what = "expired"
		case s.Sent:
			what = "sent"
		default:
			what = "waits"
		}
		return fmt.Sprintf("%s\t%d\t%g\t%s", time.UnixMilli(s.LastUnixMs).UTC().Format(time.RFC3339), s.BitrateBps, s.FPS, what)
	},
}

// publisherCommand shows publishers that report and gives them commands.
func (c *commands) publisherCommand() *ffcli.Command {
	var b base
	cmd := schemas.PublisherCommand{By: "hand"}
	var valid time.Duration
	return c.parent("publisher", "publishers that report on themselves, commands to them, and measuring ways to publish",
		publisherKind.list(c, &b, "publisher list", "list what they said last, and their commands"),
		c.publisherProbeCommand(),
		c.command("publisher command", "APP/STREAM", "have the publisher send less, with the answer to its next report", 1, func(fs *flag.FlagSet) {
			b.register(fs)
			fs.Int64Var(&cmd.BitrateBps, "bitrate", 0, "at most this many `bit/s`")
			fs.Float64Var(&cmd.FPS, "fps", 0, "at most this many frames a second")
			fs.StringVar(&cmd.Reason, "reason", "", "`text` that the publisher and the event are told")
			fs.DurationVar(&valid, "valid", time.Minute, "how long the command waits for the publisher")
		}, func(ctx ctx, a []string) error {
			k, err := parseKey(a[0])
			if err != nil {
				return err
			}
			if valid <= 0 || valid > time.Hour {
				return fmt.Errorf("--valid %s: more than 0 and at most 1h is allowed", valid)
			}
			if cmd.BitrateBps == 0 && cmd.FPS == 0 {
				return errors.New("say --bitrate or --fps")
			}
			cmd.ID, cmd.ExpiresUnixMs = rand.Text(), time.Now().Add(valid).UnixMilli()
			if err := cmd.Check(); err != nil {
				return err
			}
			return publisherKind.with(ctx, &b, func(r *publisherRegistry) error {
				_, err := r.Edit(ctx, k.KVKey(), func(s *schemas.PublisherState, found bool) error {
					if !found {
						return fmt.Errorf("no publisher of %s has reported: its app must post reports (docs/contracts.md)", k)
					}
					s.Order(&cmd)
					return nil
				})
				if err == nil {
					fmt.Fprintln(c.stdout, cmd.ID)
				}
				return err
			})
		}),
	)
}
