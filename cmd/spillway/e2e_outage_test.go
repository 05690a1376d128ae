package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/spillway-live/spillway/testenv/clickhouse"
	"github.com/spillway-live/spillway/testenv/need"
)

// reporter posts CMCD events of many sessions and counts what was accepted.
type reporter struct {
	collector string
	accepted  atomic.Int64
	sessions  int
	own       string // id of the first session, one that a router began
}

// id is the session's.
func (r *reporter) id(i int) string {
	if i == 0 && r.own != "" {
		return r.own
	}
	return fmt.Sprintf("e2e-%d", i)
}

// run posts until ctx ends; each round is one report of every session. What ClickHouse can bear is not the question
// here, so rounds have a pause.
func (r *reporter) run(ctx context.Context) error {
	pause := time.NewTicker(20 * time.Millisecond)
	defer pause.Stop()
	for sn := 0; ctx.Err() == nil; sn++ {
		select {
		case <-pause.C:
		case <-ctx.Done():
			return nil
		}
		var events strings.Builder
		for i := range r.sessions {
			state := "p"
			if sn == 0 {
				state = "s"
			}
			fmt.Fprintf(&events, "cid=\"live/e2e\",e=ps,sid=\"%s\",sn=%d,sta=%s,ts=%d,v=2\n", r.id(i), sn, state, time.Now().UnixMilli())
		}
		if err := r.post(events.String()); err != nil {
			return err
		}
	}
	return nil
}

func (r *reporter) post(events string) error {
	resp, err := http.Post(r.collector, "application/cmcd", strings.NewReader(events))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		text, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("%s: %s %s", events, resp.Status, text)
	}
	r.accepted.Add(int64(strings.Count(events, "\n")))
	return nil
}

// TestClickHouseOutage: while telemetry flows, ClickHouse hangs, then dies of
// kill -9 and comes back, and so does the sessioniser. Every accepted report is
// in its table once, and the roll-ups add up to the raw rows. Routing goes on
// meanwhile, and says how old its telemetry is.
func TestClickHouseOutage(t *testing.T) {
	t.Parallel()
	srv, err := clickhouse.Start(t.Context(), clickhouse.Options{DataDir: t.TempDir(), MemoryLimitBytes: 1 << 30})
	if errors.Is(err, clickhouse.ErrUnsupported) {
		need.Missing(t, "%v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := srv.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	env, dir := environment(t), t.TempDir()
	u := up(t, env, dir, "--no-demo", "--only", "loader,collector,router", "--clickhouse", srv.NativeURL(clickhouse.Admin))
	aggregate := func() *program {
		return launch(t, env, "sessioniser", "--data", dir, "--nats", u.NATS, "--log-level", "warn")
	}
	sessioniser := aggregate()
	routing := routed(t, u)
	r := &reporter{collector: u.Collector, sessions: 50, own: routing.first.SessionID}
	stop := background(t, "reports", r.run)
	loaded := func() (n int64, err error) {
		type row struct{ N int64 }
		got, err := tryRows[row](srv.AnalystURL(), "SELECT count() AS n FROM spillway.telemetry")
		if err != nil {
			return 0, err
		}
		return got[0].N, nil
	}
	flows := func(what string) {
		t.Helper()
		from := r.accepted.Load()
		within(t, time.Minute, what, func() error {
			n, err := loaded()
			if err == nil && n <= from {
				err = fmt.Errorf("%d rows, %d were accepted when it began", n, from)
			}
			return err
		})
	}
	accept := func(n int64) {
		t.Helper()
		from := r.accepted.Load()
		within(t, time.Minute, "reports are accepted", func() error {
			if got := r.accepted.Load() - from; got < n {
				return fmt.Errorf("%d", got)
			}
			return nil
		})
	}
	flows("rows arrive")

	if err := syscall.Kill(srv.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	accept(2000)
	if err := syscall.Kill(srv.PID(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	flows("rows arrive after ClickHouse hung")

	if err := syscall.Kill(-srv.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-srv.Done()
	routing.knows()
	sessioniser.kill()
	accept(2000)
	blind := routing.ages()
	aggregate()
	if srv, err = srv.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	flows("rows arrive after ClickHouse was killed")
	routing.recorded(srv.AnalystURL(), blind)

	stop()
	accepted := r.accepted.Load()
	within(t, time.Minute, "everything accepted is in ClickHouse", func() error {
		n, err := loaded()
		if err == nil && n != accepted {
			err = fmt.Errorf("%d rows of %d accepted", n, accepted)
		}
		return err
	})
	type sums struct{ Rows, Distinct, Reports, Rolled, Sessions, Starts, RolledStarts, Played, RolledPlayed, ByStream int64 }
	var s sums
	within(t, time.Minute, "slices and roll-ups agree with the raw rows", func() error {
		got, err := tryRows[sums](srv.AnalystURL(), `
			SELECT (SELECT count() FROM spillway.telemetry) AS rows,
				(SELECT uniqExact(session_id, seq) FROM spillway.telemetry) AS distinct,
				(SELECT sum(reports) FROM spillway.session_slices) AS reports,
				(SELECT sum(reports) FROM spillway.rollup_minute) AS rolled,
				(SELECT sum(sessions) FROM spillway.session_slices) AS sessions,
				(SELECT sum(starts) FROM spillway.session_slices) AS starts,
				(SELECT sum(starts) FROM spillway.rollup_minute) AS rolledstarts,
				(SELECT sum(played_ms) FROM spillway.session_slices) AS played,
				(SELECT sum(played_ms) FROM spillway.rollup_minute) AS rolledplayed,
				(SELECT sum(reports) FROM spillway.rollup_stream_minute) AS bystream`)
		if err != nil {
			return err
		}
		s = got[0]
		if s.Rows != accepted || s.Distinct != accepted || s.Reports != accepted || s.Rolled != accepted || s.ByStream != accepted ||
			s.Sessions != int64(r.sessions) || s.Starts != int64(r.sessions) || s.RolledStarts != s.Starts || s.Played == 0 || s.RolledPlayed != s.Played {
			return fmt.Errorf("%d accepted; %+v", accepted, s)
		}
		return nil
	})
	t.Logf("%d accepted; %+v", accepted, s)

	// Ctrl-C keeps its five seconds with a ClickHouse that does not answer.
	if err := syscall.Kill(srv.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(srv.PID(), syscall.SIGCONT)
	stop = background(t, "reports", r.run)
	accept(500)
	stop()
	u.interrupt()
}
