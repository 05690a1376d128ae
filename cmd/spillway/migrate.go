package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"

	chgo "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/peterbourgon/ff/v3/ffcli"

	schemach "github.com/spillway-live/spillway/schemas/clickhouse"
)

func (b *base) registerCluster(fs *flag.FlagSet) {
	fs.StringVar(&b.cluster, "clickhouse-cluster", "", "`NAME` of the ClickHouse cluster (of system.clusters) that holds the tables (default: a single server does)")
}

// migrateCommand makes the tables, for systems whose roles run alone; "up" does the same when it starts.
func (c *commands) migrateCommand() *ffcli.Command {
	var b base
	return c.command("migrate", "", "make ClickHouse's tables and views, or bring them up to this program", 0, func(fs *flag.FlagSet) {
		b.register(fs)
		b.registerCluster(fs)
	}, func(ctx ctx, _ []string) error {
		dsn, err := b.clickhouseAdminURL()
		if err != nil {
			return err
		}
		logger, err := b.logger(c.stderr)
		if err != nil {
			return err
		}
		return migrate(ctx, dsn, b.cluster, logger)
	})
}

// migrate brings the tables at dsn up to this program, on the whole cluster if one is named.
func migrate(ctx context.Context, dsn, clusterName string, logger *slog.Logger) error {
	conn, err := openDSN(dsn)
	if err != nil {
		return err
	}
	defer conn.Close()
	cluster, err := findCluster(ctx, conn, dsn, clusterName)
	if err != nil {
		return err
	}
	defer cluster.Close()
	return schemach.Migrate(ctx, conn, schemach.Options{Logger: logger, Cluster: cluster})
}

// findCluster gives nil where no name is given.
func findCluster(ctx context.Context, conn driver.Conn, dsn, name string) (*schemach.Cluster, error) {
	if name == "" {
		return nil, nil
	}
	return schemach.FindCluster(ctx, conn, name, func(addr string) (driver.Conn, error) {
		o, err := parseDSN(dsn)
		if err != nil {
			return nil, err
		}
		o.Addr = []string{addr}
		return chgo.Open(o)
	})
}

// database is where all tables and views are. Views name it, so it cannot be another.
const database = "spillway"

// parseDSN reads a data source name and refuses one of another database: what is
// written and read is in [database] in any case.
func parseDSN(dsn string) (*chgo.Options, error) {
	o, err := chgo.ParseDSN(dsn)
	if err != nil {
		return nil, fmt.Errorf("--clickhouse: %w: give clickhouse://user:password@host:9000/%s", err, database)
	}
	if o.Auth.Database != "" && o.Auth.Database != database {
		return nil, fmt.Errorf("--clickhouse: the URL names the database %.100q, but all tables are in %q: end it in /%s, or in no name, and keep systems apart by server", o.Auth.Database, database, database)
	}
	return o, nil
}

// openDSN opens the native protocol at a data source name.
func openDSN(dsn string) (driver.Conn, error) {
	o, err := parseDSN(dsn)
	if err != nil {
		return nil, err
	}
	return openOptions(o)
}

// openOptions opens what parseDSN gave.
func openOptions(o *chgo.Options) (driver.Conn, error) {
	if o.Settings == nil {
		o.Settings = chgo.Settings{}
	}
	o.Settings["distributed_product_mode"] = "global" // on a cluster, subqueries are of all shards
	conn, err := chgo.Open(o)
	if err != nil {
		return nil, fmt.Errorf("open ClickHouse: %w", err)
	}
	return conn, nil
}
