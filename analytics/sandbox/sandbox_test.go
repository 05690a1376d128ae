package sandbox

import (
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// small is a world of two CDNs and one place.
func small(seed uint64, n int) World {
	cdn := func(name string, order int) CDN {
		return CDN{CDN: schemas.CDN{Name: name, State: schemas.CDNActive, Order: order}, Paths: []Path{{RTTSec: 0.03, Factor: 1}}}
	}
	left := n
	at := 0.0
	r := rng(seed)
	return World{
		Seed: seed, Seconds: 600, CDNs: []CDN{cdn("a", 0), cdn("b", 1)}, Places: []Place{{"eu", "x", 1}},
		Access:  Access{Sigma: 0.4, Rho: 0.8, HoldSec: 5},
		Players: []Player{{SegmentSec: 2, Levels: []float64{1e6, 2.5e6, 5e6}, StartBehind: 3}},
		Control: Control{Policy: policy.Builtin(policy.Affinity), SteeringTTLSec: 10, LagSec: 2, Fallback: true},
		Viewers: func() (Viewer, bool) {
			if left--; left < 0 {
				return Viewer{}, false
			}
			at += r.exp(300 / float64(n))
			return Viewer{AtSec: at, WatchSec: 60 + r.exp(120), MedianBps: 4e6, Seed: r.next(), Group: uint8(r.next() % 16)}, true
		},
	}
}

// outcomes runs a world and gathers its sessions.
func outcomes(t *testing.T, w World) (*Result, []Outcome) {
	t.Helper()
	var all []Outcome
	w.Each = func(o *Outcome) { all = append(all, *o) }
	r, err := Run(w)
	if err != nil {
		t.Fatal(err)
	}
	return r, all
}

// TestConservation: sessions, seconds and bytes add up.
func TestConservation(t *testing.T) {
	w := small(1, 300)
	w.Episodes = []Episode{{FromSec: 100, ToSec: 200, CDN: "a", Down: true}}
	r, all := outcomes(t, w)
	if r.Sessions != 300 || r.Ended+r.Open != 300 || len(all) != 300 || r.Attempts != 300 {
		t.Fatalf("%d begun, %d ended, %d open, %d told of, %d attempts", r.Sessions, r.Ended, r.Open, len(all), r.Attempts)
	}
	var sec, bytes float64
	for _, o := range all {
		watched := min(o.Viewer.WatchSec, w.Seconds-o.Viewer.AtSec)
		if got := o.PlayedSec + o.StalledSec + o.FirstScreenSec; o.Started && (got > watched+1e-6 || got < watched-2) {
			t.Fatalf("%s: %v s of %v s accounted for: %+v", o.ID, got, watched, o)
		}
		sec += o.PlayedSec + o.StalledSec
		bytes += o.Bytes
	}
	gb := 0.0
	for _, c := range r.CDNs {
		gb += c.GB
	}
	if math.Abs(gb-bytes/1e9) > 1e-6 || gb == 0 || math.Abs(sec-r.PlayedSec-r.StalledSec) > 1e-3 {
		t.Errorf("CDNs sent %v GB, sessions had %v; %v s and %v s", gb, bytes/1e9, sec, r.PlayedSec+r.StalledSec)
	}
	if r.Moves == 0 {
		t.Error("nobody left the CDN that was down")
	}
}

// TestSameSeedSameRun: and another seed gives another.
func TestSameSeedSameRun(t *testing.T) {
	_, a := outcomes(t, small(7, 100))
	_, b := outcomes(t, small(7, 100))
	_, c := outcomes(t, small(8, 100))
	if !reflect.DeepEqual(a, b) || reflect.DeepEqual(a, c) {
		t.Error("a run is not a function of its seed")
	}
}

// TestSameViewersUnderAnyPolicy: a viewer's network is the same whoever decides, so that policies compare pair by pair.
func TestSameViewersUnderAnyPolicy(t *testing.T) {
	_, a := outcomes(t, small(7, 100))
	w := small(7, 100)
	w.Control.Policy = policy.Builtin(policy.Balance)
	_, b := outcomes(t, w)
	by := map[uint64]Outcome{}
	for _, o := range a {
		by[o.Viewer.Seed] = o
	}
	for _, o := range b { // both CDNs serve alike
		if x := by[o.Viewer.Seed]; x.PlayedSec != o.PlayedSec || x.StalledSec != o.StalledSec || x.MeanBps != o.MeanBps {
			t.Fatalf("%+v\n%+v", x, o)
		}
	}
}

// TestCapacity: a CDN delivers no more than it can, and players slow down to it.
func TestCapacity(t *testing.T) {
	w := small(2, 300)
	w.CDNs = w.CDNs[:1]
	w.CDNs[0].ServesBps = 60e6 // about half of what 120 viewers at once want at least
	r, _ := outcomes(t, w)
	if most := 60e6 / 8 * w.Seconds / 1e9; r.CDNs[0].GB > most {
		t.Errorf("%v GB delivered, %v are possible", r.CDNs[0].GB, most)
	}
	free, _ := outcomes(t, small(2, 300))
	if r.StallRatio < 10*free.StallRatio || r.StallRatio < 0.05 {
		t.Errorf("stall ratio %v at capacity, %v without", r.StallRatio, free.StallRatio)
	}
}

// TestSlowerIsWorse: less bandwidth never stalls less.
func TestSlowerIsWorse(t *testing.T) {
	last := -1.0
	for _, factor := range []float64{1, 0.4, 0.2, 0.1} {
		w := small(3, 150)
		for i := range w.CDNs {
			w.CDNs[i].Paths[0].Factor = factor
		}
		r, _ := outcomes(t, w)
		if r.StallRatio < last {
			t.Errorf("factor %v: stall ratio %v after %v", factor, r.StallRatio, last)
		}
		last = r.StallRatio
	}
	if last < 0.1 {
		t.Errorf("stall ratio %v with a tenth of the rate", last)
	}
}

// TestPlayerSettings: a start on the first key frame is earlier than with a filled
// buffer, and catching up lowers the latency.
func TestPlayerSettings(t *testing.T) {
	with := func(f func(*Player)) *Result {
		w := small(4, 150)
		f(&w.Players[0])
		r, _ := outcomes(t, w)
		return r
	}
	plain := with(func(*Player) {})
	filled := with(func(p *Player) { p.StartSec = 4 })
	quick := with(func(p *Player) { p.CatchUp, p.TargetLatencySec = 0.1, 5 })
	if filled.FirstScreenP50Sec <= plain.FirstScreenP50Sec || quick.LatencySec >= plain.LatencySec {
		t.Errorf("first screen %v and %v with 4 s; latency %v and %v caught up", plain.FirstScreenP50Sec, filled.FirstScreenP50Sec, plain.LatencySec, quick.LatencySec)
	}
}

// TestTraces: a viewer on a trace has no more than the trace gives.
func TestTraces(t *testing.T) {
	w := small(5, 1)
	w.Traces = [][]float64{{0, 1e6, 2e6}}
	sent := false
	w.Viewers = func() (Viewer, bool) {
		defer func() { sent = true }()
		return Viewer{AtSec: 0.5, WatchSec: 300, Trace: 1, TraceSec: 0.5, Seed: 1}, !sent
	}
	_, all := outcomes(t, w)
	if got := all[0].Bytes * 8 / 300; got > 1.02e6 || got < 0.5e6 {
		t.Errorf("%.0f bit/s on a trace of 1 Mbit/s", got)
	}
}

func TestBill(t *testing.T) {
	c := schemas.CDN{PricePerGBMicroUSD: 10000, PriceTiers: []schemas.PriceTier{{FromGB: 100, PerGBMicroUSD: 5000}}, CommitGB: 50}
	for gb, want := range map[float64]float64{0: 0.5, 50: 0.5, 80: 0.8, 100: 1, 200: 1.5} {
		if got := Bill(&c, gb); math.Abs(got-want) > 1e-9 {
			t.Errorf("%v GB: %v USD, want %v", gb, got, want)
		}
	}
}

// TestRefusesAWorld: what is wrong is named.
func TestRefusesAWorld(t *testing.T) {
	for what, f := range map[string]func(*World){
		"Seconds": func(w *World) { w.Seconds = 0 }, "CDNs": func(w *World) { w.CDNs = nil }, "Places": func(w *World) { w.Places = nil },
		"Policy": func(w *World) { w.Control.Policy = nil }, "paths": func(w *World) { w.CDNs[0].Paths = nil }, "Levels": func(w *World) { w.Players[0].Levels = nil },
	} {
		w := small(1, 1)
		f(&w)
		if _, err := Run(w); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestQueue: events come in order.
func TestQueue(t *testing.T) {
	var q queue
	r := rng(1)
	for range 1000 {
		q.push(event{at: r.float(), slot: int32(r.next() % 100)})
	}
	last := event{at: -1}
	for range 1000 {
		x := q.pop()
		if x.before(&last) {
			t.Fatalf("%v after %v", x, last)
		}
		last = x
	}
}

func BenchmarkRun(b *testing.B) {
	hours := 0.0
	for b.Loop() {
		res, err := Run(small(1, 3000))
		if err != nil {
			b.Fatal(err)
		}
		hours += res.Hours
	}
	b.ReportMetric(hours/b.Elapsed().Seconds(), "session-hours/s")
}
