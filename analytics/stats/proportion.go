package stats

import (
	"math"

	"gonum.org/v1/gonum/mathext"
)

// Interval is a confidence interval.
type Interval struct{ Lower, Upper float64 }

// Wilson is the score interval of a proportion. It exists at 0 and at n events.
func Wilson(events, units int64, alpha float64) (Interval, error) {
	if err := first(probability(alpha, InvalidAlpha, "alpha"), checkCounts(events, units)); err != nil {
		return Interval{}, err
	}
	z := normalQuantileSF(alpha / 2)
	n := float64(units)
	p := float64(events) / n
	d := 1 + z*z/n
	mid := (p + z*z/(2*n)) / d
	h := z / d * math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	iv := Interval{math.Max(0, mid-h), math.Min(1, mid+h)}
	if events == 0 {
		iv.Lower = 0
	}
	if events == units {
		iv.Upper = 1
	}
	return iv, nil
}

// ClopperPearson is the exact (conservative) interval of a proportion.
func ClopperPearson(events, units int64, alpha float64) (Interval, error) {
	if err := first(probability(alpha, InvalidAlpha, "alpha"), checkCounts(events, units)); err != nil {
		return Interval{}, err
	}
	iv := Interval{0, 1}
	x, n := float64(events), float64(units)
	if events > 0 {
		iv.Lower = bisect(0, 1, func(p float64) bool { return mathext.RegIncBeta(x, n-x+1, p) < alpha/2 })
	}
	if events < units {
		iv.Upper = bisect(0, 1, func(p float64) bool { return mathext.RegIncBeta(x+1, n-x, p) < 1-alpha/2 })
	}
	return iv, nil
}

// bisect returns the point in [lo, hi] where below turns from true to false.
func bisect(lo, hi float64, below func(float64) bool) float64 {
	for range 200 {
		mid := lo + (hi-lo)/2
		if mid <= lo || mid >= hi {
			break
		}
		if below(mid) {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo + (hi-lo)/2
}

// Binary is one arm of a yes/no metric.
type Binary struct{ Events, Units int64 }

// NewcombeDiff is the hybrid score interval of treatment minus control
// (Newcombe 1998, method 10). Use it below about ten events an arm, where Wald
// intervals fail; it exists at 0 events.
func NewcombeDiff(control, treatment Binary, alpha float64) (Interval, error) {
	c, err := Wilson(control.Events, control.Units, alpha)
	if err != nil {
		return Interval{}, err
	}
	t, err := Wilson(treatment.Events, treatment.Units, alpha)
	if err != nil {
		return Interval{}, err
	}
	pc, pt := float64(control.Events)/float64(control.Units), float64(treatment.Events)/float64(treatment.Units)
	d := pt - pc
	return Interval{d - math.Hypot(pt-t.Lower, c.Upper-pc), d + math.Hypot(t.Upper-pt, pc-c.Lower)}, nil
}

// AgrestiCaffoDiff is Wald's interval of treatment minus control after adding
// one event and one non-event to each arm.
func AgrestiCaffoDiff(control, treatment Binary, alpha float64) (Interval, error) {
	if err := first(probability(alpha, InvalidAlpha, "alpha"),
		checkCounts(control.Events, control.Units), checkCounts(treatment.Events, treatment.Units)); err != nil {
		return Interval{}, err
	}
	nc, nt := float64(control.Units)+2, float64(treatment.Units)+2
	pc, pt := (float64(control.Events)+1)/nc, (float64(treatment.Events)+1)/nt
	h := normalQuantileSF(alpha/2) * math.Sqrt(pc*(1-pc)/nc+pt*(1-pt)/nt)
	return Interval{pt - pc - h, pt - pc + h}, nil
}

// MiettinenNurminenDiff is the score interval of treatment minus control: all
// differences a score test with the restricted estimate and the factor N/(N-1)
// does not reject (Miettinen and Nurminen 1985).
func MiettinenNurminenDiff(control, treatment Binary, alpha float64) (Interval, error) {
	if err := first(probability(alpha, InvalidAlpha, "alpha"),
		checkCounts(control.Events, control.Units), checkCounts(treatment.Events, treatment.Units)); err != nil {
		return Interval{}, err
	}
	z := normalQuantileSF(alpha / 2)
	n1, n2 := float64(treatment.Units), float64(control.Units)
	x1, x2 := float64(treatment.Events), float64(control.Events)
	d := x1/n1 - x2/n2
	n := n1 + n2
	stat := func(delta float64) float64 {
		p2 := restrictedControl(x1, n1, x2, n2, delta)
		p1 := math.Min(1, math.Max(0, p2+delta))
		v := (p1*(1-p1)/n1 + p2*(1-p2)/n2) * n / (n - 1)
		if v <= 0 {
			if d == delta {
				return 0
			}
			return math.Copysign(math.Inf(1), d-delta)
		}
		return (d - delta) / math.Sqrt(v)
	}
	return Interval{
		bisect(-1, d, func(x float64) bool { return stat(x) > z }),
		bisect(d, 1, func(x float64) bool { return stat(x) > -z }),
	}, nil
}

// restrictedControl is the maximum likelihood control rate under p1 - p2 =
// delta. The likelihood is concave in p2, so its derivative is bisected.
func restrictedControl(x1, n1, x2, n2, delta float64) float64 {
	lo, hi := math.Max(0, -delta), math.Min(1, 1-delta)
	term := func(x, n, p float64) float64 { // derivative of x ln p + (n-x) ln(1-p)
		var s float64
		if x > 0 {
			s += x / p
		}
		if n > x {
			s -= (n - x) / (1 - p)
		}
		return s
	}
	return bisect(lo, hi, func(p float64) bool {
		return term(x1, n1, p+delta)+term(x2, n2, p) > 0
	})
}
