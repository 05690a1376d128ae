package predict

import (
	"errors"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/analytics/sandbox"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// recorded lets viewers come to two CDNs by lot, the second with half of the rate.
func recorded(t *testing.T, n int) *Recording {
	t.Helper()
	rnd := rand.New(rand.NewPCG(1, 2))
	lot, err := policy.Compile(schemas.Policy{Name: "lot", Version: 1, Kind: schemas.PolicyWeighted, Weights: map[string]float64{"a": 1, "b": 1}})
	if err != nil {
		t.Fatal(err)
	}
	rec := &Recording{Player: sandbox.Player{SegmentSec: 2, Levels: []float64{1e6, 2e6}, StartBehind: 3}, SteeringTTLSec: 10}
	w := sandbox.World{
		Seed: 9, Seconds: 400, Places: []sandbox.Place{{Region: "eu", ISP: "x", Share: 1}}, Players: []sandbox.Player{rec.Player},
		Access:  sandbox.Access{Sigma: 0.6, Rho: 0.8, HoldSec: 6, FadeShare: 0.02, FadeFactor: 0.1},
		Control: sandbox.Control{Policy: lot, SteeringTTLSec: 10, LagSec: 2, Fallback: true},
	}
	for i, name := range []string{"a", "b"} {
		c := schemas.CDN{Name: name, State: schemas.CDNActive, Order: i, PricePerGBMicroUSD: int64(10000 - 5000*i)}
		rec.CDNs = append(rec.CDNs, c)
		w.CDNs = append(w.CDNs, sandbox.CDN{CDN: c, Paths: []sandbox.Path{{RTTSec: 0.04, Factor: 1 - 0.5*float64(i)}}})
	}
	i := 0
	w.Viewers = func() (sandbox.Viewer, bool) {
		i++
		return sandbox.Viewer{AtSec: 200 * float64(i) / float64(n), WatchSec: 30 + rnd.ExpFloat64()*30, MedianBps: 5e6 * math.Exp(0.5*rnd.NormFloat64()), Seed: rnd.Uint64()}, i <= n
	}
	w.Each = func(o *sandbox.Outcome) {
		rec.Sessions = append(rec.Sessions, Session{ID: o.ID, AtSec: o.Viewer.AtSec, WatchSec: o.Viewer.WatchSec, Region: "eu", ISP: "x", CDN: w.CDNs[o.CDN].Name,
			Probability: o.Probability, Started: o.Started, FirstScreenSec: o.FirstScreenSec, PlayedSec: o.PlayedSec, StalledSec: o.StalledSec, Stalls: o.Stalls,
			LatencySec: o.LatencySec, Bytes: o.Bytes, ThroughputBps: o.ThroughputBps})
	}
	if _, err := sandbox.Run(w); err != nil {
		t.Fatal(err)
	}
	return rec
}

func only(t *testing.T, cdn string) *policy.Policy {
	t.Helper()
	p, err := policy.Compile(schemas.Policy{Name: "one", Version: 1, Kind: schemas.PolicyWeighted, Weights: map[string]float64{cdn: 1}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestPredictsTheBetterCDN: all on the CDN with twice the rate stall less, all on
// the other more; the log's own probabilities say the same; the bill follows.
func TestPredictsTheBetterCDN(t *testing.T) {
	rec := recorded(t, 420)
	good, err := Predict(rec, Candidate{Policy: only(t, "a")}, Settings{Seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	bad, err := Predict(rec, Candidate{Policy: only(t, "b")}, Settings{Seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	if !(good.StallRatio.Value < good.StallRatio.Recorded && bad.StallRatio.Value > bad.StallRatio.Recorded) {
		t.Errorf("recorded %v, all on a %v, all on b %v", good.StallRatio.Recorded, good.StallRatio.Value, bad.StallRatio.Value)
	}
	if good.OffPolicy == nil || bad.OffPolicy == nil || good.OffPolicy.Value >= bad.OffPolicy.Value {
		t.Errorf("off-policy: %+v (%s) and %+v (%s)", good.OffPolicy, good.OffPolicyWhy, bad.OffPolicy, bad.OffPolicyWhy)
	}
	if good.Share["a"] < 0.99 || math.Abs(good.CostUSDPerGB.Value-0.01) > 1e-6 || math.Abs(bad.CostUSDPerGB.Value-0.005) > 1e-4 {
		t.Errorf("shares %v and %v, USD/GB %v and %v", good.Share, bad.Share, good.CostUSDPerGB, bad.CostUSDPerGB)
	}
	if e, err := SelfCheck(rec, Settings{Seed: 3}); err != nil || len(e) != 2 || math.Abs(e[0]) > 1.5 {
		t.Errorf("self-check: %v, %v", e, err)
	}
}

// TestRefuses: a recording that cannot support a question is refused, and why.
func TestRefuses(t *testing.T) {
	rec := recorded(t, 240)
	with := func(f func(r *Recording)) *Recording {
		r := *rec
		r.Sessions = append([]Session(nil), rec.Sessions...)
		f(&r)
		return &r
	}
	player := rec.Player
	for want, r := range map[string]*Recording{
		"sessions started": with(func(r *Recording) { r.Sessions = r.Sessions[:50] }),
		"sessions stalled": with(func(r *Recording) {
			for i := range r.Sessions {
				r.Sessions[i].StalledSec = 0
			}
		}),
		"throughput": with(func(r *Recording) {
			for i := range r.Sessions {
				r.Sessions[i].ThroughputBps = 0
			}
		}),
		"no CDNs":           with(func(r *Recording) { r.CDNs = nil }),
		"not in its list":   with(func(r *Recording) { r.CDNs = r.CDNs[:1] }),
		"player.SegmentSec": with(func(r *Recording) { r.Player.Levels = nil }),
	} {
		_, err := Predict(r, Candidate{Player: &player}, Settings{})
		var refused *Refusal
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	seen := with(func(r *Recording) { // nobody was on b
		r.CDNs = append(r.CDNs, schemas.CDN{Name: "c", State: schemas.CDNActive})
	})
	if _, err := Predict(seen, Candidate{Policy: only(t, "c")}, Settings{}); err == nil || !strings.Contains(err.Error(), "hardly anybody") {
		t.Errorf("a CDN that nobody was on: %v", err)
	}
	if _, err := Predict(with(func(r *Recording) { r.Sessions[3].PlayedSec = math.NaN() }), Candidate{Player: &player}, Settings{}); err == nil || !strings.Contains(err.Error(), "session 4") {
		t.Errorf("NaN: %v", err)
	}
	logged := with(func(r *Recording) { r.Sessions[0].Probability = 0 })
	if p, err := Predict(logged, Candidate{Policy: only(t, "a")}, Settings{}); err != nil || p.OffPolicy != nil || p.OffPolicyWhy == "" {
		t.Errorf("without logged probabilities: %+v, %v", p, err)
	}
}

// TestTraces: a player on traces, and what traces cannot say.
func TestTraces(t *testing.T) {
	trace := make([]float64, 2000)
	for i := range trace {
		trace[i] = 2e6 * (1 + math.Sin(float64(i)/9))
	}
	base := sandbox.Player{SegmentSec: 2, Levels: []float64{1e6}, StartBehind: 3}
	deep := base
	deep.StartBehind = 8
	p, err := PredictOnTraces([][]float64{trace}, Candidate{Player: &deep}, TraceSettings{Base: base, Sessions: 200})
	if err != nil {
		t.Fatal(err)
	}
	if p.StallRatio.Value >= p.StallRatio.Recorded || p.LatencySec.Value <= p.LatencySec.Recorded {
		t.Errorf("a deeper buffer: %+v", p)
	}
	for i, c := range []Candidate{{}, {Policy: policy.Builtin(policy.Quality)}} {
		if _, err := PredictOnTraces([][]float64{trace}, c, TraceSettings{Base: base}); err == nil {
			t.Error(strconv.Itoa(i) + ": answered")
		}
	}
	if _, err := PredictOnTraces([][]float64{trace[:60]}, Candidate{Player: &deep}, TraceSettings{Base: base}); err == nil {
		t.Error("a minute of trace was enough")
	}
}
