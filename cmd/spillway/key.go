package main

import (
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
)

// keyCommand makes keys: signed, expiring, for one application or one stream.
// Without a subcommand it makes a publish key.
func (c *commands) keyCommand() *ffcli.Command {
	k := c.keyPublish("key", "make a publish key: rtmp://HOST/APP/STREAM?key=KEY; \"key play\" makes one for viewers")
	k.Subcommands = []*ffcli.Command{c.keyPublish("key publish", "make a publish key"), c.keyPlay()}
	return k
}

// keyScope reads APP[/STREAM].
func keyScope(s string) (app, stream string, err error) {
	app, stream, one := cutSlash(s)
	if err := schemas.CheckName("application name", app); err != nil {
		return "", "", err
	}
	if one {
		err = schemas.CheckName("stream name", stream)
	}
	return app, stream, err
}

func (c *commands) keyPublish(name, help string) *ffcli.Command {
	var b base
	var valid time.Duration
	return c.command(name, "APP[/STREAM]", help, 1, func(fs *flag.FlagSet) {
		b.register(fs)
		fs.DurationVar(&valid, "valid", 30*24*time.Hour, "how long it is good for")
	}, func(_ ctx, a []string) error {
		app, stream, err := keyScope(a[0])
		if err != nil {
			return err
		}
		if valid <= 0 {
			return fmt.Errorf("--valid %s: a key must be good for some time", valid)
		}
		return c.printKey(&b, func(_ *secrets, s *token.Signer) (string, error) {
			return s.SignPublish(token.Publish{App: app, Stream: stream, ExpiresUnix: time.Now().Add(valid).Unix()})
		})
	})
}

func (c *commands) keyPlay() *ffcli.Command {
	var b base
	var last time.Duration
	var viewer string
	var ends bool
	return c.command("key play", "APP[/STREAM]", "make a play key of a private stream, or of all streams of an application", 1, func(fs *flag.FlagSet) {
		b.register(fs)
		fs.DurationVar(&last, "for", time.Hour, "how long views may begin with it")
		fs.StringVar(&viewer, "viewer", "", "`ID` of the viewer as your application names it; only a salted hash of it is in the key")
		fs.BoolVar(&ends, "ends-views", false, "end views that were begun with it when it ends")
	}, func(_ ctx, a []string) error {
		app, stream, err := keyScope(a[0])
		if err != nil {
			return err
		}
		if last <= 0 {
			return fmt.Errorf("--for %s: a key must be good for some time", last)
		}
		if len(viewer) > 128 {
			return errors.New("--viewer is longer than 128 bytes")
		}
		return c.printKey(&b, func(sec *secrets, s *token.Signer) (string, error) {
			return s.SignPlay(token.Play{
				App: app, Stream: stream, ViewerID: token.HashViewer(sec.ViewerSalt, viewer), EndsViews: ends, ExpiresUnix: time.Now().Add(last).Unix(),
			})
		})
	})
}

func (c *commands) printKey(b *base, sign func(*secrets, *token.Signer) (string, error)) error {
	sec, err := loadSecrets(b.runDataDir())
	if err != nil {
		return err
	}
	s, err := sec.signer()
	if err != nil {
		return err
	}
	k, err := sign(sec, s)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.stdout, k)
	return err
}
