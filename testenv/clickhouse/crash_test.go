//go:build linux

package clickhouse_test

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	chgo "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/clickhouse"
	"github.com/spillway-live/spillway/testenv/clickhouse/clickhousetest"
)

// batch is rows that are inserted in one statement under one deduplication token.
type batch struct{ first uint64 }

const batchRows = 200

// insert sends the batch. A repetition is row for row the same.
func (b batch) insert(ctx context.Context, conn driver.Conn) error {
	ctx = chgo.Context(ctx, chgo.WithSettings(chgo.Settings{
		"insert_deduplication_token": "batch-" + strconv.FormatUint(b.first, 10),
	}))
	rows, err := conn.PrepareBatch(ctx, "INSERT INTO raw")
	if err != nil {
		return err
	}
	defer rows.Close()
	for i := range uint64(batchRows) {
		id := b.first + i
		if err := rows.Append(id, uint8(id%7), time.Date(2026, 11, 20+int(b.first/batchRows%2), 0, 0, 0, 0, time.UTC)); err != nil {
			return err
		}
	}
	return rows.Send()
}

// Kill -9 in mid-insert, restart, repeat what was not confirmed under the same token: nothing lost, nothing twice,
// in the table, in a view of it and in a view of the view.
func TestKillsLoseAndDoubleNothing(t *testing.T) {
	t.Parallel()
	const kills, writers = 10, 3
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	s := clickhousetest.Start(t)
	execute(t, connect(t, s, clickhouse.Admin),
		`CREATE TABLE raw (id UInt64, kind UInt8, day Date) ENGINE = MergeTree PARTITION BY day ORDER BY id
			SETTINGS non_replicated_deduplication_window = 10000`,
		`CREATE TABLE by_kind (kind UInt8, day Date, n SimpleAggregateFunction(sum, UInt64), ids SimpleAggregateFunction(sum, UInt64))
			ENGINE = AggregatingMergeTree PARTITION BY day ORDER BY kind SETTINGS non_replicated_deduplication_window = 10000`,
		`CREATE TABLE by_day (day Date, n SimpleAggregateFunction(sum, UInt64))
			ENGINE = AggregatingMergeTree ORDER BY day SETTINGS non_replicated_deduplication_window = 10000`,
		"CREATE MATERIALIZED VIEW raw_to_kind TO by_kind AS SELECT kind, day, count() AS n, sum(id) AS ids FROM raw GROUP BY kind, day",
		"CREATE MATERIALIZED VIEW kind_to_day TO by_day AS SELECT day, sum(n) AS n FROM by_kind GROUP BY day")

	var next atomic.Uint64
	unconfirmed, repeated := 0, 0
	for kill := range kills {
		conn := connect(t, s, clickhouse.Writer)
		var (
			wg   sync.WaitGroup
			mu   sync.Mutex
			open []batch // sent, but not confirmed
		)
		for range writers {
			wg.Go(func() {
				for { // ends with the server
					b := batch{next.Add(batchRows) - batchRows}
					if err := b.insert(t.Context(), conn); err != nil {
						mu.Lock()
						open = append(open, b)
						mu.Unlock()
						return
					}
				}
			})
		}
		before := next.Load()
		await.True(t, "some inserts", func() bool { return next.Load() >= before+uint64(1+random.IntN(20))*batchRows })
		time.Sleep(time.Duration(random.IntN(3000)) * time.Microsecond) // to hit any point of an insert
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		_ = conn.Close()

		s = restart(t, s)
		conn = connect(t, s, clickhouse.Writer)
		for _, b := range open {
			if number(t, conn, "SELECT count() FROM raw WHERE id = "+strconv.FormatUint(b.first, 10)) > 0 {
				repeated++
			}
			if err := b.insert(t.Context(), conn); err != nil {
				t.Fatalf("kill %d: repeat: %v", kill, err)
			}
		}
		unconfirmed += len(open)
		want := next.Load()
		for what, sql := range map[string]string{
			"rows": "SELECT count() FROM raw", "different rows": "SELECT uniqExact(id) FROM raw",
			"view": "SELECT sum(n) FROM by_kind", "view of the view": "SELECT sum(n) FROM by_day",
		} {
			if got := number(t, conn, sql); got != want {
				t.Errorf("kill %d: %s = %d, want %d", kill, what, got, want)
			}
		}
		if got, sum := number(t, conn, "SELECT sum(ids) FROM by_kind"), want*(want-1)/2; got != sum {
			t.Errorf("kill %d: view's sum = %d, want %d", kill, got, sum)
		}
		_ = conn.Close()
	}
	t.Logf("%d rows, %d inserts unconfirmed at a kill, %d of them stored all the same", next.Load(), unconfirmed, repeated)
	if unconfirmed == 0 {
		t.Error("no kill hit an insert; the test shows nothing")
	}
}
