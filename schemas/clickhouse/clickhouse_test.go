package clickhouse

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write golden files anew")

func mustLoad(t *testing.T) schema {
	t.Helper()
	s, err := load()
	if err != nil {
		t.Fatal(err)
	}
	if len(s.tables) < 12 || len(s.views) < 7 || len(s.earlier) != 28 {
		t.Fatalf("%d files of tables, %d of views, %d earlier ones", len(s.tables), len(s.views), len(s.earlier))
	}
	return s
}

// What code says of how long rows are kept is what the tables say.
func TestKeptDaysAreThoseOfTheTables(t *testing.T) {
	for table, days := range map[string]int{TableSlices: SlicesKeptDays, TableExposures: ExposuresKeptDays, "experiment_units": ExposuresKeptDays, TableRollupArmMinute: ExposuresKeptDays} {
		found := 0
		for _, f := range mustLoad(t).tables {
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
	s := mustLoad(t)
	start := `^(--[^\n]*\n|\n)*`
	check := func(files []File, ok *regexp.Regexp) {
		for _, f := range files {
			st := f.Statements("db")
			if len(st) == 0 {
				t.Errorf("%s has no statement", f.Name)
			}
			for i, s := range st {
				if !ok.MatchString(s) {
					t.Errorf("%s, statement %d may not be repeatable, or belongs elsewhere: %.120s", f.Name, i+1, s)
				}
				if strings.Contains(s, "${") || strings.Contains(s, "<no value>") {
					t.Errorf("%s, statement %d has an unknown placeholder", f.Name, i+1)
				}
			}
		}
	}
	check(s.tables, regexp.MustCompile(start+`(CREATE (TABLE|MATERIALIZED VIEW) IF NOT EXISTS|ALTER TABLE \S+ (ADD COLUMN IF NOT EXISTS|ADD INDEX IF NOT EXISTS|COMMENT COLUMN IF EXISTS|MODIFY COLUMN IF EXISTS|MODIFY SETTING|MODIFY QUERY))\s`))
	check(s.views, regexp.MustCompile(start+`CREATE OR REPLACE VIEW\s`))
}

// TestFileUnits: reports find the file by its name, in databases of the earlier files as in those of today's.
func TestFileUnits(t *testing.T) {
	s := mustLoad(t)
	var today, earlier int
	for _, f := range s.tables {
		if strings.HasSuffix(f.Name, FileUnits) && strings.Contains(f.SQL, ".experiment_units\n") && strings.Contains(f.SQL, ".rollup_arm_segment_hour\n") {
			today++
		}
	}
	for _, f := range s.earlier {
		if strings.HasSuffix(f.name, FileUnits) {
			earlier++
		}
	}
	if today != 1 || earlier != 1 {
		t.Errorf("%d files and %d earlier ones end with %s and make the tables, want one each", today, earlier, FileUnits)
	}
}

func TestViewsAreTemplates(t *testing.T) {
	got, err := expand("views/x.sql", `{{range lines "v a b\n\nw c"}}{{range spans (index . 0)}}{{.Name}} {{.From}} {{.At}}; {{end}}{{join (slice . 1)}}. {{end}}{{range levels "day"}}{{.Name}}={{.Level}} {{end}}{{index (dict "k" 1) "k"}}`)
	want := "minute v_minute minute; hour v_hour hour; day v_hour toStartOfDay(r.hour) AS day; a, b. " +
		"minute w_minute minute; hour w_hour hour; day w_hour toStartOfDay(r.hour) AS day; c. p50=0.50 p90=0.90 p95=0.95 p99=0.99 1"
	if err != nil || got != want {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
	for _, bad := range []string{"{{if}}", `{{dict "k"}}`, `{{dict 1 2}}`, `{{template "none"}}`} {
		if _, err := expand("views/x.sql", bad); err == nil || !strings.Contains(err.Error(), "views/x.sql") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestPlan(t *testing.T) {
	f := func(name, sql string) File { return File{Name: name, SQL: sql} }
	a, b, c := f("tables/0001_a.sql", "a"), f("tables/0002_b.sql", "b"), f("tables/0003_c.sql", "c")
	v, w, v2 := f("views/v.sql", "v"), f("views/w.sql", "w"), f("views/v.sql", "v2")
	x, y, x2 := f("0001_x.sql", "x"), f("0002_y.sql", "y"), f("0001_x.sql", "x2")
	done := func(fs ...File) (out []appliedFile) {
		for _, f := range fs {
			out = append(out, appliedFile{f.Name, f.SHA256()})
		}
		return out
	}
	of := func(fs ...File) []File { return fs }
	for _, tc := range []struct {
		name    string
		tables  []File
		applied []appliedFile
		todo    []File
		err     error
		says    string
	}{
		{"empty database", of(a, b, c), nil, of(a, b, c, v, w), nil, ""},
		{"some applied", of(a, b, c), done(a), of(b, c, v, w), nil, ""},
		{"all applied", of(a, b, c), done(a, b, c, v, w), nil, nil, ""},
		{"view changed", of(a, b, c), done(a, b, c, v2, w), of(v), nil, ""},
		{"view changed and changed back", of(a, b, c), done(a, b, c, v, w, v2), of(v), nil, ""},
		{"view that was taken away", of(a, b, c), done(a, b, c, v, w, f("views/z.sql", "z")), nil, nil, ""},
		{"database of a newer program, whose views are left alone", of(a, b), done(a, b, c, v2), nil, nil, ""},
		{"changed", of(a, f("tables/0002_b.sql", "other"), c), done(a, b), nil, ErrChanged, "0002_b.sql"},
		{"file gone in the middle", of(a, f("tables/0002_x.sql", "x"), c), done(a, b), nil, ErrGap, "0002_b.sql"},
		{"not applied in the middle", of(a, b, c), done(a, c), nil, ErrGap, "0002_b.sql"},
		{"hole in the numbers", of(a, c), nil, nil, ErrGap, "0003_c.sql"},
		{"earlier files, all applied", of(a, b), done(x, y), of(a, b, v, w), nil, ""},
		{"earlier files, taken over in part", of(a, b), done(x, y, a), of(b, v, w), nil, ""},
		{"earlier files, taken over", of(a, b), done(x, y, a, b, v, w), nil, nil, ""},
		{"earlier files, one not applied", of(a, b), done(x), nil, ErrEarlier, "0002_y.sql"},
		{"earlier files, one changed", of(a, b), done(x2, y), nil, ErrEarlier, "0001_x.sql"},
		{"earlier files, one unknown", of(a, b), done(x, y, f("0003_z.sql", "z")), nil, ErrEarlier, "0003_z.sql"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			todo, err := plan(schema{tables: tc.tables, views: of(v, w), earlier: done(x, y)}, tc.applied)
			if !errors.Is(err, tc.err) || (err != nil && !strings.Contains(err.Error(), tc.says)) {
				t.Fatalf("error %v, want %v naming %q", err, tc.err, tc.says)
			}
			if !slices.Equal(todo, tc.todo) {
				t.Errorf("to apply %v, want %v", todo, tc.todo)
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
