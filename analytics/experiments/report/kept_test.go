package report

import (
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/spillway-live/spillway/schemas"
)

// What tables no longer hold of an experiment is told; where nothing else has it the comparison is void.
func TestKept(t *testing.T) {
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		unit           string
		rolled         bool
		days           int
		problem, noted string
	}{
		{schemas.UnitViewer, true, 89, "", ""},
		{schemas.UnitViewer, true, 95, "", "rows before 2026-03-03 are no longer kept"},
		{schemas.UnitSession, true, 399, "", "rows before"},
		{schemas.UnitViewer, false, 95, "rows before", ""},
		{schemas.UnitStream, true, 95, "rows before 2026-03-03", ""},
		{schemas.UnitBlock, true, 95, "rows before", ""},
		{schemas.UnitBlock, true, 60, "", ""},
		{schemas.UnitViewer, true, 401, "units before 2025-04-27 are no longer kept", ""},
	} {
		x := experiment("old")
		x.Unit = c.unit
		var h Health
		h.kept(x, c.rolled, now.AddDate(0, 0, -c.days), now)
		for _, part := range []struct {
			got  []string
			want string
		}{{h.Problems, c.problem}, {h.Notes, c.noted}} {
			if all := strings.Join(part.got, "; "); (all == "") != (part.want == "") || !strings.Contains(all, part.want) {
				t.Errorf("unit %s, %d days, rolled %v: %q, want %q", c.unit, c.days, c.rolled, all, part.want)
			}
		}
	}
}

// A report on an experiment of which rows are gone takes no figure over every unit.
func oldIsNotExact(t *testing.T, conn driver.Conn) {
	x := experiment("ancient")
	x.PrimaryMetric = "stall_ratio"
	plant(t, conn, x, 300)
	for days, want := range map[int]bool{1: true, 95: false} {
		r, err := Build(t.Context(), conn, x, Options{Exact: true, Brief: true, now: time.Now().AddDate(0, 0, days), Until: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		told := strings.Join(append(r.Health.Problems, r.Health.Notes...), "; ")
		if r.primary().Exact != want || strings.Contains(told, "no longer kept") == want {
			t.Errorf("%d days later: exact %v, told %q", days, r.primary().Exact, told)
		}
	}
}
