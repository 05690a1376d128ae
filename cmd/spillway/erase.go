package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"time"

	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/analytics/erase"
	"github.com/spillway-live/spillway/testenv/clickhouse"
)

// eraseCommand deletes what is stored about a viewer, and has erasers delete what is still on its way.
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
		logger, err := b.logger(c.stderr)
		if err != nil {
			return err
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
		hashes := sec.viewerHashes(viewer)
		// First, so that what arrives while this runs is deleted too.
		nc, js, err := b.connect(ctx, "spillway-erase", logger)
		if err != nil {
			return err
		}
		defer nc.Close()
		if err := erase.Ask(ctx, js, hashes, time.Now()); err != nil {
			return err
		}
		r, err := erase.Viewer(ctx, erase.Settings{ClickHouse: conn, Cluster: cluster}, hashes)
		if err != nil {
			return fmt.Errorf("%w (erasers go on with it)", err)
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

// eraserRole deletes rows of erased viewers as they arrive, at the ClickHouse of dsn.
func (d *deps) eraserRole(ctx ctx, dsn, clusterName string) (role, error) {
	conn, err := openDSN(dsn)
	if err != nil {
		return role{}, err
	}
	cluster, err := findCluster(ctx, conn, dsn, clusterName)
	if err != nil {
		conn.Close()
		return role{}, err
	}
	s := erase.Sweeper{JetStream: d.js, Settings: erase.Settings{ClickHouse: conn, Cluster: cluster}, Logger: d.log("eraser"), Registerer: d.reg}
	return role{"eraser", func(ctx context.Context) error {
		defer conn.Close()
		defer cluster.Close()
		return s.Run(ctx)
	}}, nil
}

func (c *commands) eraserCommand() *ffcli.Command {
	f := &roleFlags{}
	return c.command("eraser", "", "delete rows of erased viewers as they arrive; its ClickHouse user needs ALTER DELETE", 0, f.register, func(ctx ctx, _ []string) error {
		dsn, err := f.clickhouseAdminURL()
		if err != nil {
			return err
		}
		return c.serveRole(ctx, f, "eraser", func(d *deps) ([]role, error) {
			r, err := d.eraserRole(ctx, dsn, f.cluster)
			return []role{r}, err
		})
	})
}
