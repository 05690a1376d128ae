package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/testenv/bench/origin"
)

func TestBenchOrigin(t *testing.T) {
	t.Parallel()
	env, temp := benchEnvironment(t)
	code, out, log := command(t, env, nil, "bench", "origin", "--publishers", "2", "--players", "20", "--connections", "2", "--window", "2s", "--clip", benchClip(t))
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, log)
	}
	nothingLeft(t, temp)
	var rep origin.Report
	d := json.NewDecoder(strings.NewReader(out))
	d.DisallowUnknownFields()
	if err := d.Decode(&rep); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if rep.Bench != "origin" || rep.Seconds != 2 || rep.Machine.CPUs < 1 || rep.ServerPeakRSSBytes < 10<<20 {
		t.Errorf("report %s", out)
	}
	if p := rep.Parts; p == nil || p.Requests < 25 || p.MeanBytes < 1000 || p.CPUUs <= 0 || p.Connections != 2 {
		t.Errorf("parts %+v", p)
	}
	// 20 players get every part of two seconds; a busy machine delays some.
	r := rep.Reloads
	if r == nil || r.Answers < 40 || r.AnswerMs.Samples+int(r.Late) != int(r.Answers) || r.MeanBytes < 500 || r.AnswerMs.P50 > r.AnswerMs.P99 {
		t.Errorf("reloads %+v", r)
	}
	v := rep.Delays
	if v == nil || v.VideoMs.Samples < 4 || v.AudioMs.Samples < 4 || v.SentMs.Samples != v.VideoMs.Samples {
		t.Fatalf("delays %+v", v)
	}
	// Nothing comes before its last frame has been sent.
	if v.VideoMs.P50 <= 0 || v.SentMs.P50 <= 0 || v.GatherMs.P50 < 0 || v.BusMs.P50 <= 0 {
		t.Errorf("delays %+v", v)
	}
}

func TestBenchOriginSettings(t *testing.T) {
	for want, args := range map[string][]string{
		"-1 publishers":   {"--publishers", "-1"},
		"clip to publish": {"--clip", "missing.flv"},
	} {
		var out, log strings.Builder
		args = append([]string{"bench", "origin", "--clip", benchClip(t)}, args...)
		if code := run(t.Context(), args, nil, &out, &log); code != 1 || !strings.Contains(log.String(), want) {
			t.Errorf("%q: exit code %d: %s", args, code, log.String())
		}
	}
}
