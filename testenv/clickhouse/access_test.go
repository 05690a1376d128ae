//go:build linux

package clickhouse_test

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	chgo "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/spillway-live/spillway/testenv/clickhouse"
	"github.com/spillway-live/spillway/testenv/clickhouse/clickhousetest"
)

func TestWaysToAskAsAnalyst(t *testing.T) {
	t.Parallel()
	s := clickhousetest.Start(t)
	bare := "http://" + s.HTTPAddr()
	const sql = "SELECT currentUser() || ' in ' || currentDatabase()"
	const want = "analyst in spillway"
	for name, target := range map[string]string{
		"AnalystURL": s.AnalystURL(), "HTTPURL": s.HTTPURL(clickhouse.Analyst), "bare": bare, "bare with slash": bare + "/",
	} {
		t.Run(name, func(t *testing.T) {
			if code, got := post(t, target, sql); code != http.StatusOK || got != want {
				t.Errorf("POST: %d %q", code, got)
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, withParams(t, target, "query", sql), nil)
			if err != nil {
				t.Fatal(err)
			}
			if code, got := do(t, req); code != http.StatusOK || got != want {
				t.Errorf("GET: %d %q", code, got)
			}
		})
	}
	// As a shell user would: parameters simply appended, settings of the request included.
	if code, got := post(t, s.AnalystURL()+"&default_format=JSONEachRow&max_threads=1&query="+url.QueryEscape("SELECT 1 AS x"), ""); code != 200 || got != `{"x":1}` {
		t.Errorf("appended parameters: %d %q", code, got)
	}
	var user string
	if err := connect(t, s, clickhouse.Analyst).QueryRow(t.Context(), "SELECT currentUser()").Scan(&user); err != nil || user != "analyst" {
		t.Errorf("native: %q, %v", user, err)
	}
}

