package stats

import (
	"math"
	"math/rand/v2"
	"strconv"
	"testing"
)

// logged simulates decisions over three candidates with known mean rewards per
// context; the target prefers the best one. It returns the log and the truth.
func logged(r *rand.Rand, n int, modelBias float64) ([]Decision, float64) {
	log := make([]Decision, n)
	truth := 0.0
	for i := range log {
		x := r.Float64()
		means := [3]float64{0.2 + 0.3*x, 0.5 - 0.2*x, 0.35}
		b := [3]float64{0.6 - 0.3*x, 0.2 + 0.2*x, 0.2 + 0.1*x}
		e := [3]float64{0.1, 0.8, 0.1}
		u, a := r.Float64(), 0
		for a < 2 && u >= b[a] {
			u -= b[a]
			a++
		}
		d := Decision{Propensity: b[a], Target: e[a], Reward: means[a] + 0.1*r.NormFloat64(), Predicted: means[a] + modelBias}
		for k := range means {
			d.PredictedTarget += e[k] * (means[k] + modelBias)
			truth += e[k] * means[k] / float64(n)
		}
		log[i] = d
	}
	return log, truth
}

// Every estimator finds the truth within its standard error, doubly robust also
// with a biased model, the direct method then not; intervals cover as promised.
func TestEstimatorsFindTheTruth(t *testing.T) {
	r := rand.New(rand.NewPCG(61, 1))
	const runs = 200
	covered, refused := map[string]int{}, 0
	for range runs {
		log, truth := logged(r, 800, 0.1)
		v, err := OPE{Clip: 3.5, Predictions: true}.Evaluate(log)
		if err != nil {
			t.Fatal(err)
		}
		for name, x := range map[string]Value{"ips": v.IPS, "snips": v.SNIPS, "baseline": v.Baseline, "dr": v.DR, "dm": v.DM} {
			if math.Abs(x.Value-truth) <= 1.96*x.SE {
				covered[name]++
			}
		}
		if v.Clipped.Value > v.IPS.Value || v.IPS.Value-v.Clipped.Value > v.ClipBias+1e-12 {
			t.Fatalf("clipped %v, unclipped %v, bound of the bias %v", v.Clipped.Value, v.IPS.Value, v.ClipBias)
		}
		if v.DR.SE >= v.IPS.SE || v.Baseline.SE >= v.IPS.SE {
			t.Fatalf("standard errors: ips %v, baseline %v, dr %v", v.IPS.SE, v.Baseline.SE, v.DR.SE)
		}
		if v.Supports(0) != nil {
			refused++
		}
	}
	if refused > runs/50 { // the rule of 3 standard errors alone refuses a few
		t.Errorf("%d of %d honest logs were refused", refused, runs)
	}
	for _, name := range []string{"ips", "snips", "baseline", "dr"} {
		if c := float64(covered[name]) / runs; c < 0.90 {
			t.Errorf("95%% interval of %s covered %v", name, c)
		}
	}
	if covered["dm"] > runs/10 {
		t.Errorf("a model off by 0.1 covered the truth in %d of %d runs", covered["dm"], runs)
	}
}

// Decisions of one viewer are one unit: repeating every decision four times
// changes no estimate and no standard error.
func TestUnitsNotRows(t *testing.T) {
	log, _ := logged(rand.New(rand.NewPCG(62, 1)), 500, 0)
	var fourfold []Decision
	var ratio, ratioFour []RatioDecision
	for i, d := range log {
		rd := RatioDecision{Unit: strconv.Itoa(i), Propensity: d.Propensity, Target: d.Target, Num: d.Reward, Den: 1 + d.Reward}
		ratio = append(ratio, rd)
		for range 4 {
			d.Unit = strconv.Itoa(i)
			fourfold = append(fourfold, d)
			ratioFour = append(ratioFour, rd)
		}
	}
	a, err := OPE{Predictions: true}.Evaluate(log)
	if err != nil {
		t.Fatal(err)
	}
	b, err := OPE{Predictions: true}.Evaluate(fourfold)
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string][2]Value{"ips": {a.IPS, b.IPS}, "snips": {a.SNIPS, b.SNIPS}, "dr": {a.DR, b.DR}, "baseline": {a.Baseline, b.Baseline}} {
		near(t, name, p[1].Value, p[0].Value, 0, 1e-9)
		near(t, name+" se", p[1].SE, p[0].SE, 0, 1e-2) // beta of the baseline uses n-1 of rows
	}
	if a.Units != 500 || b.Units != 500 {
		t.Errorf("%d and %d units", a.Units, b.Units)
	}
	ra, err := EvaluateRatio(ratio)
	if err != nil {
		t.Fatal(err)
	}
	rb, err := EvaluateRatio(ratioFour)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "ratio", rb.Value, ra.Value, 0, 1e-9)
	near(t, "ratio variance", rb.Var, ra.Var, 0, 1e-9)
}

