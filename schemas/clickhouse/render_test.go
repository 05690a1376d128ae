package clickhouse

import (
	"regexp"
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
	statements, err := rendered(mustFiles(t), "spillway", c)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	all := preparing("spillway", c)
	for _, f := range mustFiles(t) {
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
		"CREATE TABLE IF NOT EXISTS elsewhere.x (a Int8)\nENGINE = MergeTree ORDER BY a;\n":                           "no name",
	} {
		if _, err := (File{Name: "0001_x.sql", SQL: sql}).ClusterStatements("db", c, map[string]bool{}); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "0001_x.sql, statement 1") {
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
