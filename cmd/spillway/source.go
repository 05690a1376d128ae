package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
)

type sourceRegistry = registry.Registry[schemas.Source]

// sourceKind are the cameras that are pulled; passwords are not shown.
var sourceKind = kind[schemas.Source]{
	what: "source", bucket: schemas.BucketSources, parse: schemas.ParseSource, key: streamKey,
	heads: "APP/STREAM\tPULLED\tTRANSPORT\tCDN\tURL",
	hide:  func(s *schemas.Source) { s.URL = redactURL(s.URL) },
	row: func(s *schemas.Source) string {
		pulled := "always"
		if s.OnDemand {
			pulled = fmt.Sprintf("while watched, and %d s", cmp.Or(s.GraceSec, schemas.DefaultGraceSec))
		}
		return fmt.Sprintf("%s\t%s\t%s\t%s", pulled, cmp.Or(s.Transport, "tcp"), cmp.Or(s.CDN, "-"), s.URL)
	},
}

// sourceCommand reads and changes the cameras that are pulled.
func (c *commands) sourceCommand() *ffcli.Command {
	var b base
	return c.parent("source", "cameras and servers that are pulled (RTSP)",
		sourceKind.list(c, &b, "source list", "list them, without their passwords"),
		c.sourceSet(&b),
		sourceKind.remove(c, &b, "source remove", "APP/STREAM", "pull it no more"),
	)
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
		return sourceKind.with(ctx, b, func(r *sourceRegistry) error {
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
