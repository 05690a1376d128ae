package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Errors that Migrate wraps.
var (
	// ErrChanged says that a file of tables applied earlier has other content now.
	ErrChanged = errors.New("applied schema file was changed")
	// ErrGap says that files applied and files known do not line up.
	ErrGap = errors.New("schema files have a gap")
	// ErrEarlier says that a database was made by a program from before
	// tables/, and not by the last one of those.
	ErrEarlier = errors.New("database was made by an earlier program")
)

type appliedFile struct{ name, sha256 string }

// appliedFiles gives what was recorded, the last applied last.
func appliedFiles(ctx context.Context, conn driver.Conn, db string) ([]appliedFile, error) {
	rows, err := conn.Query(ctx, "SELECT name, sha256 FROM "+db+".schema_migrations GROUP BY name, sha256 ORDER BY max(applied_at), name")
	if err != nil {
		return nil, fmt.Errorf("read applied schema files: %w", err)
	}
	defer rows.Close()
	var out []appliedFile
	for rows.Next() {
		var a appliedFile
		if err := rows.Scan(&a.name, &a.sha256); err != nil {
			return nil, fmt.Errorf("read applied schema files: %w", err)
		}
		out = append(out, a)
	}
	return out, rows.Err()
}

// plan checks what was applied against the files and gives those to apply.
func plan(s schema, applied []appliedFile) ([]File, error) {
	var tables, earlier []appliedFile
	views := map[string]string{} // name to the hash applied last
	for _, a := range applied {
		switch {
		case strings.HasPrefix(a.name, "tables/"):
			tables = append(tables, a)
		case strings.HasPrefix(a.name, "views/"):
			views[a.name] = a.sha256
		default:
			earlier = append(earlier, a)
		}
	}
	if err := takeOver(s.earlier, earlier); err != nil {
		return nil, err
	}
	todo, newer, err := planTables(s.tables, tables)
	if err != nil || newer {
		return todo, err
	}
	for _, f := range s.views {
		if views[f.Name] != f.SHA256() {
			todo = append(todo, f)
		}
	}
	return todo, nil
}

// takeOver checks a database that earlier files have made. Where all of them
// were applied it has everything that the first files of tables make, and these,
// which create what is not there, change nothing and are only recorded.
func takeOver(known, applied []appliedFile) error {
	if len(applied) == 0 {
		return nil
	}
	done := make(map[appliedFile]bool, len(applied))
	for _, a := range applied {
		done[a] = true
	}
	for _, k := range known {
		if !done[k] {
			return fmt.Errorf("%w: its file %s was not applied as it was last: let the last program from before tables/, whose files end with %s, migrate the database once, then this one; or begin with an empty database",
				ErrEarlier, k.name, known[len(known)-1].name)
		}
		delete(done, k)
	}
	for a := range done {
		return fmt.Errorf("%w: this one does not know its file %s: use the program that belongs to the database", ErrEarlier, a.name)
	}
	return nil
}

// planTables gives the numbered files to apply. Files applied beyond the last
// one known are those of a newer program, which it tells; they are left alone,
// because files only add.
func planTables(all []File, applied []appliedFile) (todo []File, newer bool, err error) {
	known := make(map[string]File, len(all))
	for i, f := range all {
		if want := fmt.Sprintf("tables/%04d_", i+1); !strings.HasPrefix(f.Name, want) {
			return nil, false, fmt.Errorf("%w: file %s stands where one named %s... belongs: number the files without holes", ErrGap, f.Name, want)
		}
		known[f.Name] = f
	}
	done := make(map[string]bool, len(applied))
	lastApplied := ""
	for _, a := range applied {
		f, ok := known[a.name]
		switch {
		case ok && f.SHA256() != a.sha256:
			return nil, false, fmt.Errorf("%w: %s was applied with hash %.12s and now has %.12s: restore the file and put the change into a new one with the next number",
				ErrChanged, a.name, a.sha256, f.SHA256())
		case !ok && len(all) > 0 && a.name < all[len(all)-1].Name:
			return nil, false, fmt.Errorf("%w: %s was applied to the database but this program does not have it: restore the file, or use the program that belongs to the database", ErrGap, a.name)
		case !ok:
			newer = true
		}
		done[a.name] = true
		lastApplied = max(lastApplied, a.name)
	}
	for _, f := range all {
		if done[f.Name] {
			continue
		}
		if f.Name < lastApplied {
			return nil, false, fmt.Errorf("%w: %s was never applied although the later %s was: give it a number after the last", ErrGap, f.Name, lastApplied)
		}
		todo = append(todo, f)
	}
	return todo, newer, nil
}
