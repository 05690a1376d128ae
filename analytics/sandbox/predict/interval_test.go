package predict

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/analytics/sandbox"
	"github.com/spillway-live/spillway/schemas"
)

// TestUnboundedInterval: what never happens in the simulator has no upper end, is not taken for certain, and can be written as JSON.
func TestUnboundedInterval(t *testing.T) {
	list := func(stalled float64) []totals {
		return slices.Repeat([]totals{{played: 100, stalled: stalled, started: 1}}, 50)
	}
	units := make([][]int, 50)
	for i := range units {
		units[i] = []int{i}
	}
	for _, x := range []bootstrap{{seen: list(1), base: list(1), cand: list(0)}, {seen: list(0), base: list(0), cand: list(0)}, {seen: list(0), base: list(0), cand: list(1)}} {
		x.units, x.arm, x.model, x.rnd = units, 50, ModelError, rand.New(rand.NewPCG(1, 1))
		i := x.interval(stallRatio)
		if i.Bounded() || i.Low != 0 || !math.IsInf(i.HalfWidth(), 1) {
			t.Errorf("%+v", i)
		}
		b, err := json.Marshal(Prediction{StallRatio: i})
		if err != nil || !strings.Contains(string(b), `"high":null`) {
			t.Errorf("%s, %v", b, err)
		}
	}
}

// TestCostIsOfTheCDNThatDelivered: what a session loads after a move is billed by the CDN it moved to, and volumes are the
// recording's times what changes.
func TestCostIsOfTheCDNThatDelivered(t *testing.T) {
	tiers := []schemas.PriceTier{{FromGB: 100, PerGBMicroUSD: 0}}
	m := &model{seconds: 30 * 86400, cdns: []sandbox.CDN{
		{CDN: schemas.CDN{Name: "a", PricePerGBMicroUSD: 10_000, PriceTiers: tiers}}, {CDN: schemas.CDN{Name: "b", PricePerGBMicroUSD: 2_000}}}}
	result := func(a, b float64) *sandbox.Result {
		return &sandbox.Result{CDNs: []sandbox.CDNResult{{Name: "a", GB: a}, {Name: "b", GB: b}}}
	}
	b := bootstrap{rnd: rand.New(rand.NewPCG(1, 1)), seen: []totals{{cdn: 0, bytes: 100e9}, {cdn: 0, bytes: 100e9}}, cand: []totals{{cdn: 0, bytes: 1e9}, {cdn: 0, bytes: 1e9}}, units: [][]int{{0}, {1}}}
	// Simulated were 2 GB as recorded and 4 with the candidate, half of them after a move to b: 200 and 200 of 200 recorded.
	got := m.cost(result(2, 0), result(2, 2), b)
	if want := (100*0.01 + 200*0.002) / 400; math.Abs(got.Value-want) > 1e-9 || math.Abs(got.Recorded-100*0.01/200) > 1e-9 {
		t.Errorf("%+v, want %v", got, want)
	}
}

// TestReplay: a recording that the simulator does not give back is refused, and why.
func TestReplay(t *testing.T) {
	m := &model{rec: &Recording{}, of: []*Session{{PlayedSec: 95, StalledSec: 5}}, cdn: map[string]int{}}
	if err := m.replays([]totals{{played: 95.5, stalled: 4.5}}); err != nil {
		t.Error(err)
	}
	for _, stalled := range []float64{0, 1, 8} {
		var refused *Refusal
		if err := m.replays([]totals{{played: 100 - stalled, stalled: stalled}}); !errors.As(err, &refused) || !strings.Contains(err.Error(), "recorded is 5.00 %") {
			t.Errorf("%v %% where 5 %% was recorded: %v", stalled, err)
		}
	}
}

// TestPredictionsMakeProgress: parts grow up to the whole, a prediction ends when told to, and CDNs that are closed by now
// had the viewers that were recorded there.
func TestPredictionsMakeProgress(t *testing.T) {
	rec := recorded(t, 240)
	player := rec.Player
	player.StartBehind = 4
	last := 0.0
	open, err := Predict(rec, Candidate{Player: &player}, Settings{Progress: func(part float64) bool {
		if part < last || part > 1 {
			t.Errorf("%v after %v", part, last)
		}
		last = part
		return true
	}})
	if err != nil || last < 0.8 {
		t.Fatalf("%v at the end, %v", last, err)
	}
	rec.CDNs[1].State = schemas.CDNOff
	if closed, err := Predict(rec, Candidate{Player: &player}, Settings{}); err != nil || closed.StallRatio != open.StallRatio || closed.Share["b"] != open.Share["b"] {
		t.Errorf("with CDN b closed since: %+v, %v, want %+v", closed, err, open)
	}
	if _, err := Predict(rec, Candidate{Player: &player}, Settings{Progress: func(float64) bool { return false }}); !errors.Is(err, sandbox.ErrStopped) {
		t.Errorf("stopped: %v", err)
	}
	for _, n := range []int{-1, 1, 2_000_000} {
		if _, err := PredictOnTraces([][]float64{make([]float64, 2000)}, Candidate{Player: &player}, TraceSettings{Base: rec.Player, Sessions: n}); err == nil || !strings.Contains(err.Error(), "sessions") {
			t.Errorf("%d sessions on traces: %v", n, err)
		}
	}
}
