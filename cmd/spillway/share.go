package main

import (
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
)

type shareRegistry = registry.Registry[schemas.Share]

// shareKind are the public addresses of private streams.
var shareKind = kind[schemas.Share]{
	what: "share", bucket: schemas.BucketShares, parse: schemas.ParseShare, becomes: (*schemas.Share).MayBecome, key: streamKey,
	heads: "ADDRESS\tSTREAM\tSTATE",
	row: func(s *schemas.Share) string {
		state := s.Ended(time.Now())
		switch {
		case state != "":
		case s.UntilUnix != 0:
			state = "until " + time.Unix(s.UntilUnix, 0).UTC().Format(time.RFC3339)
		default:
			state = "until withdrawn"
		}
		return fmt.Sprintf("%s\t%s", s.Key(), state)
	},
}

// shareCommand gives private streams public addresses and takes them back.
func (c *commands) shareCommand() *ffcli.Command {
	var b base
	return c.parent("share", "public addresses of private streams",
		shareKind.list(c, &b, "share list", "list them, withdrawn ones too"),
		c.shareCreate(),
		c.command("share withdraw", "APP/ALIAS", "end a share: it plays no more, for anybody, from now on", 1, b.register, func(ctx ctx, a []string) error {
			k, err := parseKey(a[0])
			if err != nil {
				return err
			}
			return shareKind.with(ctx, &b, func(r *shareRegistry) error {
				if _, err := shareKind.get(ctx, r, k.KVKey()); err != nil {
					return err
				}
				_, err := r.Edit(ctx, k.KVKey(), func(s *schemas.Share, _ bool) error {
					if s.WithdrawnUnix == 0 {
						s.WithdrawnUnix = time.Now().Unix()
					}
					return nil
				})
				return err
			})
		}),
	)
}

func (c *commands) shareCreate() *ffcli.Command {
	var b base
	var as string
	var last time.Duration
	var asJSON bool
	return c.command("share create", "APP/STREAM", "give a stream a public address and print it", 1, func(fs *flag.FlagSet) {
		b.register(fs)
		fs.StringVar(&as, "as", "", "public `address` APP/ALIAS (default: the application and a name nobody can guess)")
		fs.DurationVar(&last, "for", 0, "how long it plays (default: until withdrawn)")
		fs.BoolVar(&asJSON, "json", false, "print JSON")
	}, func(ctx ctx, a []string) error {
		k, err := parseKey(a[0])
		if err != nil {
			return err
		}
		alias := schemas.StreamKey{App: k.App, Stream: "s-" + strings.ToLower(rand.Text())}
		if as != "" {
			if alias, err = parseKey(as); err != nil {
				return fmt.Errorf("--as: %w", err)
			}
		}
		s := schemas.Share{App: k.App, Stream: k.Stream}
		if last < 0 {
			return fmt.Errorf("--for %s: a share must last for some time", last)
		}
		if last > 0 {
			s.UntilUnix = time.Now().Add(last).Unix()
		}
		if err := b.createShare(ctx, alias, s); err != nil {
			return err
		}
		if asJSON {
			return c.printJSON(map[string]schemas.Share{alias.String(): s})
		}
		_, err = fmt.Fprintln(c.stdout, alias)
		return err
	})
}

// createShare refuses an address that is, or was, something else.
func (b *base) createShare(ctx ctx, alias schemas.StreamKey, s schemas.Share) error {
	err := b.withBucket(ctx, schemas.BucketStreams, func(kv jetstream.KeyValue) error {
		if _, err := kv.Get(ctx, alias.KVKey()); err == nil {
			return fmt.Errorf("%s is a stream of its own: choose another address", alias)
		} else if !errors.Is(err, jetstream.ErrKeyNotFound) {
			return fmt.Errorf("look for a stream %s: %w", alias, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return shareKind.with(ctx, b, func(r *shareRegistry) error {
		if _, err := r.Get(ctx, s.Key().KVKey()); err == nil {
			return fmt.Errorf("%s is itself a share: share the stream behind it", s.Key())
		} else if !errors.Is(err, registry.ErrNone) {
			return err
		}
		_, err := r.Edit(ctx, alias.KVKey(), func(old *schemas.Share, found bool) error {
			if found {
				return fmt.Errorf("the address %s is taken by a share of %s, ended or not: choose another; tokens of the old one may be about", alias, old.Key())
			}
			*old = s
			return nil
		})
		return err
	})
}