func TestAnalystIsConfined(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("swordfish"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := clickhousetest.Start(t)
	execute(t, connect(t, s, clickhouse.Admin),
		"CREATE TABLE t (id UInt64) ENGINE = MergeTree ORDER BY id", "INSERT INTO t VALUES (1), (2)",
		"CREATE DATABASE private", "CREATE TABLE private.t (id UInt64) ENGINE = MergeTree ORDER BY id", "INSERT INTO private.t VALUES (3)")
	passwords := filepath.Join(s.DataDir(), "credentials.json")

	for _, sql := range []string{
		"SELECT count() FROM t", "SHOW TABLES", "DESCRIBE t", "EXPLAIN SELECT * FROM t", "SELECT * FROM numbers(3)",
		"SELECT name, type FROM system.columns WHERE database = 'spillway'",
		"SELECT id FROM t SETTINGS max_execution_time = 100, max_threads = 1, output_format_json_quote_64bit_integers = 1 FORMAT JSON",
	} {
		if code, answer := post(t, s.AnalystURL(), sql); code != http.StatusOK {
			t.Errorf("%s: %d %s", sql, code, answer)
		}
	}
	for _, sql := range []string{
		// writing
		"INSERT INTO t VALUES (3)", "DROP TABLE t", "TRUNCATE TABLE t", "ALTER TABLE t DELETE WHERE 1", "OPTIMIZE TABLE t FINAL",
		"CREATE TABLE u (id UInt64) ENGINE = Memory", "CREATE DATABASE d", "RENAME TABLE t TO u", "DROP DATABASE spillway",
		"CREATE FUNCTION f AS x -> x", "DROP FUNCTION file", "INSERT INTO FUNCTION file('x.csv', 'CSV', 'a Int8') VALUES (1)",
		// other people's data, and the server's
		"SELECT * FROM private.t", "SELECT * FROM system.users", "SELECT * FROM system.processes", "SELECT * FROM system.parts",
		"SELECT * FROM system.server_settings", "SELECT * FROM system.grants", "SELECT * FROM system.disks",
		"SELECT * FROM merge('private', 't')", "SELECT * FROM remote('" + s.NativeAddr() + "', 'private', 't')",
		// the network
		"SELECT * FROM url('" + s.HTTPURL(clickhouse.Analyst) + "?query=SELECT%201', 'LineAsString', 'l String')",
		"SELECT * FROM s3('http://127.0.0.1:1/bucket/key', 'CSV', 'a Int8')", "SELECT * FROM mysql('127.0.0.1:1', 'd', 't', 'u', 'p')",
		// files, in all the ways a function can be called
		"SELECT file('" + secret + "')", "SELECT file('" + passwords + "')", "SELECT file('" + passwords + "', '')",
		"SELECT * APPLY(file) FROM (SELECT '" + passwords + "' AS p)", "SELECT * APPLY file FROM (SELECT '" + passwords + "' AS p)",
		"SELECT arrayMap(file, ['" + passwords + "'])", "SELECT arrayMap(x -> file(x), ['" + passwords + "'])",
		"SELECT file('" + passwords + "') SETTINGS enable_analyzer = 0", "SELECT * APPLY(file) FROM (SELECT '" + passwords + "' AS p) SETTINGS enable_analyzer = 0",
		"SELECT * FROM view(SELECT file('" + passwords + "'))", "SELECT * FROM file('" + secret + "', 'LineAsString')",
		"DESCRIBE file('" + secret + "', 'LineAsString')", "SELECT * FROM executable('x', 'TSV', 'a Int8')", "SELECT * FROM filesystem('/etc')",
		// the limits
		"SET readonly = 0", "SELECT 1 SETTINGS readonly = 0", "SELECT 1 SETTINGS max_execution_time = 0", "SELECT 1 SETTINGS max_execution_time = 1000",
		"SELECT 1 SETTINGS max_memory_usage = 0", "SELECT 1 SETTINGS max_result_rows = 0", "SELECT number FROM numbers(2000000)",
		"SELECT groupArray(number) FROM numbers(1000000000)",
		"SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(sipHash64(number)) SETTINGS max_execution_time = 1", // and would run for hours
		"SELECT sleepEachRow(1) FROM numbers(3000) SETTINGS max_block_size = 1, max_execution_time = 1, function_sleep_max_microseconds_per_block = 0",
		// control
		"SYSTEM SHUTDOWN", "SYSTEM STOP LISTEN TCP", "SYSTEM STOP MERGES t", "KILL QUERY WHERE 1", "BACKUP DATABASE spillway TO File('b')",
		"GRANT SELECT ON *.* TO analyst", "CREATE USER u", "EXECUTE AS admin SELECT 1",
	} {
		code, answer := post(t, s.AnalystURL(), sql)
		if code == http.StatusOK || strings.Contains(answer, "swordfish") || strings.Contains(answer, s.Password(clickhouse.Admin)) {
			t.Errorf("%s: answered %d %.300s", sql, code, answer)
		}
	}
	if n := number(t, connect(t, s, clickhouse.Analyst), "SELECT count() FROM t"); n != 2 {
		t.Errorf("%d rows afterwards, want 2", n)
	}
}

// The kernel confines the server too, where it can: not even the administrator reads a file that is not the
// server's own.
func TestServerCannotReadForeignFiles(t *testing.T) {
	t.Parallel()
	s := clickhousetest.Start(t)
	console, err := os.ReadFile(filepath.Join(s.DataDir(), "server", "console.log"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(console), "limited by SQL checks alone") {
		t.Skip("this kernel has no Landlock")
	}
	read := func(path string) (int, string) {
		return post(t, s.HTTPURL(clickhouse.Admin), "SELECT count() > 0 FROM file('"+path+"', 'LineAsString', 'l String')")
	}
	for _, path := range []string{filepath.Join(s.DataDir(), "credentials.json"), "/etc/passwd", fmt.Sprintf("/proc/%d/environ", os.Getpid())} {
		if code, answer := read(path); code == 200 || !strings.Contains(answer, "Permission denied") {
			t.Errorf("%s: %d %.200s", path, code, answer)
		}
	}
	if code, answer := read(filepath.Join(s.DataDir(), "db", "status")); code != 200 || answer != "1" {
		t.Errorf("the control, a file it may read: %d %s", code, answer)
	}
	if code, answer := post(t, s.HTTPURL(clickhouse.Admin), "DROP FUNCTION file"); code == 200 {
		t.Errorf("the guard against file() can be dropped: %s", answer)
	}
}

func TestWriterAndDefault(t *testing.T) {
	t.Parallel()
	s := clickhousetest.Start(t)
	execute(t, connect(t, s, clickhouse.Admin), "CREATE TABLE t (id UInt64) ENGINE = MergeTree ORDER BY id")
	writer := connect(t, s, clickhouse.Writer)
	execute(t, writer, "INSERT INTO t VALUES (1)")
	for _, sql := range []string{"DROP TABLE t", "CREATE TABLE u (id UInt64) ENGINE = Memory", "SELECT * FROM system.users", "SELECT file('/etc/hosts')"} {
		if err := writer.Exec(t.Context(), sql); err == nil {
			t.Errorf("%s: the writer may", sql)
		}
	}
	// ClickHouse's own passwordless user is the launcher's alone.
	_, err := dial(t, s.NativeAddr(), "default", "").ServerVersion()
	if err == nil || !strings.Contains(err.Error(), "session count") {
		t.Errorf("default over the native protocol: %v", err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, withParams(t, "http://"+s.HTTPAddr()+"/", "max_sessions_for_user", "100"), strings.NewReader("SELECT 1"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-ClickHouse-User", "default")
	if code, answer := do(t, req); code == http.StatusOK {
		t.Errorf("default over HTTP: %s", answer)
	}
}

func dial(t *testing.T, addr, user, password string) interface {
	ServerVersion() (*chgo.ServerVersion, error)
} {
	conn, err := chgo.Open(&chgo.Options{Addr: []string{addr}, Auth: chgo.Auth{Username: user, Password: password}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// In batch mode, where no terminal is on its standard input, the library ends the process at the first of these.
func TestBadConnectionsDoNotEndTheServer(t *testing.T) {
	t.Parallel()
	s := clickhousetest.Start(t)
	long := strings.Repeat("x", 100_000)
	garbage := []string{
		"", "\x00", "\r\n\r\n", "hello\n", strings.Repeat("\x00", 10_000), strings.Repeat("\xff", 10_000), long,
		"GET / HTTP/1.1\r\n", "GET /" + long + " HTTP/1.1\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: 99999\r\n\r\nSELECT", "BREW / HTTP/9.9\r\n\r\n",
		"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"\x00\x06client", "\x00\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "\x01\x02\x03\x04\x05\x06\x07",
	}
	const rounds = 5
	var wg sync.WaitGroup
	for _, addr := range []string{s.NativeAddr(), s.HTTPAddr()} {
		wg.Go(func() {
			for range rounds {
				for i, g := range garbage {
					send(t, addr, g, i%2 == 0)
				}
			}
		})
	}
	wg.Go(func() {
		for i := range 15 {
			if _, err := dial(t, s.NativeAddr(), "writer", "wrong"+strconv.Itoa(i)).ServerVersion(); err == nil {
				t.Error("a wrong password was accepted")
			}
			target := (&url.URL{Scheme: "http", User: url.UserPassword("admin", "wrong"), Host: s.HTTPAddr(), Path: "/"}).String()
			if code, answer := post(t, target, "SELECT 1"); code == http.StatusOK {
				t.Errorf("a wrong password was accepted: %s", answer)
			}
			_, _ = post(t, s.AnalystURL(), "SELECT throwIf(1)")
		}
	})
	wg.Wait()
	select {
	case <-s.Done():
		t.Fatalf("the server is gone: %v", s.Err())
	default:
	}
	if n := number(t, connect(t, s, clickhouse.Writer), "SELECT toUInt64(1)"); n != 1 {
		t.Error("no answer afterwards")
	}
}

// send writes garbage and leaves, with a reset or in order.
func send(t *testing.T, addr, garbage string, reset bool) {
	c, err := net.DialTimeout("tcp", addr, limit)
	if err != nil {
		t.Errorf("connect: %v", err)
		return
	}
	defer c.Close()
	if reset {
		_ = c.(*net.TCPConn).SetLinger(0)
	}
	_, _ = c.Write([]byte(garbage)) // the server may hang up in the middle
}
