package stats

import (
	"math"
	"testing"
)

// Size, power and smallest effect are one equation solved for three unknowns.
func TestPowerRoundTrip(t *testing.T) {
	for _, p := range []Plan{{Alpha: 0.05, Power: 0.8}, {Alpha: 0.01, Power: 0.95, Ratio: 0.25}, {Alpha: 0.05, Power: 0.9, OneSided: true, Ratio: 3}} {
		s, err := p.SizeMean(2500, 3)
		if err != nil {
			t.Fatal(err)
		}
		if p.Ratio != 0 {
			near(t, "split", s.Treatment/s.Control, p.Ratio, 0, 1e-12)
		}
		d, err := p.MDEMean(2500, s.Control, s.Treatment)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "effect", d, 3, 0, 1e-10)
		for _, sign := range []float64{1, -1} {
			pow, err := PowerMean(2500, 3*sign, s.Control, s.Treatment, p.Alpha, p.OneSided)
			if err != nil {
				t.Fatal(err)
			}
			near(t, "power", pow, p.Power, 1e-5, 0)
		}
	}
	// At no effect the power of a two-sided test is alpha.
	pow, err := PowerMean(1, 0, 50, 60, 0.05, false)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "size of the test", pow, 0.05, 1e-12, 0)
}

// Fleiss: 0.10 against 0.15, alpha 0.05, power 0.8, unpooled: 683 a group.
func TestSizeProportion(t *testing.T) {
	s, err := (Plan{Alpha: 0.05, Power: 0.8}).SizeProportion(0.10, 0.15)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "units", math.Ceil(s.Control), 683, 0, 0)
}

// The smallest lift makes the delta-method test reach its critical value.
func TestMDELift(t *testing.T) {
	p := Plan{Alpha: 0.05, Power: 0.8}
	r, err := p.MDELift(100, 2500, 4000)
	if err != nil {
		t.Fatal(err)
	}
	s := 2500.0 / 4000
	lift := liftDeltaSE(100, 100*(1+r), s)
	near(t, "lift in standard errors", r/lift, NormalQuantile(0.975)+NormalQuantile(0.8), 0, 1e-9)
	if _, err := p.MDELift(1, 2500, 4000); !isReason(err, OutOfReach) {
		t.Errorf("mean far below its noise: %v", err)
	}
}

// liftDeltaSE is the standard error of the lift for equal variances of both means.
func liftDeltaSE(c, t, v float64) float64 {
	return math.Sqrt(v/(c*c) + t*t*v/(c*c*c*c))
}

func TestDuration(t *testing.T) {
	for _, c := range []struct {
		units, perDay float64
		want          int
	}{{100, 1000, 7}, {7000, 1000, 14}, {3499, 1000, 7}, {10_000, 1000, 21}} {
		got, err := DurationDays(Size{c.units, c.units}, c.perDay)
		if err != nil || got != c.want {
			t.Errorf("%v units an arm at %v a day: %d days, want %d (%v)", c.units, c.perDay, got, c.want, err)
		}
	}
	if _, err := DurationDays(Size{1e9, 1e9}, 10); !isReason(err, OutOfReach) {
		t.Errorf("centuries: %v", err)
	}
	e, err := EffectiveClusters([]float64{100, 1, 1, 1})
	if err != nil || e > 1.1 {
		t.Errorf("one big stream of four counts as %v (%v)", e, err)
	}
}

func TestPlanningDegenerate(t *testing.T) {
	ok := Plan{Alpha: 0.05, Power: 0.8}
	for name, c := range map[string]struct {
		err   error
		wants Reason
	}{
		"alpha 0":            {second(Plan{Power: 0.8}.SizeMean(1, 1)), InvalidAlpha},
		"power 1":            {second(Plan{Alpha: 0.05, Power: 1}.SizeMean(1, 1)), InvalidParameter},
		"power NaN":          {second(Plan{Alpha: 0.05, Power: math.NaN()}.SizeMean(1, 1)), InvalidParameter},
		"power without data": {second(Plan{Alpha: 0.5, Power: 0.01}.SizeMean(1, 1)), InvalidParameter},
		"effect 0":           {second(ok.SizeMean(1, 0)), InvalidParameter},
		"variance 0":         {second(ok.SizeMean(0, 1)), ZeroVariance},
		"variance negative":  {second(ok.SizeMean(-1, 1)), InconsistentSums},
		"ratio":              {second(Plan{Alpha: 0.05, Power: 0.8, Ratio: -1}.SizeMean(1, 1)), InvalidParameter},
		"NaN":                {second(ok.SizeMean(math.NaN(), 1)), NotFinite},
		"proportion":         {second(ok.SizeProportion(0.5, 1.2)), InvalidParameter},
		"same proportions":   {second(ok.SizeProportion(0.5, 0.5)), InvalidParameter},
		"certain":            {second(ok.SizeProportion(0, 1)), ZeroVariance},
		"mde without units":  {second(ok.MDEMean(1, 0, 5)), EmptyArm},
		"negative units":     {second(ok.MDEMean(1, -3, 5)), InvalidCount},
		"power of no units":  {second(PowerMean(1, 1, 5, 0, 0.05, false)), EmptyArm},
		"lift of 0":          {second(ok.MDELift(0, 1, 100)), ZeroControlMean},
		"cluster size":       {second(DesignEffect(0, 0, 0.1)), InvalidParameter},
		"correlation":        {second(DesignEffect(4, 0, 1.1)), InvalidParameter},
		"impossible icc":     {second(DesignEffect(4, 0, -0.9)), InvalidParameter},
		"no audience":        {second(EffectiveClusters(nil)), EmptyArm},
		"negative audience":  {second(EffectiveClusters([]float64{-1, 3})), InvalidCount},
		"no traffic":         {second(DurationDays(Size{1, 1}, 0)), InvalidParameter},
		"no plan":            {second(DurationDays(Size{0, 1}, 5)), InvalidCount},
		"rows needed":        {second(RowsNeeded(1, 0.05)), InvalidParameter},
		"band alpha":         {second(LILHalfWidth(10, 1, 1)), InvalidAlpha},
		"band before start":  {second(LILHalfWidth(10, 20, 0.05)), TooFewUnits},
		"band start":         {second(LILHalfWidth(10, 0, 0.05)), InvalidParameter},
	} {
		if !isReason(c.err, c.wants) {
			t.Errorf("%s: %v, want %s", name, c.err, c.wants)
		}
	}
}
