// Package erase deletes what is stored about one viewer from ClickHouse.
//
// It promises: once Viewer has returned without error no table has a row that
// bears one of the viewer's hashes, or no viewer and the id of a session that
// did (in experiment_units, the hash of one). Rows that bear another viewer's hash stay, whatever their session's id:
// players choose it, and two may choose the same. Roll-ups
// are left as they are: they hold sums by place, device and time, and no ids.
// What is still on its way (bus, spools, open sessions) is deleted as it
// arrives by a Sweeper, which follows the requests that Ask leaves on the bus
// for schemas.ErasureKept. Messages on the bus are not rewritten: they hold rows
// of many viewers, and blocks of them must be repeated identically; the bus's
// own retention ends them (docs/operator.md says when each copy is gone).
package erase

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	chgo "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/clickhouse"
)

// chunk is how many session ids one statement names.
const chunk = 1000

// Report says what was deleted.
type Report struct {
	Hashes   int           `json:"hashes"`   // salted hashes looked for: one for each salt kept
	Sessions int           `json:"sessions"` // playback sessions of the viewer
	Tables   []TableReport `json:"tables"`
}

// TableReport is one table's share.
type TableReport struct {
	Table   string `json:"table"`
	Deleted uint64 `json:"deleted"` // rows
}

// WriteText prints the report for people.
func (r *Report) WriteText(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "%d hashes of the viewer, %d sessions\n", r.Hashes, r.Sessions); err != nil {
		return err
	}
	for _, t := range r.Tables {
		if _, err := fmt.Fprintf(w, "%-16s %d rows deleted\n", t.Table, t.Deleted); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w, "roll-ups: unchanged, they hold sums and no ids\nwhat is still on its way is deleted as it arrives, for eight days")
	return err
}

// target is a table and the id columns it has.
type target struct {
	name                  string
	viewer, session, unit bool
	// hash: it has unit_hash, sipHash64 of a viewer's hash or of a session's id.
	hash bool
}

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)

// Settings say where rows are deleted.
type Settings struct {
	// ClickHouse needs SELECT and ALTER DELETE on the database.
	ClickHouse driver.Conn
	Database   string // default: spillway
	// Cluster holds the tables, where ClickHouse is one of several servers; every shard is erased on.
	Cluster *clickhouse.Cluster
}

// Viewer deletes every row of the viewer with these hashes, waits until it is
// done, and counts again. An error says which table is not finished; repeat it then.
func Viewer(ctx context.Context, s Settings, hashes []string) (*Report, error) {
	conn, database := s.ClickHouse, cmp.Or(s.Database, "spillway")
	if !identifier.MatchString(database) {
		return nil, fmt.Errorf("database name %q: only letters, digits and _ are allowed", database)
	}
	// On one server of a cluster only that server's rows would go, unnoticed.
	if on, _, err := clickhouse.FormOf(ctx, conn, database); err != nil {
		return nil, err
	} else if on && s.Cluster == nil {
		return nil, fmt.Errorf("database %s is on a cluster: name it (--clickhouse-cluster), so that all its shards are erased on", database)
	} else if !on && s.Cluster != nil {
		return nil, fmt.Errorf("database %s is not on a cluster: leave --clickhouse-cluster away", database)
	}
	if len(hashes) == 0 {
		return nil, fmt.Errorf("no hash of a viewer given")
	}
	for _, h := range hashes {
		if err := schemas.CheckViewerHash(h); err != nil {
			return nil, err
		}
	}
	tables, err := targets(ctx, conn, database, s.Cluster != nil)
	if err != nil {
		return nil, err
	}
	sessions, err := sessionsOf(ctx, conn, database, tables, hashes)
	if err != nil {
		return nil, err
	}
	r := &Report{Hashes: len(hashes), Sessions: len(sessions)}
	for _, t := range tables {
		r.Tables = append(r.Tables, TableReport{Table: t.name})
	}
	// Rows with the viewer's hash lead to the sessions, so they go last: a run that was cut off can be repeated.
	for _, conditions := range []func(target) []string{
		func(t target) []string { return t.bySession(sessions) },
		func(t target) []string { return t.byViewer(hashes) },
	} {
		for i, t := range tables {
			for _, where := range conditions(t) {
				n, err := s.remove(ctx, database+"."+t.name, where)
				if err != nil {
					return r, err
				}
				r.Tables[i].Deleted += n
			}
		}
	}
	return r, nil
}

