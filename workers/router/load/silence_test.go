package load_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/load"
)

// audience is on one CDN, by the windows that routers have by default. Players of which
// the name begins with "steers" ask for steering every ten seconds, with the throughput
// that they measured, and report probes; routers tell each other of it once a minute. Of all of them telemetry tells every ten seconds while it flows.
type audience struct {
	*load.Table
	t     *testing.T
	cdns  []schemas.CDN
	now   time.Time
	plays []string
	flows bool
	log   bytes.Buffer
}

func newAudience(t *testing.T) *audience {
	a := &audience{t: t, cdns: []schemas.CDN{{Name: "a"}}, now: time.Unix(1_795_000_000, 0), flows: true}
	a.Table = a.another()
	return a
}

func (a *audience) another() *load.Table {
	l := load.New(90*time.Second, slog.New(slog.NewTextHandler(&a.log, nil)))
	l.CDNs, l.Now = func() []schemas.CDN { return a.cdns }, func() time.Time { return a.now }
	return l
}

func (a *audience) begins(n int, kind string) {
	for i := range n {
		id := fmt.Sprint(kind, i, " ", a.now.Unix())
		a.plays = append(a.plays, id)
		a.decided(id)
	}
}

func (a *audience) decided(id string) {
	f := load.Fact{ID: id, CDN: "a", Region: "eu", At: a.now}
	a.Answered(&f)
	a.Decided(&f, a.now)
}

func (a *audience) leaves(kind string) {
	var stay []string
	for _, id := range a.plays {
		if !strings.HasPrefix(id, kind) {
			stay = append(stay, id)
		}
	}
	a.plays = stay
}

func (a *audience) passes(d time.Duration) {
	for end := a.now.Add(d); a.now.Before(end); {
		a.now = a.now.Add(time.Second)
		for i, id := range a.plays {
			if a.flows && (int(a.now.Unix())+i)%10 == 0 {
				a.Served(&schemas.Slice{SessionID: id, CDN: "a", Region: "eu", PlayedMs: 9000, StalledMs: 1000}, a.now)
			}
			if strings.HasPrefix(id, "steers") && (int(a.now.Unix())+i)%60 == 0 {
				a.decided(id)
			}
			if strings.HasPrefix(id, "steers") && (int(a.now.Unix())+i)%10 == 0 {
				a.Measured(id, "a", load.Place{Region: "eu"}, 5e6, a.now)
				a.Probed(&load.Probe{ID: id, Place: load.Place{Region: "eu"}, Results: []schemas.ProbeResult{{CDN: "a"}}}, a.now)
			}
		}
		a.Tick(a.now)
	}
}

func (a *audience) is(what string, least, most int) {
	a.t.Helper()
	if v := a.Viewers(a.now)["a"]; v < least || v > most {
		a.t.Errorf("%s: %d viewers, want %d to %d", what, v, least, most)
	}
}

func (a *audience) facts() (stallRatio, ageSec float64) {
	f := a.Facts(a.cdns, load.Place{Region: "eu"}, 1e6, a.now)[0]
	return f.StallRatio, f.AgeSec
}

