package simulate

import (
	"math"
	"math/rand/v2"

	"github.com/spillway-live/spillway/analytics/stats"
)

// effect is what an arm does to its sessions.
type effect struct {
	// stalled is added to the stalled share of every session's viewing: all viewers
	// stall so much more, and the variance stays.
	stalled float64
	// factor multiplies stalled time; 0 counts as 1.
	factor float64
}

// session is what one session adds.
type session struct {
	unit             int32
	stalled, watched float64 // s; watched is played and stalled together
	firstMs          float64 // +Inf: it failed to start
}

// arm is a population of one arm over the days of an experiment.
type arm struct {
	units  int
	byDay  [days][]session
	totals []stats.Totals // of each unit so far: stalled and watched
	fails  []stats.Totals // failed starts and attempts
	in     int64          // units that have come
}

const days = 14

// Shape of the population: what makes sessions of one viewer alike, and tails heavy.
const (
	moreSessions = 3.0  // of a viewer beyond the first, mean (geometric)
	watchMedian  = 300. // s
	watchSigma   = 1.2
	stallShare   = 0.10 // of sessions on a median network
	stallMedian  = 3.0  // s
	stallSigma   = 1.3
	failShare    = 0.01
	firstMedian  = 700. // ms
	firstBetween = 0.45 // deviation of the logarithm between viewers, and within one
	firstWithin  = 0.50
)

// draw fills an arm with so many viewers, whose sessions are spread over the days.
func (a *arm) draw(r *rand.Rand, units int, e effect) {
	a.units, a.in = units, 0
	a.totals, a.fails = zeroed(a.totals, units), zeroed(a.fails, units)
	for d := range a.byDay {
		a.byDay[d] = a.byDay[d][:0]
	}
	factor := e.factor
	if factor == 0 {
		factor = 1
	}
	for u := range units {
		z := r.NormFloat64() // how bad the viewer's network is
		bad := math.Exp(0.9 * z)
		slow := firstMedian * math.Exp(firstBetween*z)
		for n := 1 + int(r.ExpFloat64()*moreSessions); n > 0; n-- {
			s := session{unit: int32(u), watched: watchMedian * math.Exp(watchSigma*r.NormFloat64()), firstMs: math.Inf(1)}
			if r.Float64() < failShare*bad {
				s.watched = 0
			} else {
				s.firstMs = slow * math.Exp(firstWithin*r.NormFloat64())
				if r.Float64() < min(stallShare*bad, 0.9) {
					s.stalled = factor * math.Min(stallMedian*math.Exp(stallSigma*r.NormFloat64()), s.watched)
				}
				s.stalled += e.stalled * s.watched
			}
			d := r.IntN(days)
			a.byDay[d] = append(a.byDay[d], s)
		}
	}
}

func zeroed(x []stats.Totals, n int) []stats.Totals {
	if cap(x) < n {
		return make([]stats.Totals, n)
	}
	x = x[:n]
	clear(x)
	return x
}

// day lets one more day pass.
func (a *arm) day(d int) {
	for i := range a.byDay[d] {
		s := &a.byDay[d][i]
		t, f := &a.totals[s.unit], &a.fails[s.unit]
		if f[stats.Den] == 0 {
			a.in++
		}
		t[stats.Num] += s.stalled
		t[stats.Den] += s.watched
		f[stats.Den]++
		if math.IsInf(s.firstMs, 1) {
			f[stats.Num]++
		}
	}
}

// ratio is the stall ratio over the units that have come.
func (a *arm) ratio() (stats.Estimate, error) { return a.over(a.totals) }

// failures is the share of starts that failed, likewise.
func (a *arm) failures() (stats.Estimate, error) { return a.over(a.fails) }

func (a *arm) over(totals []stats.Totals) (stats.Estimate, error) {
	s := stats.Sums{Units: a.in}
	for u := range totals {
		if a.fails[u][stats.Den] == 0 {
			continue
		}
		x, d := totals[u][stats.Num], totals[u][stats.Den]
		s.Sum[stats.Num] += x
		s.Sum[stats.Den] += d
		s.Product[stats.Num][stats.Num] += x * x
		s.Product[stats.Num][stats.Den] += x * d
		s.Product[stats.Den][stats.Den] += d * d
	}
	m, err := s.Moments()
	if err != nil {
		return stats.Estimate{}, err
	}
	return stats.Ratio(m)
}
