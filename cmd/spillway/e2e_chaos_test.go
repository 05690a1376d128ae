package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/testenv/chaos"
)

// TestChaosMedia is the short form of "spillway chaos media": each role's processes are killed under load, and
// nothing that readers and viewers get is missing, doubled, different or late enough to stall.
func TestChaosMedia(t *testing.T) {
	clip := benchClip(t)
	env, temp := benchEnvironment(t)
	code, out, log := command(t, env, nil, "chaos", "media", "--kills", "6", "--seed", "7", "--between", "3s",
		"--publishers", "4", "--viewers", "4", "--renditions", "1", "--clip", clip)
	var rep chaos.Report
	if err := json.Unmarshal([]byte(out), &rep); err != nil {
		t.Fatalf("exit code %d, %v: %s", code, err, tail(log, 8000))
	}
	if code != 0 || len(rep.Failures) > 0 {
		t.Errorf("exit code %d: %s\n%s", code, strings.Join(rep.Failures, "\n"), tail(log, 8000))
	}
	nothingLeft(t, temp)
	killed := rep.Kills[chaos.Ingest] + rep.Kills[chaos.Packager] + rep.Kills[chaos.Origin] + rep.Kills[chaos.Transcoder]
	if killed != 6 || len(rep.Kills) != 4 {
		t.Errorf("killed %v, not six of all four roles", rep.Kills)
	}
	if rep.Compared < rep.PartsOnBus || rep.PartsOnBus < 500 || rep.NewEpochs == 0 || len(rep.ReconnectMs) == 0 || rep.PlayedSeconds < 30 {
		t.Errorf("too little was looked at: %s", out)
	}
	t.Logf("%s", out)
}

// TestChaosTelemetry is the short form of "spillway chaos telemetry": each process that telemetry goes through is
// killed under load, the bus's disk is full for a while, and every event is accounted for once.
func TestChaosTelemetry(t *testing.T) {
	t.Parallel()
	env, temp := benchEnvironment(t)
	report := filepath.Join(t.TempDir(), "report.md")
	code, out, log := command(t, env, nil, "chaos", "telemetry", "--kills", "5", "--seed", "7", "--between", "1s",
		"--events", "300", "--players", "30", "--bus-disk", "256", "--report", report)
	var rep chaos.TelemetryReport
	if err := json.Unmarshal([]byte(out), &rep); err != nil {
		t.Fatalf("exit code %d, %v: %s", code, err, tail(log, 8000))
	}
	if code != 0 || !rep.Exact || len(rep.Failures) > 0 {
		t.Errorf("exit code %d: %s\n%s", code, strings.Join(rep.Failures, "\n"), tail(log, 8000))
	}
	nothingLeft(t, temp)
	if len(rep.Kills) != 5 || rep.AcceptedRows < 500 || rep.RawRows < rep.AcceptedRows || rep.Sessions < 30 || rep.Measures < 20 {
		t.Errorf("too little was looked at: %s", out)
	}
	if b, err := os.ReadFile(report); err != nil || !strings.Contains(string(b), "\n## Telemetry\n") {
		t.Errorf("report %v:\n%s", err, b)
	}
	t.Logf("%s", out)
}

func TestChaosRefusesSettings(t *testing.T) {
	clip := filepath.Join(t.TempDir(), "none.flv")
	code, _, log := command(t, environment(t), nil, "chaos", "media", "--kills", "-1", "--clip", clip)
	if code != 1 || !strings.Contains(log, "choose 1 to 10000") {
		t.Errorf("exit code %d: %s", code, log)
	}
}
