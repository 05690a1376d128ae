// Package tablestest starts a ClickHouse with our tables for a test. It is apart
// from clickhousetest, which the tests of the tables themselves use.
package tablestest

import (
	"testing"

	chgo "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	schema "github.com/spillway-live/spillway/schemas/clickhouse"
	"github.com/spillway-live/spillway/testenv/clickhouse"
	"github.com/spillway-live/spillway/testenv/clickhouse/clickhousetest"
)

// Start starts a server with all tables and views, and a connection to it as
// administrator, in the database spillway. Both end with the test.
func Start(t testing.TB) (*clickhouse.Server, driver.Conn) {
	t.Helper()
	s := clickhousetest.Start(t)
	o, err := chgo.ParseDSN(s.NativeURL(clickhouse.Admin))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := chgo.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := schema.Migrate(t.Context(), conn, schema.Options{}); err != nil {
		t.Fatal(err)
	}
	return s, conn
}
