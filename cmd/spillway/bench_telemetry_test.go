package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/testenv/bench/telemetry"
)

// Sessions are held by one sessioniser, which is killed; another has all of them, and accounts for every row once.
func TestBenchOpenSessions(t *testing.T) {
	t.Parallel()
	env, temp := benchEnvironment(t)
	code, out, log := command(t, env, nil, "bench", "telemetry", "--open-sessions", "5000", "--report-every", "2s", "--snapshot-every", "500ms")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, log)
	}
	nothingLeft(t, temp)
	var rep telemetry.OpenReport
	d := json.NewDecoder(strings.NewReader(out))
	d.DisallowUnknownFields()
	if err := d.Decode(&rep); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if rep.Sessions != 5000 || rep.Overflow != 0 || !rep.Exact || rep.SlicedSessions != 5000 || rep.Rows < 10_000 || rep.SlicedReports != rep.Rows {
		t.Errorf("report %s", out)
	}
	if rep.SnapshotBytes < 5000*50 || rep.PeakRSSBytes < 10<<20 || rep.SuccessorPeakRSSBytes < 10<<20 {
		t.Errorf("report %s", out)
	}
	v := rep.Takeover
	if v.StartedSeconds <= 0 || v.TakenSeconds <= 0 || v.RestoredSeconds <= 0 || v.SliceSeconds <= 0 || v.HeldSeconds <= 0 {
		t.Errorf("takeover %+v", v)
	}
	if v := rep.Move; v.TakenSeconds <= 0 || v.RestoredSeconds <= 0 || v.HeldSeconds <= 0 {
		t.Errorf("move %+v", v)
	}
}

func TestBenchOpenSessionsSettings(t *testing.T) {
	for want, args := range map[string][]string{
		"at least 100 open sessions": {"--open-sessions", "3"},
		"between snapshots":          {"--open-sessions", "100", "--snapshot-every", "0s"},
	} {
		var out, log strings.Builder
		if code := run(t.Context(), append([]string{"bench", "telemetry"}, args...), nil, &out, &log); code != 1 || !strings.Contains(log.String(), want) {
			t.Errorf("%q: exit code %d: %s", args, code, log.String())
		}
	}
}
