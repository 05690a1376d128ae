// Package clickhouse holds the ClickHouse tables and views of Spillway as SQL
// files and brings a database up to them: tables and their materialized views
// by numbered files, each applied once, and the views that analysts read by one
// file a subject, applied anew whenever it has changed.
//
// It promises: numbered files only ever go forward; what was applied is recorded
// with its hash, and a numbered file that was changed, or is missing in the
// middle, is refused before anything is touched; two processes may migrate at
// once and a migration that was cut off is completed by the next, because every
// statement may be repeated. It never drops anything. Views of a database with
// numbered files that this program does not know are left alone; where programs
// differ in views only, the last one started decides. What the columns mean is said in
// their comments; what the metrics mean, in docs/metrics.md.
package clickhouse

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"regexp"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Tables and views that other parts of Spillway read or write by name.
const (
	TableTelemetry          = "telemetry"
	TableSlices             = "session_slices"
	TableRollupMinute       = "rollup_minute"
	TableRollupStreamMinute = "rollup_stream_minute"
	TableRollupArmMinute    = "rollup_arm_minute"
	TableDecisions          = "decisions"
	TableExposures          = "exposures"
	TableEvents             = "events"
)

// How long rows are kept, days: the TTLs of the schema files, for those who must know what is missing.
const (
	SlicesKeptDays    = 90  // session_slices
	ExposuresKeptDays = 400 // exposures; experiment_units and rollups by minute are kept as long
)

// FileUnits ends the name of the file that makes experiment_units and
// rollup_arm_segment_hour. schema_migrations.applied_at of the first file whose
// name ends so is the time since which they are filled.
const FileUnits = "_experiment_report.sql"

// Options of Migrate. The zero value is usable.
type Options struct {
	Database string       // defaults to "spillway"; created when missing
	Logger   *slog.Logger // one line for each file applied; nil is silent
	Cluster  *Cluster     // make the tables on all its servers; nil: on conn's alone
}

var databaseName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)

// Migrate applies every file that the database has not seen yet. conn needs the
// right to create databases, tables and views. Errors: ErrChanged, ErrGap and
// ErrEarlier, naming the file and what to do; and those of the server.
func Migrate(ctx context.Context, conn driver.Conn, o Options) error {
	s, err := load()
	if err != nil {
		return err
	}
	return migrate(ctx, conn, o, s)
}

func migrate(ctx context.Context, conn driver.Conn, o Options, all schema) error {
	db := cmp.Or(o.Database, "spillway")
	if !databaseName.MatchString(db) {
		return fmt.Errorf("database name %q: only letters, digits and _ are allowed, at most 64", db)
	}
	if o.Cluster == nil {
		return migrateServer(ctx, conn, o, db, all)
	}
	if !databaseName.MatchString(o.Cluster.Name) {
		return fmt.Errorf("cluster name %q: only letters, digits and _ are allowed, at most 64", o.Cluster.Name)
	}
	for i, s := range o.Cluster.Servers() {
		if err := migrateServer(WithDDL(ctx, nil), s, o, db, all); err != nil {
			return fmt.Errorf("cluster %s, server %d: %w", o.Cluster.Name, i+1, err)
		}
	}
	return nil
}

// migrateServer applies files over one connection.
func migrateServer(ctx context.Context, conn driver.Conn, o Options, db string, all schema) error {
	for _, s := range preparing(db, o.Cluster) {
		if err := conn.Exec(ctx, s); err != nil {
			return fmt.Errorf("prepare database %s: %w", db, err)
		}
	}
	if err := checkForm(ctx, conn, db, o.Cluster); err != nil {
		return err
	}
	applied, err := appliedFiles(ctx, conn, db)
	if err != nil {
		return err
	}
	todo, err := plan(all, applied)
	if err != nil {
		return fmt.Errorf("migrate database %s: %w", db, err)
	}
	statements, err := rendered(all.all(), db, o.Cluster)
	if err != nil {
		return err
	}
	for _, f := range todo {
		for i, s := range statements[f.Name] {
			if err := apply(ctx, conn, loadedAnew(s)); err != nil {
				return fmt.Errorf("apply schema file %s, statement %d: %w", f.Name, i+1, err)
			}
		}
		// The settings make the record visible once Exec returns, whatever the server's defaults.
		ctx := clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"async_insert": 0}))
		if err := conn.Exec(ctx, "INSERT INTO "+db+".schema_migrations SELECT ?, ?, now64(3)", f.Name, f.SHA256()); err != nil {
			return fmt.Errorf("record schema file %s: %w", f.Name, err)
		}
		if o.Logger != nil {
			o.Logger.Info("schema file applied", "file", f.Name, "database", db)
		}
	}
	return nil
}