// targets are the tables that store ids; views and the roll-ups have none. On
// a cluster they are those that read all shards, which have the same columns.
func targets(ctx context.Context, conn driver.Conn, database string, cluster bool) ([]target, error) {
	engine := "%MergeTree"
	if cluster {
		engine = "Distributed"
	}
	rows, err := conn.Query(ctx, `SELECT table, has(groupArray(name), 'viewer_id'), has(groupArray(name), 'session_id'), has(groupArray(name), 'unit'), has(groupArray(name), 'unit_hash')
		FROM system.columns WHERE database = ? AND name IN ('viewer_id', 'session_id', 'unit', 'unit_hash')
		AND table IN (SELECT name FROM system.tables WHERE database = ? AND engine LIKE ?) GROUP BY table ORDER BY table`, database, database, engine)
	if err != nil {
		return nil, fmt.Errorf("list tables of %s: %w", database, err)
	}
	defer rows.Close()
	var out []target
	for rows.Next() {
		var t target
		var v, s, u, h uint8
		if err := rows.Scan(&t.name, &v, &s, &u, &h); err != nil {
			return nil, fmt.Errorf("list tables of %s: %w", database, err)
		}
		t.viewer, t.session, t.unit, t.hash = v == 1, s == 1, u == 1, h == 1
		out = append(out, t)
	}
	return out, rows.Err()
}

// sessionsOf finds the viewer's sessions in every table: rows that edges logged have the session and no viewer.
func sessionsOf(ctx context.Context, conn driver.Conn, database string, tables []target, hashes []string) ([]string, error) {
	seen := map[string]bool{}
	for _, t := range tables {
		if !t.viewer || !t.session {
			continue
		}
		rows, err := conn.Query(ctx, "SELECT DISTINCT session_id FROM "+database+"."+t.name+" WHERE session_id != '' AND "+in("viewer_id", hashes))
		if err != nil {
			return nil, fmt.Errorf("find sessions in %s: %w", t.name, err)
		}
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				rows.Close()
				return nil, fmt.Errorf("find sessions in %s: %w", t.name, err)
			}
			seen[id] = true
		}
		err = rows.Err()
		rows.Close()
		if err != nil {
			return nil, fmt.Errorf("find sessions in %s: %w", t.name, err)
		}
	}
	out := make([]string, 0, len(seen))
	for id := range seen {
		out = append(out, id)
	}
	slices.Sort(out)
	return out, nil
}

func (t target) byViewer(hashes []string) []string {
	var ids []string
	if t.viewer {
		ids = append(ids, in("viewer_id", hashes))
	}
	if t.unit {
		ids = append(ids, in("unit", hashes))
	}
	if t.hash {
		ids = append(ids, hashIn(hashes))
	}
	if len(ids) == 0 {
		return nil
	}
	return []string{strings.Join(ids, " OR ")}
}

// bySession are the rows of the sessions that bear no viewer: those of another's stay, who has chosen the same id.
func (t target) bySession(sessions []string) (out []string) {
	if t.hash {
		for part := range slices.Chunk(sessions, chunk) {
			out = append(out, hashIn(part))
		}
	}
	if !t.session {
		return out
	}
	for part := range slices.Chunk(sessions, chunk) {
		where := in("session_id", part)
		if t.viewer {
			where += " AND viewer_id = ''"
		}
		out = append(out, where)
	}
	return out
}

// in names the values in the statement itself: a mutation is kept as text, and may run later.
func in(column string, values []string) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(v) + "'"
	}
	return column + " IN (" + strings.Join(quoted, ", ") + ")"
}

// hashIn is in for a column that holds sipHash64 of the values.
func hashIn(values []string) string {
	return "has(arrayMap(v -> sipHash64(v), [" + strings.TrimSuffix(strings.TrimPrefix(in("", values), " IN ("), ")") + "]), unit_hash)"
}

// remove deletes and gives how many rows there were.
func (s *Settings) remove(ctx context.Context, table, where string) (n uint64, err error) {
	count := "SELECT count() FROM " + table + " WHERE " + where
	if err := s.ClickHouse.QueryRow(ctx, count).Scan(&n); err != nil {
		return 0, fmt.Errorf("count rows in %s: %w", table, err)
	}
	if n == 0 {
		return 0, nil
	}
	wait := clickhouse.WithDDL(ctx, chgo.Settings{"mutations_sync": 2}) // 2: wait for it, on all replicas
	servers, on := []driver.Conn{s.ClickHouse}, ""
	if s.Cluster != nil {
		servers, on, table = s.Cluster.Servers(), s.Cluster.OnCluster(), clickhouse.Local(table)
	}
	for _, server := range servers {
		if err := server.Exec(wait, "ALTER TABLE "+table+on+" DELETE WHERE "+where); err != nil {
			return 0, fmt.Errorf("delete from %s: %w", table, err)
		}
	}
	return n, nil
}
