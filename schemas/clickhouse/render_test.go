package clickhouse

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/testenv/clickhouse/clickhousetest"
)

// telling are the lines of a rendered statement that differ from the file's.
var tellingLine = regexp.MustCompile(`^(CREATE|ALTER|DROP|ENGINE|SETTINGS|FROM|PARTITION|ORDER BY|TTL)`)

// TestClusterRendering pins what the files become on a replicated cluster, which the embedded ClickHouse cannot run
// for want of a Keeper, and has a real server parse every statement.
func TestClusterRendering(t *testing.T) {
	conn := connect(t, clickhousetest.Start(t))
	c := &Cluster{Name: "telemetry", Replicated: true, own: conn}
	files := mustLoad(t).all()
	statements, err := rendered(files, "spillway", c)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	all := preparing("spillway", c)
	for _, f := range files {
		all = append(all, statements[f.Name]...)
	}
	tables := map[string]int{}
	for _, s := range all {
		if !strings.Contains(s, " ON CLUSTER telemetry") {
			t.Errorf("not for all servers: %.100s", s)
		}
		if strings.Contains(s, "non_replicated_deduplication_window") {
			t.Errorf("a window that replicated tables do not heed: %.100s", s)
		}
		var formatted string
		if err := conn.QueryRow(testContext(t), "SELECT formatQuerySingleLine(?)", s).Scan(&formatted); err != nil {
			t.Errorf("the server cannot read it: %v\n%s", err, s)
		}
		for l := range strings.Lines(s) {
			if tellingLine.MatchString(l) {
				out.WriteString(l)
				if !strings.HasSuffix(l, "\n") {
					out.WriteByte('\n')
				}
			}
		}
		switch {
		case strings.Contains(s, "ENGINE = Replicated"):
			tables["local"]++
		case strings.Contains(s, "ENGINE = Distributed"):
			tables["distributed"]++
		}
	}
	// One local table more: that of applied files.
	if tables["local"] != tables["distributed"]+1 || tables["local"] < 15 {
		t.Errorf("%v", tables)
	}
	golden(t, "cluster/replicated.txt", out.String())
}

// TestClusterStatementsNeedARule: a kind of statement that was never thought of is refused by name, not passed on.
func TestClusterStatementsNeedARule(t *testing.T) {
	c := &Cluster{Name: "telemetry"}
	for sql, says := range map[string]string{
		"TRUNCATE TABLE ${database}.telemetry;\n":                                                                     "no rule",
		"ALTER TABLE ${database}.unheard ADD INDEX IF NOT EXISTS i (x) TYPE minmax;\n":                                "unheard",
		"CREATE TABLE IF NOT EXISTS ${database}.x (a Int8) ENGINE = Memory;\n":                                        "no engine",
		"CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.m TO ${database}.x AS\nSELECT 1 FROM ${database}.none;\n": "is no table",
		"DROP VIEW IF EXISTS ${database}.v;\n":                                                                        "no rule",
		"DROP TABLE IF EXISTS ${database}.x;\n":                                                                       "no rule",
		"CREATE VIEW IF NOT EXISTS ${database}.v AS SELECT 1;\n":                                                      "no rule",
		"CREATE TABLE IF NOT EXISTS elsewhere.x (a Int8)\nENGINE = MergeTree ORDER BY a;\n":                           "no name",
	} {
		if _, err := (File{Name: "tables/0001_x.sql", SQL: sql}).ClusterStatements("db", c, map[string]bool{}); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "tables/0001_x.sql, statement 1") {
			t.Errorf("%q: %v, want an error that names it and says %q", sql, err, says)
		}
	}
}

// TestWhatTheLoaderWritesIsSpread: a table without a key would refuse every block on a cluster.
func TestWhatTheLoaderWritesIsSpread(t *testing.T) {
	for _, table := range []string{TableTelemetry, TableSlices, TableDecisions, TableExposures, TableEvents} {
		if shardKeys()[table] == "" {
			t.Errorf("%s has no shard key", table)
		}
	}
}

