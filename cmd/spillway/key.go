package main

import (
	"flag"
	"fmt"
	"time"

	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
)

// keyCommand makes a publish key: signed, expiring, for one application or one stream.
func (c *commands) keyCommand() *ffcli.Command {
	var b base
	var valid time.Duration
	return c.command("key", "APP[/STREAM]", "make a publish key: rtmp://HOST/APP/STREAM?key=KEY", 1, func(fs *flag.FlagSet) {
		b.register(fs)
		fs.DurationVar(&valid, "valid", 30*24*time.Hour, "how long it is good for")
	}, func(_ ctx, a []string) error {
		app, stream, one := cutSlash(a[0])
		if err := schemas.CheckName("application name", app); err != nil {
			return err
		}
		if one {
			if err := schemas.CheckName("stream name", stream); err != nil {
				return err
			}
		}
		if valid <= 0 {
			return fmt.Errorf("--valid %s: a key must be good for some time", valid)
		}
		sec, err := loadSecrets(b.runDataDir())
		if err != nil {
			return err
		}
		s, err := sec.signer()
		if err != nil {
			return err
		}
		k, err := s.SignPublish(token.Publish{App: app, Stream: stream, ExpiresUnix: time.Now().Add(valid).Unix()})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(c.stdout, k)
		return err
	})
}
