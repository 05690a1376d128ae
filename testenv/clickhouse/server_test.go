//go:build linux

package clickhouse_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/clickhouse"
	"github.com/spillway-live/spillway/testenv/clickhouse/clickhousetest"
)

func TestDataSurviveRestarts(t *testing.T) {
	t.Parallel()
	s := clickhousetest.StartOptions(t, clickhouse.Options{QueryLog: true})
	admin := connect(t, s, clickhouse.Admin)
	execute(t, admin,
		"CREATE TABLE t (id UInt64, day Date) ENGINE = MergeTree PARTITION BY day ORDER BY id",
		"INSERT INTO t SELECT number, '2026-11-20' FROM numbers(1000)")
	_ = admin.Close()

	password := s.Password(clickhouse.Writer)
	for round, end := range []func(){
		func() { stop(t, s) },
		func() { _ = s.Kill() },
		func() { stop(t, s) },
	} {
		before := s
		end()
		<-before.Done()
		if err := before.Err(); err != nil {
			t.Fatalf("round %d: an end that was asked for is reported as %v", round, err)
		}
		s = restart(t, before)
		if s.NativeAddr() != before.NativeAddr() || s.HTTPAddr() != before.HTTPAddr() || s.Password(clickhouse.Writer) != password {
			t.Fatalf("round %d: came back as %s, %s", round, s.NativeAddr(), s.HTTPAddr())
		}
		conn := connect(t, s, clickhouse.Writer)
		if n := number(t, conn, "SELECT count() FROM t"); n != uint64(1000+round) {
			t.Fatalf("round %d: %d rows", round, n)
		}
		execute(t, conn, "INSERT INTO t VALUES (5000, '2026-11-20')")
		_ = conn.Close()
	}
	// The query log is the part of `system` that breaks when that database is not persistent.
	conn := connect(t, s, clickhouse.Admin)
	execute(t, conn, "SYSTEM FLUSH LOGS query_log")
	if n := number(t, conn, "SELECT uniqExact(query) FROM system.query_log WHERE query LIKE 'INSERT INTO t %'"); n != 2 {
		t.Errorf("query log holds %d different inserts, want the two of all rounds", n)
	}
	if v := s.Version(); !strings.HasPrefix(v, "26.7.") {
		t.Errorf("version %q", v)
	}
}

func TestOneServerPerDirectory(t *testing.T) {
	t.Parallel()
	s := clickhousetest.Start(t)
	// Time enough on a busy machine to find the launcher, which comes first.
	ctx, cancel := context.WithTimeoutCause(t.Context(), 5*time.Second, errors.New("test's patience"))
	defer cancel()
	_, err := clickhouse.Start(ctx, clickhouse.Options{DataDir: s.DataDir()})
	if err == nil || !strings.Contains(err.Error(), "in use by another") || !strings.Contains(err.Error(), strconv.Itoa(s.PID())) {
		t.Errorf("second server on the same data: %v; want a refusal naming process %d", err, s.PID())
	}
	if n := number(t, connect(t, s, clickhouse.Analyst), "SELECT toUInt64(1)"); n != 1 {
		t.Error("the first one was disturbed")
	}
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	for name, opts := range map[string]clickhouse.Options{"native": {TCPPort: port}, "http": {HTTPPort: port}} {
		t.Run(name, func(t *testing.T) {
			opts.DataDir = t.TempDir()
			s, err := clickhouse.Start(t.Context(), opts)
			if err == nil {
				_ = s.Kill()
				t.Fatal("it started")
			}
			if !strings.Contains(err.Error(), strconv.Itoa(port)) || !strings.Contains(err.Error(), "is in use; choose other ports") {
				t.Errorf("error = %v", err)
			}
		})
	}
}

