package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/dashboards/queries"
)

// stallRatios gives stalled / (played + stalled) by CDN of what happened at or after since.
func stallRatios(u *upProgram, since time.Time) (map[string]float64, error) {
	type row struct {
		CDN   string
		Ratio float64
	}
	got, err := tryRows[row](u.ClickHouse, `SELECT cdn, sum(stalled_ms) / sum(played_ms + stalled_ms) AS ratio FROM spillway.session_slices
		WHERE time_ms >= %d AND cdn != '' GROUP BY cdn HAVING sum(played_ms + stalled_ms) > 1000`, since.UnixMilli())
	m := map[string]float64{}
	for _, r := range got {
		m[r.CDN] = r.Ratio
	}
	return m, err
}

// badHops waits until the wall's table of hops calls this one failing, before any other that a busy machine makes fail.
func badHops(t *testing.T, u *upProgram, want string) {
	t.Helper()
	var sql string
	for _, w := range queries.Walls(queries.DefaultThresholds()) {
		for _, p := range w.Panels() {
			if p.ID == "cdn-hops" {
				sql = p.SQL
			}
		}
	}
	within(t, time.Minute, "the CDN wall names the bad hop", func() error {
		now := time.Now()
		q, err := queries.Expand(sql, queries.All(), now.Add(-10*time.Minute), now, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		type hop struct{ Hop, CDN, Verdict string }
		got, err := tryRows[hop](u.ClickHouse, "SELECT hop, cdn, verdict FROM (%s) WHERE verdict = 'failing' AND hop != 'probe' ORDER BY failed_share DESC", strings.ReplaceAll(q, "%", "%%"))
		if err == nil && (len(got) == 0 || got[0].Hop+" "+got[0].CDN != want) {
			err = fmt.Errorf("%+v", got)
		}
		return err
	})
}

// TestFaultShowsInStallRatio: a CDN made bad from the command line is the one
// whose stall ratio rises in ClickHouse, within 15 s, and healing ends it.
func TestFaultShowsInStallRatio(t *testing.T) {
	env := environment(t)
	u := up(t, env, t.TempDir())
	// Five viewers on each of three CDNs play well.
	within(t, time.Minute, "five viewers play on every CDN", func() error {
		type row struct {
			CDN     string
			Viewers int
			Ratio   float64
		}
		got, err := tryRows[row](u.ClickHouse, `SELECT cdn, uniqExact(session_id) AS viewers, sum(stalled_ms) / sum(played_ms + stalled_ms) AS ratio
			FROM spillway.session_slices WHERE played_ms > 0 AND time > now() - 10 GROUP BY cdn ORDER BY cdn`)
		if err != nil {
			return err
		}
		good := 0
		for _, r := range got {
			if r.Viewers >= 5 && r.Ratio < 0.05 {
				good++
			}
		}
		if good != 3 {
			return fmt.Errorf("%+v", got)
		}
		return nil
	})

	// Nothing but the name is told: the command finds the running system.
	began := time.Now()
	if code, _, stderr := command(t, env, nil, "cdn", "fault", "b", "--rate", "300kbps", "--error-rate", "0.2"); code != 0 {
		t.Fatalf("cdn fault: exit code %d: %s", code, stderr)
	}
	var ratios map[string]float64
	within(t, 15*time.Second, "the stall ratio of b rises", func() (err error) {
		if ratios, err = stallRatios(u, began); err == nil && ratios["b"] < 0.2 {
			err = fmt.Errorf("%v", ratios)
		}
		return err
	})
	t.Logf("%s after the fault: %v", time.Since(began).Round(100*time.Millisecond), ratios)
	// The dashboards' view says the same. (Its minutes hold the time before the fault too.)
	type minute struct {
		CDN   string
		Ratio float64 `json:"worst"`
	}
	within(t, time.Until(began.Add(15*time.Second)), "v_cdn_minute shows b as the worst", func() error {
		got, err := tryRows[minute](u.ClickHouse, `SELECT cdn, max(stall_ratio) AS worst FROM spillway.v_cdn_minute
			WHERE minute >= toStartOfMinute(toDateTime(%d)) AND cdn != '' AND stall_ratio IS NOT NULL GROUP BY cdn ORDER BY worst DESC`, began.Unix())
		if err == nil && (len(got) == 0 || got[0].CDN != "b" || got[0].Ratio < 0.05) {
			err = fmt.Errorf("%+v", got)
		}
		return err
	})
	badHops(t, u, "edge b")
	for _, other := range []string{"a", "c"} {
		if ratios[other] > 0.05 {
			t.Errorf("CDN %s stalls too: %v", other, ratios)
		}
	}

	if code, _, stderr := command(t, env, nil, "cdn", "heal", "b"); code != 0 {
		t.Fatalf("cdn heal: exit code %d: %s", code, stderr)
	}
	within(t, time.Minute, "the stalls of b end", func() error {
		ratios, err := stallRatios(u, time.Now().Add(-4*time.Second))
		if r, seen := ratios["b"]; err == nil && (!seen || r > 0.05) {
			err = fmt.Errorf("%v", ratios)
		}
		return err
	})

	// What else the command line says of the running system.
	code, out, stderr := command(t, env, nil, "cdn", "list")
	if code != 0 || !strings.Contains(out, "a ") || !strings.Contains(out, "active") {
		t.Errorf("cdn list: exit code %d: %s%s", code, out, stderr)
	}
	code, out, stderr = command(t, env, nil, "experiment", "report", "player-delay")
	if code != 0 || !strings.Contains(out, "holdback") || !strings.Contains(out, "relaxed") {
		t.Errorf("experiment report: exit code %d: %s%s", code, out, stderr)
	}
	t.Logf("experiment report:\n%s", out)
	u.interrupt()
}
