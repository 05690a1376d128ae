package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/spillway-live/spillway/schemas"
)

// applied makes the database look as if it had had all tables for long.
func applied(t *testing.T, conn driver.Conn) {
	t.Helper()
	if err := conn.Exec(t.Context(), "INSERT INTO spillway.schema_migrations SELECT name, sha256, toDateTime64('2020-01-01 00:00:00', 3) FROM spillway.schema_migrations"); err != nil {
		t.Fatal(err)
	}
}

// What is kept at insert says the same as the rows: who was exposed, who reported, and the segments.
func unitsKeptAgree(t *testing.T, conn driver.Conn) {
	for _, unit := range []string{schemas.UnitViewer, schemas.UnitSession} {
		x := experiment("kept-" + unit)
		x.Unit, x.PrimaryMetric, x.Guardrails = unit, "stall_ratio", []schemas.Guardrail{{Metric: "played_per_unit", Margin: 0.1}}
		x.Plan = &schemas.ExperimentPlan{Effect: 0.2, Mean: 1, Variance: 1, UnitsPerDay: 1e4, Days: 55.0 / 1440} // until five minutes ago
		plant(t, conn, x, 1200)
		insert := func(sql string) {
			t.Helper()
			if err := conn.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
		}
		now := time.Now().Add(-20 * time.Minute).UTC()
		// One unit meets the other arm later, one was only exposed, one only reported.
		insert(fmt.Sprintf(`INSERT INTO spillway.exposures (time, experiment, salt, unit, session_id, viewer_id, arm, reason) SELECT max(time) + 60, experiment, salt, unit, 'again', viewer_id, if(any(arm) = 'low', 'control', 'low'), 'assigned'
			FROM spillway.exposures WHERE experiment = '%[1]s' AND unit = 'viewer-7' GROUP BY experiment, salt, unit, viewer_id`, x.Name))
		insert(fmt.Sprintf(`INSERT INTO spillway.exposures (time, experiment, salt, unit, session_id, viewer_id, arm, reason) VALUES ('%[2]s', '%[1]s', 'p1', 'silent', 's1', 'silent', 'low', 'assigned'), ('%[2]s', '%[1]s', 'p1', 'qa', 's2', 'qa', 'low', 'forced')`, x.Name, stamp(now)))
		// Two came after the planned end.
		insert(fmt.Sprintf(`INSERT INTO spillway.exposures (time, experiment, salt, unit, session_id, viewer_id, arm, reason) VALUES ('%[2]s', '%[1]s', 'p1', 'late1', 's8', 'late1', 'control', 'assigned'), ('%[2]s', '%[1]s', 'p1', 'late2', 's9', 'late2', 'control', 'assigned')`, x.Name, stamp(time.Now().Add(-2*time.Minute))))
		insert(fmt.Sprintf(`INSERT INTO spillway.session_slices (time_ms, session_id, viewer_id, cdn, isp, arms, sessions, played_ms) VALUES (%[2]d, 's3', 'unknown', 'b', 'x', '%[1]s=control', 1, 1000)`, x.Name, now.UnixMilli()))
		var got [2]*Report
		for i := range got {
			q, o, err := newQueries(conn, x, Options{Exact: true})
			if err != nil {
				t.Fatal(err)
			}
			q.rolled = i == 1
			if got[i], err = q.build(t.Context(), o, func(_ string, err error) error { return err }); err != nil {
				t.Fatal(err)
			}
		}
		rows, kept := got[0], got[1]
		if fmt.Sprint(rows.Arms) != fmt.Sprint(kept.Arms) || rows.Health.Several != kept.Health.Several || kept.Health.Several != 1 {
			t.Errorf("unit %s: from rows %+v, several %d; kept %+v, several %d", unit, rows.Arms, rows.Health.Several, kept.Arms, kept.Health.Several)
		}
		if a, b := rows.primary().PlannedEnd, kept.primary().PlannedEnd; a == nil || b == nil || a.Arms[0].Undefined != "" || fmt.Sprint(a.Comparisons) != fmt.Sprint(b.Comparisons) || kept.Arms[0].Exposed+kept.Arms[1].Exposed != 1203 {
			t.Errorf("unit %s, at the planned end: from rows %+v, kept %+v", unit, a, b)
		}
		if n := kept.Arms[1]; unit == schemas.UnitViewer && (n.Silent != 1 || kept.Arms[0].Unexposed != 1) {
			t.Errorf("one was exposed without telemetry and one reported without exposure: %+v", kept.Arms)
		}
		for i := range rows.Metrics {
			if a, b := rows.Metrics[i], kept.Metrics[i]; a.Exact && fmt.Sprint(a.Arms) != fmt.Sprint(b.Arms) {
				t.Errorf("unit %s, %s: from rows %+v, kept %+v", unit, a.Name, a.Arms, b.Arms)
			}
		}
		for i, s := range rows.Segments {
			if len(s.Values) == 0 || len(s.Values) != len(kept.Segments[i].Values) {
				t.Fatalf("segments of rows %+v, kept %+v", rows.Segments, kept.Segments)
			}
			for k, v := range s.Values {
				w := kept.Segments[i].Values[k]
				if v.Value != w.Value || fmt.Sprint(v.Sessions) != fmt.Sprint(w.Sessions) || fmt.Sprintf("%.6g", v.Metrics[0].Arms[0].Estimate) != fmt.Sprintf("%.6g", w.Metrics[0].Arms[0].Estimate) {
					t.Errorf("segment %s: of rows %+v, kept %+v", s.Dimension, v, w)
				}
			}
		}
	}
}