// TestGoesOnWithoutTelemetry: when slices stop, the last state holds: who is known by
// telemetry alone stays counted, who asks routers is known by that, and estimates are
// what they were, with their age. Ten minutes later both fade.
func TestGoesOnWithoutTelemetry(t *testing.T) {
	a := newAudience(t)
	a.begins(100, "plays")
	a.begins(100, "steers on ")
	a.begins(50, "steers and goes ")
	a.passes(3 * time.Minute)
	a.is("while telemetry flows", 250, 250)
	a.flows = false
	stopped := a.now
	a.leaves("steers and goes")
	a.passes(5 * time.Second)
	a.begins(40, "begins ")
	a.passes(25 * time.Second)
	a.is("half a minute after it stopped", 290, 290)
	if a.Held() != 0 || a.log.Len() != 0 {
		t.Errorf("%d sessions are held before their window has passed; log: %s", a.Held(), a.log.String())
	}
	for _, m := range []time.Duration{3, 6, 9} {
		a.passes(stopped.Add(m * time.Minute).Sub(a.now))
		a.is(fmt.Sprint(int(m), " minutes after it stopped"), 200, 200) // without those that left, and those that began and say no more
		after := a.now.Sub(stopped)
		if stall, age := a.facts(); math.Abs(stall-0.1) > 0.001 || math.Abs(age-after.Seconds()) > 16 || a.AgeMs(a.now) < after.Milliseconds() {
			t.Errorf("after %v: stall ratio %v, %v s old; telemetry is of %d ms ago", after, stall, age, a.AgeMs(a.now))
		}
		if h := a.Health("a", load.Place{Region: "eu"}, a.now); math.Abs(h.StallRatio.Value-0.1) > 0.001 || math.Abs(h.AgeSec-after.Seconds()) > 16 || h.Samples < 1000 {
			t.Errorf("after %v it is told: %+v", after, h)
		}
	}
	if n := strings.Count(a.log.String(), "telemetry has stopped"); a.Held() != 100 || n != 1 {
		t.Errorf("%d sessions are held, which the log says %d times", a.Held(), n)
	}
	a.passes(stopped.Add(load.HoldFor * 3 / 2).Sub(a.now))
	a.is("a quarter of an hour after it stopped", 110, 190) // half of 100, by lot
	a.passes(stopped.Add(2*load.HoldFor + time.Minute).Sub(a.now))
	a.is("in the end", 100, 100)
	if stall, _ := a.facts(); stall != 0 || a.Held() != 0 {
		t.Errorf("in the end: stall ratio %v, %d held", stall, a.Held())
	}
}

// TestTelemetryIsBack: who is held has a window to be heard of again, and ends that
// are told count at once; a router that starts without telemetry knows the same.
func TestTelemetryIsBack(t *testing.T) {
	a := newAudience(t)
	a.begins(100, "plays on ")
	a.begins(50, "goes ")
	a.passes(2 * time.Minute)
	stopped, goes := a.now, a.plays[100:]
	a.flows = false
	a.passes(5 * time.Minute)
	a.is("without telemetry", 150, 150)

	late := a.another() // reads on from where it should
	since := late.Since(stopped)
	if !since.Equal(stopped.Add(-90 * time.Second)) {
		t.Errorf("a router that starts now reads from %v before telemetry stopped on, want 90 s", stopped.Sub(since))
	}
	for i, id := range a.plays {
		late.Served(&schemas.Slice{SessionID: id, CDN: "a", PlayedMs: 9000}, stopped.Add(-time.Duration(i%10)*time.Second))
	}
	late.Served(&schemas.Slice{SessionID: "long ago", CDN: "a", PlayedMs: 9000}, stopped.Add(-2*time.Minute))
	late.Tick(a.now)
	if v := late.Viewers(a.now)["a"]; v != 150 {
		t.Errorf("a router that starts now knows of %d, want 150", v)
	}
	if fresh := a.another(); fresh.Since(a.now.Add(-time.Second)) != a.now.Add(-90*time.Second) || fresh.Since(time.Time{}) != a.now.Add(-90*time.Second) || fresh.Since(a.now.Add(-time.Hour)) != a.now.Add(-90*time.Second) {
		t.Error("a router that starts while telemetry flows, or long after, does not read from its window on")
	}

	a.flows = true
	a.leaves("goes")
	a.passes(20 * time.Second)
	for _, id := range goes[:20] {
		a.Ended(&schemas.Slice{SessionID: id, Kind: schemas.SliceFinal}, a.now)
	}
	a.is("soon after it is back", 130, 130)
	a.flows = false // once more, before all were heard of
	a.passes(time.Minute)
	a.is("when it stops again", 130, 130)
	a.flows = true
	a.passes(60 * time.Second)
	a.is("within a window", 130, 130)
	a.passes(50 * time.Second)
	a.is("after it", 100, 100)
	if !strings.Contains(a.log.String(), "telemetry is back") || a.Held() != 0 {
		t.Errorf("%d held; log: %s", a.Held(), a.log.String())
	}
}
