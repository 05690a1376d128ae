package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"path/filepath"

	chgo "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/analytics/erase"
	"github.com/spillway-live/spillway/testenv/clickhouse"
)

// eraseCommand deletes what is stored about a viewer.
func (c *commands) eraseCommand() *ffcli.Command {
	var b base
	var viewer string
	var asJSON bool
	return c.command("erase", "", "delete what ClickHouse holds about a viewer, and say how much it was", 0, func(fs *flag.FlagSet) {
		b.register(fs)
		fs.StringVar(&viewer, "viewer", "", "`ID` of the viewer as your application names it; needed")
		fs.BoolVar(&asJSON, "json", false, "print JSON")
	}, func(ctx ctx, _ []string) error {
		if viewer == "" {
			return errors.New("--viewer is missing: name the viewer as your application does")
		}
		sec, err := loadSecrets(b.runDataDir())
		if err != nil {
			return err
		}
		dsn, err := b.clickhouseAdminURL()
		if err != nil {
			return err
		}
		o, err := chgo.ParseDSN(dsn)
		if err != nil {
			return fmt.Errorf("--clickhouse: %w: give clickhouse://user:password@host:9000/spillway", err)
		}
		conn, err := chgo.Open(o)
		if err != nil {
			return fmt.Errorf("open ClickHouse: %w", err)
		}
		defer conn.Close()
		r, err := erase.Viewer(ctx, conn, "", sec.viewerHashes(viewer))
		if err != nil {
			return err
		}
		if asJSON {
			e := json.NewEncoder(c.stdout)
			e.SetIndent("", "  ")
			return e.Encode(r)
		}
		return r.WriteText(c.stdout)
	})
}

// clickhouseAdminURL is ClickHouse for a user who may delete: as told, or the
// administrator of the running "up", whose password is in the data directory.
func (b *base) clickhouseAdminURL() (string, error) {
	u, err := b.clickhouseURL()
	if err != nil || b.clickhouse != "" {
		return u, err
	}
	return clickhouse.AdminURL(filepath.Join(b.runDataDir(), "clickhouse"), u)
}