// Idle and busy clients must not keep a stop from flushing: without care ClickHouse waits for idle connections
// and then exits by force.
func TestStopWithConnectionsOpen(t *testing.T) {
	t.Parallel()
	s := clickhousetest.Start(t)
	execute(t, connect(t, s, clickhouse.Admin), "CREATE TABLE t (id UInt64) ENGINE = MergeTree ORDER BY id",
		"INSERT INTO t SELECT number FROM numbers(10)")
	for _, addr := range []string{s.NativeAddr(), s.HTTPAddr(), s.NativeAddr(), s.HTTPAddr()} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	var wg sync.WaitGroup
	busy := connect(t, s, clickhouse.Analyst)
	wg.Go(func() {
		err := busy.Exec(t.Context(), "SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(number)")
		if err == nil {
			t.Error("the endless query ended by itself")
		}
	})
	admin := connect(t, s, clickhouse.Admin)
	await.True(t, "the query runs", func() bool {
		return number(t, admin, "SELECT count() FROM system.processes WHERE user = 'analyst'") == 1
	})
	stop(t, s)
	wg.Wait()
	if state := s.Err(); state != nil {
		t.Error(state)
	}
	console, err := os.ReadFile(filepath.Join(s.DataDir(), "server", "console.log"))
	if err != nil || !strings.Contains(string(console), "stopping: terminated") || strings.Contains(string(console), "ending the process") {
		t.Errorf("console: %s, %v", console, err)
	}
	log, _ := os.ReadFile(filepath.Join(s.DataDir(), "server", "clickhouse.log"))
	if strings.Contains(string(log), "Will shutdown forcefully") {
		t.Errorf("the stop was forced: %s", log)
	}
	again := restart(t, s)
	if n := number(t, connect(t, again, clickhouse.Analyst), "SELECT count() FROM t"); n != 10 {
		t.Errorf("%d rows after the restart", n)
	}
}

func TestStopIsRepeatable(t *testing.T) {
	t.Parallel()
	s := clickhousetest.Start(t)
	if _, err := s.Restart(t.Context()); err == nil {
		t.Error("a running server was started again")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("no time left"))
	if err := s.Stop(ctx); err == nil || !strings.Contains(err.Error(), "no time left") {
		t.Errorf("stop without time: %v", err)
	}
	select {
	case <-s.Done():
	default:
		t.Fatal("Stop returned before the server's end")
	}
	stop(t, s)
	if err := s.Kill(); err != nil {
		t.Error(err)
	}
}

func TestUnaskedEndIsReported(t *testing.T) {
	t.Parallel()
	s, err := clickhouse.Start(t.Context(), clickhouse.Options{DataDir: t.TempDir(), MemoryLimitBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	p, err := os.FindProcess(s.PID())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Done():
	case <-time.After(limit):
		t.Fatal("Done does not tell of the end")
	}
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("Err() = %v", err)
	}
}

func TestListenOnAllAddresses(t *testing.T) {
	t.Parallel()
	s := clickhousetest.StartOptions(t, clickhouse.Options{ListenHost: "0.0.0.0"})
	if !strings.HasPrefix(s.NativeAddr(), "127.0.0.1:") {
		t.Errorf("native address %s is not one to connect to", s.NativeAddr())
	}
	if n := number(t, connect(t, s, clickhouse.Writer), "SELECT toUInt64(1)"); n != 1 {
		t.Error("writer gets no answer")
	}
	outer := outerAddress(t)
	_, port, _ := net.SplitHostPort(s.HTTPAddr())
	base := "http://" + net.JoinHostPort(outer, port) + "/"
	if code, answer := post(t, withParams(t, base, "user", "writer", "password", s.Password(clickhouse.Writer)), "SELECT 1"); code != 200 {
		t.Errorf("writer from outside: %d %s", code, answer)
	}
	// The analyst's own limit, this machine, cannot be tested from this machine.
	for _, target := range []string{base, withParams(t, base, "user", "default"), withParams(t, base, "user", "writer")} {
		if code, answer := post(t, target, "SELECT 1"); code == 200 {
			t.Errorf("%s without a password was answered: %s", target, answer)
		}
	}
}

// outerAddress is an address of this machine that is not loopback.
func outerAddress(t *testing.T) string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && !ip.IP.IsLoopback() && ip.IP.To4() != nil {
			return ip.IP.String()
		}
	}
	t.Skip("this machine has only loopback addresses")
	return ""
}
