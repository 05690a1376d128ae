package stats

import (
	"math"
	"sort"

	"gonum.org/v1/gonum/integrate/quad"
)

// Spending is how a group-sequential plan spends its error rate over time.
type Spending int

const (
	// OBrienFleming spends like O'Brien and Fleming's test (Lan and DeMets):
	// almost nothing early, almost a fixed test at the end.
	OBrienFleming Spending = iota
	// Power spends alpha t^Rho.
	Power
)

// maxZ caps a boundary: beyond 8 standard errors the spent error is below
// 1e-15 and no bound is distinguishable from "do not stop here".
const maxZ = 8

// maxLooks limits a plan; more looks than this call for a confidence sequence.
const maxLooks = 100

// minGap is the least growth of information between looks, relative.
const minGap = 0.001

// GroupPlan is a group-sequential plan: look k happens at information fraction
// Fractions[k] = planned final variance / variance at the look, strictly
// ascending, last at most 1. When traffic overshoots, plan anew.
type GroupPlan struct {
	Fractions []float64
	Alpha     float64
	Sides     int // 1 or 2
	Spending  Spending
	Rho       float64 // exponent of Power, above 0
}

// GroupBounds are the boundaries of a plan.
type GroupBounds struct {
	Z          []float64 // stop when |z| (z, one-sided) is at or above this
	Cumulative []float64 // error spent up to and including the look, both sides
	NominalP   []float64 // p-value that the bound corresponds to in a fixed test
}

// Bounds solves the boundaries by the recursion of Armitage, McPherson and
// Rowe, one-sided with Alpha/Sides a side.
func (g GroupPlan) Bounds() (GroupBounds, error) {
	if err := g.check(); err != nil {
		return GroupBounds{}, err
	}
	side := g.Alpha / float64(g.Sides)
	spent := func(t float64) float64 {
		if g.Spending == Power {
			return side * math.Pow(t, g.Rho)
		}
		return 2 * NormalSF(normalQuantileSF(side/2)/math.Sqrt(t))
	}
	var out GroupBounds
	var prev density
	before, tPrev := 0.0, 0.0
	for k, t := range g.Fractions {
		step := spent(t) - before
		sd := math.Sqrt(t - tPrev)
		exceed := func(z float64) float64 { // P(not stopped before, then above z)
			if prev.y == nil {
				return NormalSF(z)
			}
			x := z * math.Sqrt(t)
			var p float64
			for i := sort.SearchFloat64s(prev.y, x-9*sd); i < len(prev.y); i++ {
				p += prev.mass[i] * NormalSF((x-prev.y[i])/sd)
			}
			return p
		}
		z := bisect(-maxZ, maxZ, func(z float64) bool { return exceed(z) > step })
		out.Z = append(out.Z, z)
		out.Cumulative = append(out.Cumulative, float64(g.Sides)*spent(t))
		out.NominalP = append(out.NominalP, math.Min(1, float64(g.Sides)*NormalSF(z)))
		before, tPrev = spent(t), t
		if k+1 < len(g.Fractions) {
			// The nodes must resolve this increment and the kernel of the next.
			resolve := math.Min(sd, math.Sqrt(g.Fractions[k+1]-t))
			prev = prev.next(z*math.Sqrt(t), math.Sqrt(t), sd, resolve)
		}
	}
	return out, nil
}

func (g GroupPlan) check() error {
	if err := probability(g.Alpha, InvalidAlpha, "alpha"); err != nil {
		return err
	}
	switch {
	case len(g.Fractions) == 0:
		return undefined(InvalidParameter, "no looks")
	case len(g.Fractions) > maxLooks:
		return undefined(InvalidParameter, "%d looks, at most %d; use a confidence sequence", len(g.Fractions), maxLooks)
	case g.Sides != 1 && g.Sides != 2:
		return undefined(InvalidParameter, "sides is %d, must be 1 or 2", g.Sides)
	case g.Spending != OBrienFleming && g.Spending != Power:
		return undefined(InvalidParameter, "unknown spending function %d", g.Spending)
	case g.Spending == Power && !(g.Rho > 0 && g.Rho <= 100):
		return undefined(InvalidParameter, "exponent of the power spending is %v, must be above 0 and at most 100", g.Rho)
	}
	prev := 0.0
	for i, t := range g.Fractions {
		if !(t > prev && t <= 1+1e-12) {
			return undefined(InvalidParameter, "information fraction %d is %v, must be above %v and at most 1", i, t, prev)
		}
		if t-prev < minGap*t {
			return undefined(InvalidParameter, "information fraction %d is only %v after the one before", i, t-prev)
		}
		prev = t
	}
	return nil
}

// density is the sub-density of the score process among paths not stopped yet,
// as point masses on quadrature nodes.
type density struct {
	y, mass []float64
}

const nodesPerPanel = 8

// next carries the density over an increment with standard deviation sd to the
// region below bound; sdTotal is the standard deviation of the whole process,
// resolve the finest scale that the new nodes have to show.
func (d density) next(bound, sdTotal, sd, resolve float64) density {
	lo := -maxZ * sdTotal
	if bound <= lo {
		return density{y: []float64{}, mass: []float64{}}
	}
	panels := int(math.Ceil((bound - lo) / resolve))
	width := (bound - lo) / float64(panels)
	x, w := make([]float64, nodesPerPanel), make([]float64, nodesPerPanel)
	quad.Legendre{}.FixedLocations(x, w, 0, width)
	out := density{y: make([]float64, 0, panels*nodesPerPanel), mass: make([]float64, 0, panels*nodesPerPanel)}
	from := 0
	for p := range panels {
		for i := range x {
			at := lo + float64(p)*width + x[i]
			var f float64
			if d.y == nil {
				f = normalPDF(at/sd) / sd
			} else {
				for from < len(d.y) && d.y[from] < at-9*sd {
					from++
				}
				for k := from; k < len(d.y) && d.y[k] <= at+9*sd; k++ {
					f += d.mass[k] * normalPDF((at-d.y[k])/sd) / sd
				}
			}
			out.y = append(out.y, at)
			out.mass = append(out.mass, f*w[i])
		}
	}
	return out
}
