//go:build linux

package clickhouse_test

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	chgo "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/spillway-live/spillway/testenv/clickhouse"
)

// limit bounds every wait in these tests; it is generous because the machine may be busy.
const limit = 30 * time.Second

// connect opens a native connection pool.
func connect(t testing.TB, s *clickhouse.Server, u clickhouse.User) driver.Conn {
	t.Helper()
	opts, err := chgo.ParseDSN(s.NativeURL(u))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := chgo.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// execute runs statements that must succeed.
func execute(t testing.TB, conn driver.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// number returns the one number a query yields.
func number(t testing.TB, conn driver.Conn, sql string) uint64 {
	t.Helper()
	var n uint64
	if err := conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// post sends SQL to an HTTP interface and returns the status, -1 for an answer broken off, and the answer.
func post(t testing.TB, target, sql string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, strings.NewReader(sql))
	if err != nil {
		t.Fatal(err)
	}
	return do(t, req)
}

func do(t testing.TB, req *http.Request) (int, string) {
	t.Helper()
	client := &http.Client{Timeout: limit, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatalf("%s: %v", req.URL, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil { // ClickHouse breaks the answer off when a query fails after the first rows went out
		return -1, err.Error()
	}
	return resp.StatusCode, strings.TrimSpace(string(b))
}

// withParams adds parameters to a URL.
func withParams(t testing.TB, target string, pairs ...string) string {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	for i := 0; i < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// restart starts a stopped or killed server again and stops it with the test.
func restart(t testing.TB, s *clickhouse.Server) *clickhouse.Server {
	t.Helper()
	again, err := s.Restart(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, again) })
	return again
}

func stop(t testing.TB, s *clickhouse.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), limit)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
}
