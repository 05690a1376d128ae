package main

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/testenv/need"
	"github.com/spillway-live/spillway/testenv/publisher"
	"github.com/spillway-live/spillway/testenv/viewer"
)

// background runs f until the test, or stop, ends it.
func background(t testing.TB, what string, f func(ctx context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	ended := false
	stop = func() {
		cancel()
		if ended {
			return
		}
		ended = true
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("%s does not stop", what)
		}
	}
	t.Cleanup(stop)
	return stop
}

// smallClip makes a clip to be pushed in a loop: unlike a live encoder it drops
// no frames on a busy machine, so that what a strict player sees is ours.
func smallClip(t *testing.T) string {
	t.Helper()
	need.Program(t, "ffmpeg")
	clip := filepath.Join(t.TempDir(), "clip.flv")
	if err := (publisher.Clip{Path: clip, BitrateKbps: 200, Width: 160, Height: 90}).Make(t.Context()); err != nil {
		t.Fatal(err)
	}
	return clip
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// metric reads one sample, given as it stands in /metrics up to the value; 0 if it is not there.
func metric(t *testing.T, metricsURL, sample string) float64 {
	t.Helper()
	code, text, err := httpGet(metricsURL)
	if err != nil || code != 200 {
		t.Fatalf("%s: %d %v", metricsURL, code, err)
	}
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		if v, ok := strings.CutPrefix(s.Text(), sample+" "); ok {
			f, err := strconv.ParseFloat(v, 64)
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
	}
	return 0
}

type packagerProcess struct {
	*program
	metrics string
}

// TestKilledWorkersAreNotNoticed: every role in a process of its own. Three
// packagers share the load of twenty streams evenly; a packager and an origin
// are killed while players watch, and the players do not notice.
func TestKilledWorkersAreNotNoticed(t *testing.T) {
	clip := smallClip(t)
	env, dir := environment(t), t.TempDir()
	u := up(t, env, dir, "--no-demo", "--only", "ingest,router")
	role := func(args ...string) *program {
		return launch(t, env, append([]string{args[0], "--data", dir}, args[1:]...)...)
	}
	startPackager := func() packagerProcess {
		p := packagerProcess{program: role("packager", "--package", "always", "--metrics", "127.0.0.1:0")}
		p.metrics = p.waitLog(`msg=metrics url=(\S+)`)
		p.waitLog(`msg="role runs"`)
		return p
	}
	packagers := []packagerProcess{startPackager(), startPackager(), startPackager()}
	// One takes packagers' parts, which is the one that is killed; the other cuts the same itself.
	origins := []*program{role("origin", "--parts", "packagers", "--listen", "127.0.0.1:0"), role("origin", "--listen", "127.0.0.1:0")}
	var originURLs []string
	for _, o := range origins {
		originURLs = append(originURLs, o.waitLog(`msg=origin url=(\S+)`))
	}
	edge := role("edge", "--name", "a", "--origins", strings.Join(originURLs, ","), "--routers", u.Router)
	edgeURL := edge.waitLog(`msg=edge name=a url=(\S+)`)
	edge.waitLog(`msg="role runs"`)

	within(t, time.Minute, "all ways to publish answer, over UDP and TCP", func() error {
		code, out, log := command(t, env, nil, "publisher", "probe", "live/watched", "--data", dir, "--candidates", "1")
		for _, way := range []string{"rtmp", "rtmps", "srt", "whip"} {
			if !regexp.MustCompile(`(?m)^\w+ +`+way+` .* answers$`).MatchString(out) || code != 0 || !strings.Contains(out, "publish to ") {
				return fmt.Errorf("%s: %s%s", way, out, log)
			}
		}
		return nil
	})

	watched := &publisher.Replay{File: clip, URLs: []string{u.Push + "/watched?cdn=a"}, Logger: quiet()}
	background(t, "publisher", watched.Run)
	multivariant := edgeURL + "/live/watched/multivariant.m3u8"
	within(t, time.Minute, "the stream can be played", func() error {
		code, _, err := httpGet(multivariant)
		if err == nil && code != 200 {
			err = fmt.Errorf("%s: %d", multivariant, code)
		}
		return err
	})

	t.Run("three packagers share twenty streams", func(t *testing.T) {
		var urls []string
		for i := range 20 {
			urls = append(urls, fmt.Sprintf("%s/load%d?cdn=a", u.Push, i))
		}
		load := &publisher.Replay{File: clip, URLs: urls, Logger: quiet()}
		stop := background(t, "load", load.Run)
		defer stop()
		const sample = `spillway_worker_handled_total{role="packager"}`
		handled := func() (each []float64, total float64) {
			for _, p := range packagers {
				v := metric(t, p.metrics, sample)
				each, total = append(each, v), total+v
			}
			return each, total
		}
		within(t, time.Minute, "twenty streams are pushed", func() error {
			if st := load.Stats(); st.Connected != 20 {
				return fmt.Errorf("%+v", st)
			}
			return nil
		})
		before, base := handled()
		var after []float64
		// The bus draws lots: of 600 chunks shares of three differ by some 10 %. One that waits for
		// a CPU catches up as more chunks come; one that does half of another's work for a minute
		// is not sharing.
		within(t, time.Minute, "the packagers share 600 chunks or more", func() error {
			var total float64
			if after, total = handled(); total-base < 600 {
				return fmt.Errorf("%.0f chunks are packaged", total-base)
			}
			for i := range after {
				after[i] -= before[i]
			}
			if least := slices.Min(after); least == 0 || slices.Max(after)/least > 2 {
				return fmt.Errorf("%v", after)
			}
			return nil
		})
		t.Logf("chunks by packager: %v", after)
	})

	// A strict follower and two simulated viewers watch while workers come and go.
	f := &follower{multivariant: multivariant}
	endFollow := follow(t, f)
	type result struct {
		viewer.Report
		err error
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	results := make(chan result, 2)
	for range cap(results) {
		go func() {
			r, err := viewer.Run(ctx, viewer.Config{Dispatch: u.Router, App: "live", Stream: "watched", Logger: quiet()})
			results <- result{r, err}
		}()
	}
	msn := newestSegment(t, multivariant)
	advance := func(segments uint64) { // media time goes on
		t.Helper()
		target := msn() + segments
		within(t, time.Minute, "the stream goes on", func() error {
			if now := msn(); now < target {
				return fmt.Errorf("segment %d, not yet %d", now, target)
			}
			return nil
		})
	}
	advance(2)
	packagers[0].kill()
	advance(2)
	fourth := startPackager()
	advance(2)
	packagers[1].interrupt()
	advance(2)
	origins[0].kill()
	advance(3)
	cancel()
	endFollow()
	for range cap(results) {
		r := <-results
		t.Logf("viewer: start-up %s, played %s, %d stalls of %s, %d of %d requests failed", r.Startup, r.Played, r.Stalls, r.Stalled, r.Errors, r.Requests)
		if r.err != nil || !r.Started || r.Stalls != 0 || r.Played < 15*time.Second {
			t.Errorf("a viewer noticed: %v %+v", r.err, r.Report)
		}
	}
	if f.parts < 60 || f.epochs != 1 {
		t.Errorf("followed %d parts in %d epochs", f.parts, f.epochs)
	}
	// PART-HOLD-BACK is 1 s: a player there bears a part that is so late.
	if f.late > time.Second {
		t.Errorf("part %s came %s after its time", f.lateURI, f.late)
	}
	if metric(t, fourth.metrics, `spillway_worker_handled_total{role="packager"}`) == 0 {
		t.Error("the packager started last has done nothing")
	}
	for _, p := range []*program{edge, origins[1], packagers[2].program, fourth.program, u.program} {
		p.interrupt()
	}
}

// newestSegment gives a function that reads the newest segment's number.
func newestSegment(t *testing.T, multivariant string) func() uint64 {
	probe := &follower{multivariant: multivariant}
	return func() uint64 {
		t.Helper()
		p, err := probe.snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return p.Segments[len(p.Segments)-1].MSN
	}
}
