package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/schemas"
)

// streamCommand tells about live streams.
func (c *commands) streamCommand() *ffcli.Command {
	var b base
	var asJSON bool
	return c.parent("stream", "where live streams are",
		c.command("stream where", "APP/STREAM", "tell in which region a stream is published and how it comes to this one", 1, func(fs *flag.FlagSet) {
			b.register(fs)
			fs.BoolVar(&asJSON, "json", false, "print the registry's entry as JSON")
		}, func(ctx ctx, a []string) error {
			k, err := parseKey(a[0])
			if err != nil {
				return err
			}
			return b.withBucket(ctx, schemas.BucketLocations, func(kv jetstream.KeyValue) error {
				e, err := kv.Get(ctx, k.KVKey())
				if errors.Is(err, jetstream.ErrKeyNotFound) {
					return fmt.Errorf("this region knows no stream %s: it is published nowhere that its relay reaches, or no relay runs (spillway relay)", k)
				}
				if err != nil {
					return err
				}
				l, err := schemas.ParseLocation(e.Key(), e.Value())
				if err != nil {
					return err
				}
				if asJSON {
					return c.printJSON(l)
				}
				return writeLocation(c.stdout, l, time.Now())
			})
		}),
	)
}

// writeLocation tells a registry's entry in words.
func writeLocation(w io.Writer, l *schemas.Location, now time.Time) error {
	var b strings.Builder
	state := "live"
	if !l.State.Live {
		state = "ended"
		if l.State.EndReason != "" {
			state += ": " + l.State.EndReason
		}
	}
	fmt.Fprintf(&b, "%s is published in region %s (epoch %d, %s), watched in %d region(s), by %d session(s) at least\n", l.Key(), l.Home(), l.State.Epoch.Epoch, state, l.Watching, l.Viewers)
	switch {
	case len(l.Path) == 1:
		fmt.Fprintf(&b, "this is region %s\n", l.Region())
	case l.Held:
		fmt.Fprintf(&b, "region %s has it, by way of %s, about %v over the links\n", l.Region(), strings.Join(l.Path, " > "), us(l.DelayUs))
	default:
		fmt.Fprintf(&b, "region %s does not have it; it would come by way of %s, about %v over the links\n", l.Region(), strings.Join(l.Path, " > "), us(l.DelayUs))
	}
	for i, o := range l.Offers {
		has, taken := "does not have it", ""
		if o.Held {
			has = "has it"
		}
		if i == 0 {
			taken = ", taken"
		}
		fmt.Fprintf(&b, "  %s %s: %v away, %v over %d link(s) in all%s\n", o.Region, has, us(o.RTTUs/2), us(o.DelayUs), o.Hops, taken)
	}
	for i := range l.Renditions {
		fmt.Fprintf(&b, "  rendition %s\n", l.Renditions[i].Rendition)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func us(n int64) time.Duration {
	return (time.Duration(n) * time.Microsecond).Round(100 * time.Microsecond)
}
