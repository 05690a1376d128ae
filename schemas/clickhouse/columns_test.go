package clickhouse

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

const columnsPage = "../../docs/columns.md"

// columnsPageIsTheServers compares the page with the server's own list; -update writes it.
func columnsPageIsTheServers(t *testing.T, conn driver.Conn) {
	rows, err := conn.Query(testContext(t), `SELECT c.table, t.comment, c.name, c.type, c.default_kind, c.comment
		FROM system.columns AS c JOIN system.tables AS t ON t.database = c.database AND t.name = c.table
		WHERE c.database = 'spillway' AND c.table NOT LIKE '%\_mv' AND c.table != 'schema_migrations'
		ORDER BY startsWith(c.table, 'v_'), c.table, c.position`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var page strings.Builder
	page.WriteString("# Columns\n\nEvery table and view of the database `spillway`, as the server describes them. Views (`v_...`) define the metrics; " +
		"what to ask where is in [analyst.md](analyst.md). Written by `go test ./schemas/clickhouse -run TestServer -args -update`; a test compares it with the server.\n")
	last, unit := "", map[string]string{"_ms": "ms", "_us": "icrosecond", "_bps": "bit/s", "_kbps": "kbit/s", "_ratio": "0 to 1", "bytes": "byte"}
	for rows.Next() {
		var table, about, name, typ, kind, comment string
		if err := rows.Scan(&table, &about, &name, &typ, &kind, &comment); err != nil {
			t.Fatal(err)
		}
		if table != last {
			fmt.Fprintf(&page, "\n## %s\n\n", table)
			if about != "" {
				page.WriteString(about + "\n\n")
			}
			page.WriteString("| column | type | what it is |\n|---|---|---|\n")
			last = table
		}
		if kind != "" {
			typ += ", " + strings.ToLower(kind)
		}
		fmt.Fprintf(&page, "| `%s` | `%s` | %s |\n", name, typ, strings.ReplaceAll(comment, "|", "\\|"))
		for suffix, want := range unit {
			if strings.HasSuffix(name, suffix) && !strings.Contains(strings.ReplaceAll(comment, "milliseconds", "ms"), want) && !(suffix == "_bps" && strings.HasSuffix(name, "_kbps")) {
				t.Errorf("%s.%s: its comment %q does not say its unit, %s", table, name, comment, want)
			}
		}
		if strings.HasPrefix(table, "v_") && strings.Contains(typ, "AggregateFunction") {
			t.Errorf("%s.%s is a sketch (%s); views give values", table, name, typ)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(columnsPage, []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(columnsPage)
	if err != nil {
		t.Fatalf("%v; run the test with -update to write it", err)
	}
	if string(have) != page.String() {
		t.Errorf("%s is not what the server says: run the test with -update and review the difference", columnsPage)
	}
}
