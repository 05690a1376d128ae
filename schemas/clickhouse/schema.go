package clickhouse

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

//go:embed tables/*.sql views/*.sql takeover.txt
var files embed.FS

// File is one schema file.
type File struct {
	Name string // tables/0001_telemetry.sql, views/sessions.sql
	SQL  string // ${database} stands for the database's name
}

// SHA256 is the hash that is recorded when the file is applied, in hex.
func (f File) SHA256() string {
	h := sha256.Sum256([]byte(f.SQL))
	return hex.EncodeToString(h[:])
}

// Statements are the file's statements with the database's name put in.
func (f File) Statements(database string) []string {
	var out []string
	for _, s := range strings.SplitAfter(strings.ReplaceAll(f.SQL, "${database}", database), ";\n") {
		if s = strings.TrimSuffix(strings.TrimSpace(s), ";"); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// schema is what a database is made of.
type schema struct {
	tables  []File        // numbered; each is applied once, in this order, and never changes
	views   []File        // applied after the tables, and anew when they have changed
	earlier []appliedFile // files that made databases before tables took their place
}

// all gives tables and views in the order in which they are applied.
func (s schema) all() []File { return slices.Concat(s.tables, s.views) }

// load reads the schema that is built into the program.
func load() (schema, error) {
	var s schema
	var err error
	if s.tables, err = folder("tables", func(_, sql string) (string, error) { return sql, nil }); err != nil {
		return schema{}, err
	}
	if s.views, err = folder("views", expand); err != nil {
		return schema{}, err
	}
	s.earlier, err = earlierFiles()
	return s, err
}

// folder reads the files of one, sorted by name, and puts each through make.
func folder(name string, make func(name, text string) (string, error)) ([]File, error) {
	entries, err := files.ReadDir(name)
	if err != nil {
		return nil, fmt.Errorf("list schema files: %w", err)
	}
	var out []File
	for _, e := range entries {
		f := File{Name: name + "/" + e.Name()}
		b, err := files.ReadFile(f.Name)
		if err != nil {
			return nil, fmt.Errorf("read schema file: %w", err)
		}
		if f.SQL, err = make(f.Name, string(b)); err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// earlierFiles reads takeover.txt.
func earlierFiles() ([]appliedFile, error) {
	f, err := files.Open("takeover.txt")
	if err != nil {
		return nil, fmt.Errorf("read the list of earlier schema files: %w", err)
	}
	defer f.Close()
	var out []appliedFile
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if words := strings.Fields(lines.Text()); len(words) == 2 {
			out = append(out, appliedFile{name: words[1], sha256: words[0]})
		}
	}
	return out, lines.Err()
}