// apply runs the statements that one of a file became. Where they are several, a view is away for a moment: who migrates
// at the same time finds it gone, or there again, and begins anew.
func apply(ctx context.Context, conn driver.Conn, statements []string) error {
	for try := 0; ; try++ {
		err := func() error {
			for _, s := range statements {
				if err := conn.Exec(ctx, s); err != nil {
					return err
				}
			}
			return nil
		}()
		var said *clickhouse.Exception
		if err == nil || len(statements) == 1 || try == 50 || !errors.As(err, &said) || !slices.Contains(away, said.Code) {
			return err
		}
		select {
		case <-time.After(time.Duration(20+rand.IntN(80)) * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// away are the errors UNKNOWN_TABLE, TABLE_ALREADY_EXISTS and TABLE_IS_DROPPED.
var away = []int32{60, 57, 218}

// newQuery is a statement that gives a materialized view another query.
var newQuery = regexp.MustCompile(`(?m)^ALTER TABLE (\S+)( ON CLUSTER '[^']*'| ON CLUSTER \S+)? MODIFY QUERY$`)

// loadedAnew gives a statement, and where it changes the query of a materialized view those that have the server load
// the view anew. Without them the view hands other deduplication tokens to its table than after the server's next
// start (seen with 26.7), so a block that a crash cut short between the two would be in the roll-up twice when it is
// repeated. What is inserted while the view is away is not in the roll-up: loaders must not write during a migration.
func loadedAnew(s string) []string {
	m := newQuery.FindStringSubmatch(s)
	if m == nil {
		return []string{s}
	}
	view := m[1] + m[2]
	// The first one mends what a migration left behind that was cut short.
	return []string{"ATTACH TABLE IF NOT EXISTS " + view, s, "DETACH TABLE " + view + " SYNC", "ATTACH TABLE IF NOT EXISTS " + view}
}

// preparing makes the database and the table of applied files. On a replicated
// cluster that table is one for all servers, whichever is asked.
func preparing(db string, c *Cluster) []string {
	on, engine := "", "ReplacingMergeTree"
	if c != nil {
		on = c.OnCluster()
		if c.Replicated {
			engine = "ReplicatedReplacingMergeTree('/clickhouse/tables/all/" + db + "/schema_migrations', '{shard}_{replica}')"
		}
	}
	return []string{
		"CREATE DATABASE IF NOT EXISTS " + db + on,
		"CREATE TABLE IF NOT EXISTS " + db + ".schema_migrations" + on + `
(
    name       String                 COMMENT 'schema file that was applied',
    sha256     String                 COMMENT 'SHA-256 of the file, hex',
    applied_at DateTime64(3, 'UTC')   COMMENT 'when it was applied, UTC; from the server'
)
ENGINE = ` + engine + ` ORDER BY (name, sha256)
COMMENT 'schema files applied to this database; written by the migrator'`,
	}
}

// rendered gives the statements of each file in the form that c asks for.
func rendered(all []File, db string, c *Cluster) (map[string][]string, error) {
	out, tables := map[string][]string{}, map[string]bool{}
	for _, f := range all {
		if c == nil {
			out[f.Name] = f.Statements(db)
			continue
		}
		s, err := f.ClusterStatements(db, c, tables)
		if err != nil {
			return nil, err
		}
		out[f.Name] = s
	}
	return out, nil
}
