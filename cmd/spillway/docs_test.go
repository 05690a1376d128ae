package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	chgo "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	schemach "github.com/spillway-live/spillway/schemas/clickhouse"
	"github.com/spillway-live/spillway/testenv/clickhouse"
	"github.com/spillway-live/spillway/testenv/clickhouse/clickhousetest"
)

var sqlBlock = regexp.MustCompile("(?s)```sql\n(.*?)```")

// TestDocumentedQueriesRun executes every SQL block of the analyst's page as
// the analyst, on what the pipeline wrote: a column that was renamed, or a right
// that is missing, shows here.
func TestDocumentedQueriesRun(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/analyst.md")
	if err != nil {
		t.Fatal(err)
	}
	srv := clickhousetest.Start(t)
	open := func(u clickhouse.User) driver.Conn {
		o, err := chgo.ParseDSN(srv.NativeURL(u))
		if err != nil {
			t.Fatal(err)
		}
		c, err := chgo.Open(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	if err := schemach.Migrate(t.Context(), open(clickhouse.Admin), schemach.Options{}); err != nil {
		t.Fatal(err)
	}
	analyst := open(clickhouse.Analyst)
	feedDocs(t, srv, analyst)
	empty := 0
	blocks := sqlBlock.FindAllStringSubmatch(string(page), -1)
	if len(blocks) < 30 {
		t.Fatalf("only %d SQL blocks found on the page", len(blocks))
	}
	for _, b := range blocks {
		q := strings.TrimSpace(b[1])
		rows, err := analyst.Query(t.Context(), q)
		if err != nil {
			t.Errorf("%v\n%s", err, q)
			continue
		}
		n := 0
		for rows.Next() {
			n++
		}
		if n == 0 {
			empty++
			t.Logf("no rows: %s", q)
		}
		if err := rows.Err(); err != nil {
			t.Errorf("%v\n%s", err, q)
		}
		rows.Close()
	} // One session that does not exist, and errors that nobody had.
	if empty > 2 {
		t.Errorf("%d queries give no rows", empty)
	}
}
