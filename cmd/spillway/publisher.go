package main

import (
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
)

type publisherRegistry = registry.Registry[schemas.PublisherState]

// publisherCommand shows publishers that report and gives them commands.
func (c *commands) publisherCommand() *ffcli.Command {
	var b base
	var asJSON bool
	with := func(ctx ctx, f func(r *publisherRegistry) error) error {
		return withRegistry(ctx, &b, schemas.BucketPublishers, schemas.ParsePublisherState, f)
	}
	cmd := schemas.PublisherCommand{By: "hand"}
	var valid time.Duration
	return c.parent("publisher", "publishers that report on themselves, and commands to them",
		c.command("publisher list", "", "list what they said last, and their commands", 0, func(fs *flag.FlagSet) {
			b.register(fs)
			fs.BoolVar(&asJSON, "json", false, "print JSON")
		}, func(ctx ctx, _ []string) error {
			return with(ctx, func(r *publisherRegistry) error { return c.listPublishers(ctx, r, asJSON) })
		}),
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
			return with(ctx, func(r *publisherRegistry) error {
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

func (c *commands) listPublishers(ctx ctx, r *publisherRegistry, asJSON bool) error {
	l, err := r.List(ctx)
	if err != nil {
		return err
	}
	all := map[string]*schemas.PublisherState{}
	w := tabwriter.NewWriter(c.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "APP/STREAM\tREPORTED\tBIT/S\tFPS\tCOMMAND")
	for _, e := range l {
		if e.Err != nil {
			fmt.Fprintf(w, "%s\t%v\n", shown(e.Key), e.Err)
			continue
		}
		s := e.Value
		all[shown(e.Key)] = s
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
		fmt.Fprintf(w, "%s\t%s\t%d\t%g\t%s\n", shown(e.Key), time.UnixMilli(s.LastUnixMs).UTC().Format(time.RFC3339), s.BitrateBps, s.FPS, what)
	}
	if asJSON {
		return c.printJSON(all)
	}
	return w.Flush()
}
