package main

import (
	"encoding/json"
	"errors"
	"flag"
	"path/filepath"

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
		b.registerCluster(fs)
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
		conn, err := openDSN(dsn)
		if err != nil {
			return err
		}
		defer conn.Close()
		cluster, err := findCluster(ctx, conn, dsn, b.cluster)
		if err != nil {
			return err
		}
		defer cluster.Close()
		r, err := erase.Viewer(ctx, erase.Settings{ClickHouse: conn, Cluster: cluster}, sec.viewerHashes(viewer))
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
