package stats

import (
	"math"
	"testing"
)

func TestProportionIntervals(t *testing.T) {
	iv, err := Wilson(0, 10, 0.05)
	if err != nil {
		t.Fatal(err)
	}
	z2 := 1.959963984540054 * 1.959963984540054
	near(t, "Wilson upper at 0 of 10", iv.Upper, z2/(10+z2), 0, 1e-12)
	near(t, "Wilson lower at 0 of 10", iv.Lower, 0, 0, 0)
	cp, err := ClopperPearson(0, 10, 0.05)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "Clopper-Pearson upper at 0 of 10", cp.Upper, 1-math.Pow(0.025, 0.1), 0, 1e-12)
	cp, err = ClopperPearson(10, 10, 0.05)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "Clopper-Pearson at 10 of 10", cp.Lower, math.Pow(0.025, 0.1), 0, 1e-12)
	near(t, "Clopper-Pearson at 10 of 10", cp.Upper, 1, 0, 0)
	for _, x := range []int64{1, 7, 29} {
		cp, err = ClopperPearson(x, 30, 0.05)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "tail below", binomialCDF(x, 30, cp.Upper), 0.025, 0, 1e-9)
		near(t, "tail above", 1-binomialCDF(x-1, 30, cp.Lower), 0.025, 0, 1e-9)
	}
}

// Newcombe 1998, table II, method 10 (hybrid score): 56/70 against 48/80.
func TestNewcombePublished(t *testing.T) {
	iv, err := NewcombeDiff(Binary{48, 80}, Binary{56, 70}, 0.05)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "lower", iv.Lower, 0.0524, 5e-5, 0)
	near(t, "upper", iv.Upper, 0.3339, 5e-5, 0)
	mn, err := MiettinenNurminenDiff(Binary{48, 80}, Binary{56, 70}, 0.05)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "Miettinen-Nurminen lower", mn.Lower, 0.0528, 5e-5, 0)
	near(t, "Miettinen-Nurminen upper", mn.Upper, 0.3382, 5e-5, 0)
}

// Swapping the arms mirrors every interval, and rare events have an interval
// where Wald's test has none.
func TestDifferenceIntervalsMirror(t *testing.T) {
	for name, f := range map[string]func(c, t Binary, a float64) (Interval, error){
		"newcombe": NewcombeDiff, "agresti-caffo": AgrestiCaffoDiff, "miettinen-nurminen": MiettinenNurminenDiff,
	} {
		for _, p := range [][2]Binary{{{0, 30}, {3, 40}}, {{5, 620}, {14, 655}}, {{0, 10}, {0, 10}}, {{10, 10}, {0, 12}}, {{1, 1}, {0, 1}}} {
			a, err := f(p[0], p[1], 0.05)
			if err != nil {
				t.Fatal(name, p, err)
			}
			b, err := f(p[1], p[0], 0.05)
			if err != nil {
				t.Fatal(name, p, err)
			}
			d := float64(p[1].Events)/float64(p[1].Units) - float64(p[0].Events)/float64(p[0].Units)
			near(t, name+" mirrored", a.Lower, -b.Upper, 1e-9, 1e-9)
			near(t, name+" mirrored", a.Upper, -b.Lower, 1e-9, 1e-9)
			if !(a.Lower < a.Upper) || (name != "agresti-caffo" && (a.Lower > d || a.Upper < d)) {
				t.Errorf("%s %v: [%v, %v] around %v", name, p, a.Lower, a.Upper, d)
			}
		}
	}
	c, err := Proportion(0, 30)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := Proportion(3, 40)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Difference(c, tr, Test{Alpha: 0.05}); !isReason(err, ZeroVariance) {
		t.Errorf("Wald with no events in an arm: %v", err)
	}
}
