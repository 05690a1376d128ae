package stats

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestPairedDegenerate(t *testing.T) {
	p := func(cn, cd, tn, td float64) BlockPair { return BlockPair{Block{cn, cd}, Block{tn, td}} }
	ok := p(1, 100, 2, 100)
	for name, c := range map[string]struct {
		pairs []BlockPair
		alpha float64
		wants Reason
	}{
		"no pairs":       {nil, 0.05, EmptyArm},
		"one pair":       {[]BlockPair{ok}, 0.05, TooFewUnits},
		"no event":       {[]BlockPair{ok, p(0, 100, 2, 100)}, 0.05, LogOfZero},
		"no watch time":  {[]BlockPair{ok, p(1, 0, 2, 100)}, 0.05, ZeroDenominator},
		"negative":       {[]BlockPair{ok, p(1, 100, -2, 100)}, 0.05, InconsistentSums},
		"NaN":            {[]BlockPair{ok, p(1, 100, math.NaN(), 100)}, 0.05, NotFinite},
		"all pairs same": {[]BlockPair{ok, p(2, 100, 4, 100), p(3, 100, 6, 100)}, 0.05, ZeroVariance},
		"alpha":          {[]BlockPair{ok, ok}, 0, InvalidAlpha},
	} {
		if _, err := PairedLogRatio(c.pairs, c.alpha); !isReason(err, c.wants) {
			t.Errorf("%s: %v, want %s", name, err, c.wants)
		}
	}
	// Blocks without an event have a difference all the same.
	e, err := PairedDifference([]BlockPair{ok, p(0, 100, 2, 100), p(1, 100, 1, 100)}, 0.05)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "difference", e.Estimate, 0.01, 0, 1e-12)
	near(t, "df", e.DF, 2, 0, 0)
	if _, err := PairedDifference([]BlockPair{ok, p(1, 0, 1, 2)}, 0.05); !isReason(err, ZeroDenominator) {
		t.Errorf("no watch time: %v", err)
	}
}

// With few pairs all assignments can be listed: the test approaches the exact
// p-value, which for four pairs that all point one way is 2/16.
func TestRandomizationAgainstEnumeration(t *testing.T) {
	var blocks []SwitchBlock
	for i := range 4 {
		blocks = append(blocks,
			SwitchBlock{Block{float64(10 + i), 1000}, false, i},
			SwitchBlock{Block{float64(20 + 3*i), 1000}, true, i})
	}
	r, err := RandomizationTest(blocks, 20_000, 3)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "p", r.P, 2.0/16, 0.01, 0)
	again, err := RandomizationTest(blocks, 20_000, 3)
	if err != nil || again != r {
		t.Errorf("the same seed gave %+v and %+v", r, again)
	}
}

// Without an effect, p-values are uniform although blocks of a day share a
// shock; with one they are small.
func TestRandomizationIsValid(t *testing.T) {
	rnd := rand.New(rand.NewPCG(51, 1))
	run := func(effect float64) float64 {
		var blocks []SwitchBlock
		for pair := range 12 {
			shock := math.Exp(0.8 * rnd.NormFloat64())
			flip := rnd.IntN(2) == 0
			for k := range 2 {
				treated := (k == 0) == flip
				x := 10 * shock * math.Exp(0.3*rnd.NormFloat64())
				if treated {
					x *= effect
				}
				blocks = append(blocks, SwitchBlock{Block{x, 1000}, treated, pair})
			}
		}
		r, err := RandomizationTest(blocks, 199, rnd.Uint64())
		if err != nil {
			t.Fatal(err)
		}
		return r.P
	}
	alarms, found := 0, 0
	for range 300 {
		if run(1) <= 0.05 {
			alarms++
		}
		if run(2.5) <= 0.05 {
			found++
		}
	}
	if alarms > 15+12 || found < 270 {
		t.Errorf("%d of 300 false alarms at 5%%, %d of 300 effects found", alarms, found)
	}
}

func TestRandomizationDegenerate(t *testing.T) {
	b := func(num, den float64, treated bool, s int) SwitchBlock {
		return SwitchBlock{Block{num, den}, treated, s}
	}
	for name, c := range map[string]struct {
		blocks  []SwitchBlock
		redraws int
		wants   Reason
	}{
		"nothing":          {nil, 100, ZeroDenominator},
		"no redraws":       {[]SwitchBlock{b(1, 2, true, 0), b(1, 2, false, 0)}, 0, InvalidParameter},
		"one arm":          {[]SwitchBlock{b(1, 2, true, 0), b(1, 2, true, 0)}, 10, ZeroDenominator},
		"nothing to swap":  {[]SwitchBlock{b(1, 2, true, 0), b(1, 2, false, 1)}, 10, TooFewUnits},
		"negative":         {[]SwitchBlock{b(-1, 2, true, 0), b(1, 2, false, 0)}, 10, InconsistentSums},
		"NaN":              {[]SwitchBlock{b(math.NaN(), 2, true, 0), b(1, 2, false, 0)}, 10, NotFinite},
		"an arm unwatched": {[]SwitchBlock{b(0, 0, true, 0), b(1, 2, false, 0)}, 10, ZeroDenominator},
	} {
		if _, err := RandomizationTest(c.blocks, c.redraws, 1); !isReason(err, c.wants) {
			t.Errorf("%s: %v, want %s", name, err, c.wants)
		}
	}
}
