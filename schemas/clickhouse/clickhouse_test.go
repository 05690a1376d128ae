package clickhouse

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write golden files anew")

func mustFiles(t *testing.T) []File {
	t.Helper()
	all, err := Files()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 8 {
		t.Fatalf("%d schema files, want at least 8", len(all))
	}
	return all
}

// What code says of how long rows are kept is what the tables say.
func TestKeptDaysAreThoseOfTheTables(t *testing.T) {
	for table, days := range map[string]int{TableSlices: SlicesKeptDays, TableExposures: ExposuresKeptDays, "experiment_units": ExposuresKeptDays, TableRollupArmMinute: ExposuresKeptDays} {
		found := 0
		for _, f := range mustFiles(t) {
			for _, s := range f.Statements("db") {
				if !strings.Contains(s, "CREATE TABLE IF NOT EXISTS db."+table+"\n") {
					continue
				}
				found++
				if !regexp.MustCompile(fmt.Sprintf(`(?m)^TTL .* \+ INTERVAL %d DAY$`, days)).MatchString(s) {
					t.Errorf("%s is not kept for %d days: %s", table, days, s[strings.LastIndex(s, "ENGINE"):])
				}
			}
		}
		if found != 1 {
			t.Errorf("%s is made %d times", table, found)
		}
	}
}

func TestEveryStatementMayBeRepeated(t *testing.T) {
	ok := regexp.MustCompile(`^(--[^\n]*\n|\n)*(CREATE (TABLE|VIEW|MATERIALIZED VIEW) IF NOT EXISTS|CREATE OR REPLACE VIEW|ALTER TABLE \S+ (ADD COLUMN IF NOT EXISTS|ADD INDEX IF NOT EXISTS|COMMENT COLUMN IF EXISTS|MODIFY COLUMN IF EXISTS|MODIFY SETTING|MODIFY QUERY))\s`)
	for _, f := range mustFiles(t) {
		st := f.Statements("db")
		if len(st) == 0 {
			t.Errorf("%s has no statement", f.Name)
		}
		for i, s := range st {
			if !ok.MatchString(s) {
				t.Errorf("%s, statement %d may not be repeatable: %.120s", f.Name, i+1, s)
			}
			if strings.Contains(s, "${") {
				t.Errorf("%s, statement %d has an unknown placeholder", f.Name, i+1)
			}
		}
	}
}

func TestPlan(t *testing.T) {
	f := func(name, sql string) File { return File{Name: name, SQL: sql} }
	a, b, c := f("0001_a.sql", "a"), f("0002_b.sql", "b"), f("0003_c.sql", "c")
	done := func(fs ...File) (out []appliedFile) {
		for _, f := range fs {
			out = append(out, appliedFile{f.Name, f.SHA256()})
		}
		return out
	}
	for _, tc := range []struct {
		name    string
		all     []File
		applied []appliedFile
		todo    int
		err     error
		says    string
	}{
		{"empty database", []File{a, b, c}, nil, 3, nil, ""},
		{"some applied", []File{a, b, c}, done(a), 2, nil, ""},
		{"all applied", []File{a, b, c}, done(a, b, c), 0, nil, ""},
		{"database of a newer program", []File{a, b}, done(a, b, c), 0, nil, ""},
		{"changed", []File{a, f("0002_b.sql", "other"), c}, done(a, b), 0, ErrChanged, "0002_b.sql"},
		{"file gone in the middle", []File{a, f("0002_x.sql", "x"), c}, done(a, b), 0, ErrGap, "0002_b.sql"},
		{"not applied in the middle", []File{a, b, c}, done(a, c), 0, ErrGap, "0002_b.sql"},
		{"hole in the numbers", []File{a, c}, nil, 0, ErrGap, "0003_c.sql"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			todo, err := plan(tc.all, tc.applied)
			if !errors.Is(err, tc.err) || (err != nil && !strings.Contains(err.Error(), tc.says)) {
				t.Fatalf("error %v, want %v naming %q", err, tc.err, tc.says)
			}
			if len(todo) != tc.todo {
				t.Errorf("%d files to apply, want %d", len(todo), tc.todo)
			}
		})
	}
}

// golden compares got with testdata/<name>; -update writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	p := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(p)
	if err != nil {
		t.Fatalf("%v; run the test with -update to write it", err)
	}
	if string(want) != got {
		t.Errorf("%s differs from what the server says; if the change is meant, run with -update and review the diff\ngot:\n%s", p, got)
	}
}
