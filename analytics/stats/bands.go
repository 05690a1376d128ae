package stats

import (
	"math"

	"github.com/spillway-live/spillway/analytics/stats/loghist"
)

// LILHalfWidth is the half width of a band around the empirical distribution
// function that holds for all values and all t >= tMin at once (Howard and
// Ramdas): 0.85 sqrt((ln ln(e t/tMin) + C)/t), C = 0.8 ln(1612/alpha). t counts
// independent rows: one per unit, or rows divided by their design effect.
func LILHalfWidth(t, tMin, alpha float64) (float64, error) {
	if err := first(probability(alpha, InvalidAlpha, "alpha"), units(t), positive(tMin, "first look")); err != nil {
		return 0, err
	}
	if t < tMin {
		return 0, undefined(TooFewUnits, "%v rows, the band begins at %v", t, tMin)
	}
	c := 0.8 * math.Log(1612/alpha)
	return 0.85 * math.Sqrt((math.Log(1+math.Log(t/tMin))+c)/t), nil
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