// What makes no sense or is missing has a stated result.
func badInput(t *testing.T, conn driver.Conn) {
	applied(t, conn)
	now := time.Now().Add(-30 * time.Minute).UTC()
	// plantUnits writes one session for each unit of each arm: stalled and played in ms.
	plantUnits := func(x *schemas.Experiment, arm string, n int, exposed, reports bool, stalled, played int64) {
		t.Helper()
		for table, want := range map[string]bool{"exposures (time, experiment, salt, unit, session_id, viewer_id, arm, reason) SELECT toDateTime64('%[5]s', 6, 'UTC'), '%[1]s', 'p1', '%[2]s-' || toString(number), 's', '%[2]s-' || toString(number), '%[2]s', 'assigned'": exposed,
			"session_slices (time_ms, session_id, viewer_id, app, stream, cdn, arms, sessions, attempts, starts, played_ms, stalled_ms) SELECT toUnixTimestamp64Milli(toDateTime64('%[5]s', 3, 'UTC')), '%[1]s-%[2]s-' || toString(number), '%[2]s-' || toString(number), 'live', 'demo', 'a', '%[1]s=%[2]s', 1, 1, 1, %[4]d, %[3]d": reports} {
			if !want {
				continue
			}
			if err := conn.Exec(t.Context(), fmt.Sprintf("INSERT INTO spillway."+table+" FROM numbers(%[6]d)", x.Name, arm, stalled, played, stamp(now), n)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name    string
		plant   func(x *schemas.Experiment)
		verdict string
		says    string // in the text of the report
	}{
		{"empty-arm", func(x *schemas.Experiment) { plantUnits(x, "control", 5, true, true, 10, 1000) }, CannotTell, "arm low has no units yet"},
		{"one-unit", func(x *schemas.Experiment) {
			plantUnits(x, "control", 1, true, true, 10, 1000)
			plantUnits(x, "low", 1, true, true, 20, 1000)
		}, CannotTell, "1 unit has no variance"},
		{"zero-variance", func(x *schemas.Experiment) {
			plantUnits(x, "control", 200, true, true, 10, 1000)
			plantUnits(x, "low", 200, true, true, 20, 1000)
		}, CannotTell, "does not vary"},
		{"zero-denominator", func(x *schemas.Experiment) {
			plantUnits(x, "control", 200, true, true, 0, 0)
			plantUnits(x, "low", 200, true, true, 0, 0)
		}, CannotTell, "the denominator sums to 0"},
		{"silent", func(x *schemas.Experiment) {
			plantUnits(x, "control", 300, true, true, 10, 1000)
			plantUnits(x, "low", 300, true, false, 0, 0)
		}, CannotTell, "telemetry is lost unevenly"},
		{"unexposed", func(x *schemas.Experiment) {
			plantUnits(x, "control", 30, false, true, 10, 1000)
			plantUnits(x, "low", 30, false, true, 10, 1000)
		}, CannotTell, "30 units report and were never exposed"},
		{"strange-arm", func(x *schemas.Experiment) {
			plantUnits(x, "control", 5, true, true, 10, 1000)
			plantUnits(x, "gone", 7, false, true, 10, 1000)
		}, CannotTell, "7 units report an arm"},
		{"two-arms", func(x *schemas.Experiment) {
			plantUnits(x, "control", 200, true, true, 10, 1000)
			plantUnits(x, "low", 200, true, true, 10, 1000)
			if err := conn.Exec(t.Context(), "INSERT INTO spillway.exposures (time, experiment, salt, unit, viewer_id, arm, reason) SELECT time + 5, experiment, salt, unit, viewer_id, 'low', reason FROM spillway.exposures WHERE experiment = '"+x.Name+"' AND arm = 'control' LIMIT 20"); err != nil {
				t.Fatal(err)
			}
		}, CannotTell, "20 of 400 units were exposed to more than one arm"},
		{"one-in-two-arms", func(x *schemas.Experiment) {
			plantUnits(x, "control", 200, true, true, 10, 1000)
			plantUnits(x, "low", 200, true, true, 10, 1000)
			for _, sql := range []string{
				"INSERT INTO spillway.exposures (time, experiment, salt, unit, viewer_id, arm, reason) SELECT time + 5, experiment, salt, unit, viewer_id, 'low', reason FROM spillway.exposures WHERE experiment = '" + x.Name + "' AND unit = 'control-0'",
				fmt.Sprintf("INSERT INTO spillway.session_slices (time_ms, session_id, viewer_id, arms, sessions, played_ms) VALUES (%d, 'second', 'control-0', '%s=low', 1, 7000)", now.Add(5*time.Second).UnixMilli(), x.Name),
			} {
				if err := conn.Exec(t.Context(), sql); err != nil {
					t.Fatal(err)
				}
			}
		}, CannotTell, "1 of 400 units were exposed to more than one arm; they count in the arm they met first, what they viewed in the arm they viewed it in"},
	} {
		x := experiment("bad-" + c.name)
		x.PrimaryMetric, x.Guardrails = "stall_ratio", []schemas.Guardrail{{Metric: "stalls_per_hour", Margin: 0.1}}
		c.plant(x)
		r, err := Build(t.Context(), conn, x, Options{Exact: true})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var text bytes.Buffer
		if err := r.WriteText(&text); err != nil {
			t.Fatal(err)
		}
		if r.Decision.Verdict != c.verdict || !strings.Contains(text.String(), c.says) || strings.Contains(text.String(), "NaN") || strings.Contains(text.String(), "Inf") {
			t.Errorf("%s: verdict %q, want %q and in the text %q:\n%s", c.name, r.Decision.Verdict, c.verdict, c.says, text.String())
		}
		if a := r.Arms; c.name == "one-in-two-arms" && (a[0].Exposed != 200 || a[1].Exposed != 200 || a[0].Sessions != 200 || a[1].Sessions != 201) {
			t.Errorf("%s: sizes %+v, want 200 units in each arm and the further session in the arm it was in", c.name, a)
		}
		if data, err := json.Marshal(r); err != nil || bytes.Contains(data, []byte("NaN")) {
			t.Errorf("%s: JSON: %v", c.name, err)
		}
	}
}
