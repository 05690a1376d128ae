package stats

import (
	"math"

	"github.com/spillway-live/spillway/analytics/stats/loghist"
)

// lilA is the leading constant of the band; 0.85 serves all usual t well.
const lilA = 0.85

// LILHalfWidth is the half width of a band around the empirical distribution
// function that holds for all values and all t >= tMin at once: 0.85
// sqrt((ln ln(e t/tMin) + C)/t) with the smallest C that theorem 2 of Howard and
// Ramdas (Sequential estimation of quantiles) allows; their rounded closed form
// C = 0.8 ln(1612/alpha) is about 1 % wider. t counts independent rows: one per
// unit, or rows divided by their design effect.
func LILHalfWidth(t, tMin, alpha float64) (float64, error) {
	if err := first(probability(alpha, InvalidAlpha, "alpha"), units(t), positive(tMin, "first look")); err != nil {
		return 0, err
	}
	if t < tMin {
		return 0, undefined(TooFewUnits, "%.0f rows, the band begins at %v", math.Floor(t), tMin)
	}
	// The closed form, plus a little for large alpha, bounds the solution from above.
	c := bisect(0, 0.8*math.Log(1612/alpha)+1, func(c float64) bool { return lilError(c) > alpha })
	return lilA * math.Sqrt((math.Log1p(math.Log(t/tMin))+c)/t), nil
}

// lilError is the error rate of the band with constant c: the infimum over eta
// of 4 exp(-g2 c)(1 + 1/((g2-1) ln eta)), g2 = (2/eta)(A - sqrt(2(eta-1)/c))2.
func lilError(c float64) float64 {
	at := func(eta float64) float64 {
		s := lilA - math.Sqrt(2*(eta-1)/c)
		g2 := 2 / eta * s * s
		if s <= 0 || g2 <= 1 {
			return math.Inf(1)
		}
		return 4 * math.Exp(-g2*c) * (1 + 1/((g2-1)*math.Log(eta)))
	}
	const steps = 200
	width := (2*lilA*lilA - 1) / steps
	best, value := 0, math.Inf(1)
	for i := 1; i < steps; i++ {
		if v := at(1 + float64(i)*width); v < value {
			best, value = i, v
		}
	}
	if best == 0 {
		return value
	}
	lo, hi := 1+float64(best-1)*width, 1+float64(best+1)*width
	for range 60 { // ternary search around the best step
		a, b := lo+(hi-lo)/3, hi-(hi-lo)/3
		if at(a) < at(b) {
			hi = b
		} else {
			lo = a
		}
	}
	return math.Min(value, at((lo+hi)/2))
}

// BandPoint is the distribution function with its band at one value.
type BandPoint struct {
	Ms           float64
	F            float64
	Lower, Upper float64 // within [0, 1]
}

// CDFBand is the distribution function of an arm from its histogram with the
// time-uniform band, at the upper edge of every non-empty bin. designEffect is
// 1 for one row per unit, else that of a middle quantile (ClusterQuantile).
func CDFBand(h loghist.Hist, tMin, designEffect, alpha float64) ([]BandPoint, error) {
	if err := positive(designEffect, "design effect"); err != nil {
		return nil, err
	}
	if h.Total() == 0 {
		return nil, undefined(EmptyArm, "no rows")
	}
	w, err := LILHalfWidth(float64(h.Total())/math.Max(1, designEffect), tMin, alpha)
	if err != nil {
		return nil, err
	}
	var out []BandPoint
	for _, p := range h.Curve() {
		out = append(out, BandPoint{p.Ms, p.F, math.Max(0, p.F-w), math.Min(1, p.F+w)})
	}
	return out, nil
}
