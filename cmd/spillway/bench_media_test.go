package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/testenv/bench"
	"github.com/spillway-live/spillway/testenv/publisher"
)

// benchClip is a small clip, so that the test costs little.
func benchClip(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "clip.flv")
	if err := (publisher.Clip{Path: path, Width: 320, Height: 180, BitrateKbps: 300, Seconds: 4}).Make(t.Context()); err != nil {
		t.Fatal(err)
	}
	return path
}

// benchEnvironment gives the program a directory of its own for temporary files.
func benchEnvironment(t *testing.T) (env []string, temp string) {
	t.Helper()
	temp = t.TempDir()
	return append(environment(t), "TMPDIR="+temp), temp
}

func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range left {
		t.Errorf("%s is left behind", f.Name())
	}
}

func TestBenchMedia(t *testing.T) {
	t.Parallel()
	env, temp := benchEnvironment(t)
	code, out, log := command(t, env, nil, "bench", "media", "--publishers", "2", "--seconds", "3", "--clip", benchClip(t))
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, log)
	}
	nothingLeft(t, temp)
	var rep bench.Report
	d := json.NewDecoder(strings.NewReader(out))
	d.DisallowUnknownFields()
	if err := d.Decode(&rep); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if rep.Bench != "media" || rep.Publishers != 2 || rep.Seconds != 3 || rep.Rounds != 1 || rep.Machine.CPUs < 1 || len(rep.Ratios) != 0 {
		t.Errorf("report %s", out)
	}
	if len(rep.Runs) != 2 || len(rep.Summary) != 2 {
		t.Fatalf("not two runs, without and with readers: %s", out)
	}
	for i, r := range rep.Runs {
		if r.Server != "spillway" || r.Round != 1 || r.ReadersPerStream != i || r.WindowSeconds < 3 {
			t.Errorf("run %d: %+v", i, r)
		}
		if r.CPUSeconds <= 0 || r.CPUSeconds != rep.Summary[i].CPUSeconds.Median || r.GeneratorCPUSeconds <= 0 || r.PeakRSSBytes < 10<<20 {
			t.Errorf("run %d: implausible use of resources: %+v", i, r)
		}
		// 300 kbit/s are the encoder's aim; RTMP adds a little.
		if r.MbpsPerStream < 0.1 || r.MbpsPerStream > 1 {
			t.Errorf("run %d: %.3f Mbit/s a stream were sent", i, r.MbpsPerStream)
		}
		if r.StreamsPackaged != 2 || r.PartsOnBus < 2*2*5 || r.Interruptions != 0 {
			t.Errorf("run %d: not everything was packaged: %+v", i, r)
		}
	}
	if rep.Runs[0].Reading != nil || rep.Summary[0].LatencyP50Ms != nil {
		t.Errorf("latency without a reader: %+v", rep.Runs[0])
	}
	x := rep.Runs[1].Reading
	if x == nil || rep.Summary[1].LatencyP50Ms == nil {
		t.Fatalf("no latency with readers: %s", out)
	}
	// Five video parts a second in three seconds from two streams are 30; a busy machine shifts some.
	if x.VideoLatency.Samples < 15 || x.AudioLatency.Samples < 15 || x.Parts < 30 || x.Bytes < 10_000 || x.Requests <= x.Parts || x.Errors != 0 {
		t.Errorf("readers saw %+v", x)
	}
	// A part cannot come before its last frame, which lasts 33 ms.
	if v := x.VideoLatency; v.P50 < -40 || v.P50 > v.P95 || v.P95 > v.Max || v.Max > 60_000 {
		t.Errorf("latency %+v", v)
	}
}

// TestBenchMediaInterrupted presses Ctrl-C in the middle of a run.
func TestBenchMediaInterrupted(t *testing.T) {
	t.Parallel()
	env, temp := benchEnvironment(t)
	p := launch(t, env, "bench", "media", "--publishers", "1", "--seconds", "600", "--readers", "1", "--clip", benchClip(t), "--log-level", "debug")
	p.waitLog("counting")
	if len(p.descendants()) == 0 {
		t.Error("the server is not a child process")
	}
	p.interrupt()
	nothingLeft(t, temp)
	if s := p.out.String(); s != "" {
		t.Errorf("half a report: %s", s)
	}
}

func TestBenchMediaSettings(t *testing.T) {
	clip := filepath.Join(t.TempDir(), "clip.flv")
	if err := os.WriteFile(clip, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"comma-separated":    {"--readers", "one"},
		"-1 publishers":      {"--publishers", "-1", "--clip", clip},
		"readers per stream": {"--readers", "-1", "--clip", clip},
		"a window of":        {"--seconds", "9000", "--clip", clip},
		"clip to publish":    {"--clip", clip + "x"},
	} {
		var out, log strings.Builder
		if code := run(t.Context(), append([]string{"bench", "media"}, args...), nil, &out, &log); code != 1 || !strings.Contains(log.String(), want) {
			t.Errorf("%q: exit code %d: %s", args, code, log.String())
		}
	}
}
