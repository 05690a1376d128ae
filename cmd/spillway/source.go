package main

import (
	"errors"
	"flag"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
)

type sourceRegistry = registry.Registry[schemas.Source]

// sourceCommand reads and changes the cameras that are pulled.
func (c *commands) sourceCommand() *ffcli.Command {
	var b base
	var asJSON bool
	with := func(ctx ctx, f func(r *sourceRegistry) error) error {
		return withRegistry(ctx, &b, schemas.BucketSources, schemas.ParseSource, f)
	}
	return c.parent("source", "cameras and servers that are pulled (RTSP)",
		c.command("source list", "", "list them, without their passwords", 0, func(fs *flag.FlagSet) {
			b.register(fs)
			fs.BoolVar(&asJSON, "json", false, "print JSON")
		}, func(ctx ctx, _ []string) error {
			return with(ctx, func(r *sourceRegistry) error { return c.listSources(ctx, r, asJSON) })
		}),
		c.sourceSet(&b),
		c.command("source remove", "APP/STREAM", "pull it no more", 1, b.register, func(ctx ctx, a []string) error {
			k, err := parseKey(a[0])
			if err != nil {
				return err
			}
			return with(ctx, func(r *sourceRegistry) error {
				if err := r.Remove(ctx, k.KVKey()); err != nil {
					return noEntry(ctx, r, "source", k.KVKey(), err)
				}
				return nil
			})
		}),
	)
}

func (c *commands) listSources(ctx ctx, r *sourceRegistry, asJSON bool) error {
	l, err := r.List(ctx)
	if err != nil {
		return err
	}
	all := map[string]*schemas.Source{}
	w := tabwriter.NewWriter(c.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "APP/STREAM\tPULLED\tTRANSPORT\tCDN\tURL")
	for _, e := range l {
		if e.Err != nil {
			if asJSON {
				return e.Err
			}
			fmt.Fprintf(w, "%s\t%v\n", shown(e.Key), e.Err)
			continue
		}
		s := *e.Value
		s.URL = redactURL(s.URL)
		all[shown(e.Key)] = &s
		pulled, transport := "always", "tcp"
		if s.OnDemand {
			grace := s.GraceSec
			if grace == 0 {
				grace = schemas.DefaultGraceSec
			}
			pulled = fmt.Sprintf("while watched, and %d s", grace)
		}
		if s.Transport != "" {
			transport = s.Transport
		}
		cdn := s.CDN
		if cdn == "" {
			cdn = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", shown(e.Key), pulled, transport, cdn, s.URL)
	}
	if asJSON {
		return c.printJSON(all)
	}
	return w.Flush()
}

func (c *commands) sourceSet(b *base) *ffcli.Command {
	var s schemas.Source
	var grace time.Duration
	var file string
	var flags *flag.FlagSet
	return c.command("source set", "APP/STREAM", "add a camera or change what is given of it", 1, func(fs *flag.FlagSet) {
		b.register(fs)
		flags = fs
		fs.StringVar(&s.URL, "url", "", "`URL` rtsp://[USER:PASSWORD@]HOST[:PORT]/PATH, or rtsps://")
		fs.BoolVar(&s.OnDemand, "on-demand", false, "pull it only while somebody watches")
		fs.DurationVar(&grace, "grace", 0, "how long an on-demand pull goes on after the last viewer (default: 10s)")
		fs.StringVar(&s.Transport, "transport", "", "tcp or udp")
		fs.StringVar(&s.CDN, "cdn", "", "CDN that the stream counts as published through")
		fs.StringVar(&file, "file", "", "JSON `file` with all of it (- is standard input)")
	}, func(ctx ctx, a []string) error {
		k, err := parseKey(a[0])
		if err != nil {
			return err
		}
		if grace%time.Second != 0 {
			return fmt.Errorf("--grace %s: whole seconds are kept", grace)
		}
		set := given(flags)
		var whole *schemas.Source
		if file != "" {
			data, err := c.readFile("source", file)
			if err != nil {
				return err
			}
			if whole, err = schemas.ParseSource(k.KVKey(), data); err != nil {
				return fmt.Errorf("source in %s: %w", file, err)
			}
		}
		return withRegistry(ctx, b, schemas.BucketSources, schemas.ParseSource, func(r *sourceRegistry) error {
			_, err := r.Edit(ctx, k.KVKey(), func(d *schemas.Source, found bool) error {
				if whole != nil {
					*d = *whole
					return nil
				}
				if !found && !set["url"] {
					return errors.New("a new source needs --url")
				}
				if set["url"] {
					d.URL = s.URL
				}
				if set["on-demand"] {
					d.OnDemand = s.OnDemand
				}
				if set["grace"] {
					d.GraceSec = int64(grace / time.Second)
				}
				if set["transport"] {
					d.Transport = s.Transport
				}
				if set["cdn"] {
					d.CDN = s.CDN
				}
				return nil
			})
			return err
		})
	})
}
