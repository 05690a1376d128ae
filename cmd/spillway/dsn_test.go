package main

import (
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/analytics/alerts"
)

// A URL of another database is refused before anything is opened, by the loader as
// by what reads: half of them would use it and half would not.
func TestClickHouseURLsNameTheDatabaseOrNone(t *testing.T) {
	for dsn, ok := range map[string]bool{
		"clickhouse://u:p@127.0.0.1:9000":                    true,
		"clickhouse://u:p@127.0.0.1:9000/":                   true,
		"clickhouse://u:p@127.0.0.1:9000/spillway":           true,
		"clickhouse://u:p@127.0.0.1:9000/other":              false,
		"clickhouse://u:p@127.0.0.1:9000?database=other":     false,
		"clickhouse://u:p@127.0.0.1:9000/other?secure=false": false,
	} {
		_, parse := parseDSN(dsn)
		conn, open := openDSN(dsn)
		if conn != nil {
			conn.Close()
		}
		_, loads := (&deps{}).loaderRole(dsn)
		for what, err := range map[string]error{"parse": parse, "open": open, "loader": loads} {
			if (err == nil) != ok || err != nil && (!strings.Contains(err.Error(), `"other"`) || strings.Contains(err.Error(), "u:p")) {
				t.Errorf("%s %s: %v", what, dsn, err)
			}
		}
	}
}

// The role alerts waits for a connection no longer than for a question, unless the URL says how long.
func TestAlertsDoNotWaitForConnections(t *testing.T) {
	for dsn, want := range map[string]time.Duration{
		"clickhouse://u:p@127.0.0.1:9000/spillway":                 alerts.QueryTimeout,
		"clickhouse://u:p@127.0.0.1:9000/spillway?dial_timeout=3s": 3 * time.Second,
	} {
		if o, err := alertsOptions(dsn); err != nil || o.DialTimeout != want {
			t.Errorf("%s: %+v, %v", dsn, o, err)
		}
	}
}