// TestClusterStatementsOfChanges: what later files may do reaches the tables that it concerns: rows, indexes and codecs are
// the shards' own, columns and comments are those of both forms.
func TestClusterStatementsOfChanges(t *testing.T) {
	c := &Cluster{Name: "telemetry", Replicated: true}
	for sql, want := range map[string][]string{
		"ALTER TABLE ${database}.t ADD COLUMN IF NOT EXISTS b Int8 AFTER a;\n":                              {"ALTER TABLE db.t_local ON CLUSTER telemetry ADD COLUMN IF NOT EXISTS b Int8 AFTER a", "ALTER TABLE db.t ON CLUSTER telemetry ADD COLUMN IF NOT EXISTS b Int8 AFTER a"},
		"ALTER TABLE ${database}.t COMMENT COLUMN IF EXISTS a 'x';\n":                                       {"ALTER TABLE db.t_local ON CLUSTER telemetry COMMENT COLUMN IF EXISTS a 'x'", "ALTER TABLE db.t ON CLUSTER telemetry COMMENT COLUMN IF EXISTS a 'x'"},
		"ALTER TABLE ${database}.t ADD INDEX IF NOT EXISTS i a TYPE minmax;\n":                              {"ALTER TABLE db.t_local ON CLUSTER telemetry ADD INDEX IF NOT EXISTS i a TYPE minmax"},
		"ALTER TABLE ${database}.t MODIFY COLUMN IF EXISTS a CODEC(ZSTD(1));\n":                             {"ALTER TABLE db.t_local ON CLUSTER telemetry MODIFY COLUMN IF EXISTS a CODEC(ZSTD(1))"},
		"ALTER TABLE ${database}.t MODIFY SETTING non_replicated_deduplication_window = 5;\n":               {"ALTER TABLE db.t_local ON CLUSTER telemetry MODIFY SETTING replicated_deduplication_window = 5"},
		"ALTER TABLE ${database}.m MODIFY QUERY\nSELECT a FROM ${database}.t AS t;\n":                       {"ALTER TABLE db.m ON CLUSTER telemetry MODIFY QUERY\nSELECT a FROM db.t_local AS t"},
		"CREATE OR REPLACE VIEW ${database}.v\nAS SELECT 1 WHERE 1 NOT IN (SELECT a FROM ${database}.t);\n": {"CREATE OR REPLACE VIEW db.v ON CLUSTER telemetry\nAS SELECT 1 WHERE 1 GLOBAL NOT IN (SELECT a FROM db.t)"},
	} {
		got, err := (File{Name: "tables/0013_x.sql", SQL: sql}).ClusterStatements("db", c, map[string]bool{"t": true})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s\n%q %v\nwant\n%q", sql, got, err, want)
		}
	}
	const table = "CREATE TABLE IF NOT EXISTS ${database}.u\n(\n    a Int8 COMMENT 'x, y' CODEC(Delta, LZ4),\n    b Int8 CODEC(T64, LZ4),\n    INDEX i a TYPE set(8) GRANULARITY 1,\n    INDEX j (a, b) TYPE minmax GRANULARITY 1\n)\nENGINE = MergeTree\nORDER BY a;\n"
	got, err := (File{Name: "tables/0013_x.sql", SQL: table}).ClusterStatements("db", &Cluster{Name: "telemetry"}, map[string]bool{})
	want := "CREATE TABLE IF NOT EXISTS db.u\n(\n    a Int8 COMMENT 'x, y',\n    b Int8\n)\nENGINE = Distributed('telemetry', 'db', 'u_local')"
	if err != nil || len(got) != 2 || got[1] != want || !strings.Contains(got[0], "INDEX j (a, b) TYPE minmax") || !strings.Contains(got[0], "CODEC(T64, LZ4)") {
		t.Errorf("%v %q\nwant the last to be\n%q", err, got, want)
	}
}
