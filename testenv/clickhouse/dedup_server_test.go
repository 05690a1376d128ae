//go:build linux

package clickhouse_test

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/testenv/clickhouse"
	"github.com/spillway-live/spillway/testenv/clickhouse/clickhousetest"
)

// The moment between a token's record and its part's rename is too short for random kills to hit often, so its
// result on disk is made here: the server is killed and the newest part, as the rename would have produced it,
// taken away. Without the repair the repeated insert is answered as a duplicate and the rows are lost.
func TestTokenWhosePartWasNeverRenamed(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s := clickhousetest.StartOptions(t, clickhouse.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	admin := connect(t, s, clickhouse.Admin)
	execute(t, admin,
		"CREATE TABLE raw (id UInt64, kind UInt8, day Date) ENGINE = MergeTree ORDER BY id SETTINGS non_replicated_deduplication_window = 100",
		"CREATE TABLE sums (kind UInt8, n SimpleAggregateFunction(sum, UInt64)) ENGINE = AggregatingMergeTree ORDER BY kind"+
			" SETTINGS non_replicated_deduplication_window = 100",
		"CREATE MATERIALIZED VIEW v TO sums AS SELECT kind, count() AS n FROM raw GROUP BY kind")
	writer := connect(t, s, clickhouse.Writer)
	batches := []batch{{0}, {batchRows}, {2 * batchRows}}
	for _, b := range batches {
		if err := b.insert(t.Context(), writer); err != nil {
			t.Fatal(err)
		}
	}
	// Merges and mutations rename parts; the records of what they hold must stay good.
	execute(t, admin, "OPTIMIZE TABLE raw FINAL", "ALTER TABLE raw UPDATE kind = kind WHERE 1 SETTINGS mutations_sync = 1")
	last := batch{3 * batchRows}
	if err := last.insert(t.Context(), writer); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"raw", "sums"} {
		var path string
		err := admin.QueryRow(t.Context(), "SELECT path FROM system.parts WHERE active AND database = 'spillway' AND table = '"+table+
			"' ORDER BY max_block_number DESC, modification_time DESC LIMIT 1").Scan(&path)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		s = restart(t, s)
		admin, writer = connect(t, s, clickhouse.Admin), connect(t, s, clickhouse.Writer)
		for _, b := range append(batches, last) { // only the missing one is stored
			if err := b.insert(t.Context(), writer); err != nil {
				t.Fatal(err)
			}
		}
		for what, sql := range map[string]string{"rows": "SELECT count() FROM raw", "different rows": "SELECT uniqExact(id) FROM raw", "view": "SELECT sum(n) FROM sums"} {
			if got, want := number(t, writer, sql), uint64(4*batchRows); got != want {
				t.Errorf("after a part of %s was missing: %s = %d, want %d", table, what, got, want)
			}
		}
	}
	stop(t, s)
	if n := strings.Count(log.String(), "removed deduplication records"); n != 2 {
		t.Errorf("%d repairs were logged, want 2:\n%s", n, log.String())
	}
}