// The logging policy evaluated on its own log is the plain mean.
func TestOnPolicyIsTheMean(t *testing.T) {
	log, _ := logged(rand.New(rand.NewPCG(63, 1)), 300, 0)
	var m Moments
	for i := range log {
		log[i].Target = log[i].Propensity
		m.Add(Totals{Num: log[i].Reward})
	}
	v, err := OPE{}.Evaluate(log)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := Mean(m)
	for name, x := range map[string]Value{"ips": v.IPS, "snips": v.SNIPS, "baseline": v.Baseline} {
		near(t, name, x.Value, want.Value, 0, 1e-12)
		near(t, name+" se", x.SE, want.SE(), 0, 2e-3)
	}
	near(t, "effective sample size", v.ESS, 300, 0, 1e-12)
	d, err := CompareWithLogged(log)
	if err != nil || d.Value != 0 || d.Var != 0 {
		t.Errorf("difference to itself: %+v, %v", d, err)
	}
}

func TestOPEDegenerate(t *testing.T) {
	ok := Decision{Propensity: 0.5, Target: 0.5, Reward: 1}
	with := func(change func(*Decision)) []Decision {
		d := ok
		change(&d)
		return []Decision{ok, d}
	}
	for name, c := range map[string]struct {
		log   []Decision
		o     OPE
		wants Reason
	}{
		"no decisions":       {nil, OPE{}, EmptyArm},
		"one decision":       {[]Decision{ok}, OPE{}, TooFewUnits},
		"propensity 0":       {with(func(d *Decision) { d.Propensity = 0 }), OPE{}, InvalidPropensity},
		"propensity above 1": {with(func(d *Decision) { d.Propensity = 1.1 }), OPE{}, InvalidPropensity},
		"propensity NaN":     {with(func(d *Decision) { d.Propensity = math.NaN() }), OPE{}, InvalidPropensity},
		"target negative":    {with(func(d *Decision) { d.Target = -0.1 }), OPE{}, InvalidPropensity},
		"target above 1":     {with(func(d *Decision) { d.Target = 1.2 }), OPE{}, InvalidPropensity},
		"reward NaN":         {with(func(d *Decision) { d.Reward = math.NaN() }), OPE{}, NotFinite},
		"clip negative":      {with(func(d *Decision) { d.Reward = 3 }), OPE{Clip: -1}, InvalidParameter},
		"rewards the same":   {[]Decision{ok, ok, ok}, OPE{}, ZeroVariance},
		"no overlap":         {[]Decision{{Propensity: 0.5, Reward: 1}, {Propensity: 0.5, Reward: 2}}, OPE{}, NoOverlap},
		"one unit":           {[]Decision{{Unit: "v", Propensity: 0.5, Target: 1, Reward: 1}, {Unit: "v", Propensity: 0.5, Target: 1, Reward: 2}}, OPE{}, TooFewUnits},
	} {
		if _, err := c.o.Evaluate(c.log); !isReason(err, c.wants) {
			t.Errorf("%s: %v, want %s", name, err, c.wants)
		}
	}
	if _, err := EvaluateRatio([]RatioDecision{{Propensity: 0.5, Num: 1, Den: 1}, {Propensity: 0.5, Num: 1, Den: 1}}); !isReason(err, NoOverlap) {
		t.Errorf("ratio without overlap: %v", err)
	}
	if _, err := EvaluateRatio([]RatioDecision{{Propensity: 0.5, Target: 1, Num: math.Inf(1), Den: 1}}); !isReason(err, NotFinite) {
		t.Errorf("ratio with Inf: %v", err)
	}
	log, _ := logged(rand.New(rand.NewPCG(64, 1)), 400, 0)
	v, err := OPE{}.Evaluate(log[:60])
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Supports(0); !isReason(err, NoOverlap) {
		t.Errorf("60 decisions support anything: %v", err)
	}
	for i := range log {
		log[i].Propensity /= 2 // logged wrongly
	}
	v, err = OPE{}.Evaluate(log)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Supports(0); !isReason(err, NoOverlap) {
		t.Errorf("wrong propensities were believed: %v", err)
	}
	if err := v.Supports(0.2); !isReason(err, NoOverlap) {
		t.Errorf("unexplored actions were believed: %v", err)
	}
}
