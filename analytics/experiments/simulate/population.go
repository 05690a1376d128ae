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
	bucket []uint8 // hash bucket of each unit
	// lots draws the buckets, and viewers who come after the planned end: neither changes what else is drawn.
	lots   *rand.Rand
	byDay  [looks][]session
	totals []stats.Totals // of each unit so far: stalled and watched
	fails  []stats.Totals // failed starts and attempts
	in     int64          // units that have come

	// sums and failSums are the same by hash bucket, inBucket how many units of each have come.
	sums, failSums [clusters]stats.Totals
	inBucket       [clusters]int64
}

// days are planned; reports are looked at daily for as many again.
const days, looks = 14, 28

// clusters are the hash buckets that reports sum units up in, groups what is left of them over time.
const clusters, groups = 256, 32

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
	a.units, a.in, a.bucket = 0, 0, a.bucket[:0]
	if a.lots == nil {
		a.lots = rand.New(rand.NewPCG(1, 1))
	}
	a.totals, a.fails = a.totals[:0], a.fails[:0]
	a.sums, a.failSums, a.inBucket = [clusters]stats.Totals{}, [clusters]stats.Totals{}, [clusters]int64{}
	for d := range a.byDay {
		a.byDay[d] = a.byDay[d][:0]
	}
	a.come(r, units, e, 0, days)
}

// come lets so many more viewers come, within n days from the day first on.
func (a *arm) come(r *rand.Rand, units int, e effect, first, n int) {
	before := a.units
	a.units += units
	a.totals, a.fails = append(a.totals, make([]stats.Totals, units)...), append(a.fails, make([]stats.Totals, units)...)
	factor := e.factor
	if factor == 0 {
		factor = 1
	}
	for u := before; u < a.units; u++ {
		a.bucket = append(a.bucket, uint8(a.lots.Uint32()))
		z := r.NormFloat64() // how bad the viewer's network is
		bad := math.Exp(0.9 * z)
		slow := firstMedian * math.Exp(firstBetween*z)
		for more := 1 + int(r.ExpFloat64()*moreSessions); more > 0; more-- {
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
			d := first + r.IntN(n)
			a.byDay[d] = append(a.byDay[d], s)
		}
	}
}

// day lets one more day pass.
func (a *arm) day(d int) {
	for i := range a.byDay[d] {
		s := &a.byDay[d][i]
		t, f := &a.totals[s.unit], &a.fails[s.unit]
		if f[stats.Den] == 0 {
			a.in++
			a.inBucket[a.bucket[s.unit]]++
		}
		sums, fails := &a.sums[a.bucket[s.unit]], &a.failSums[a.bucket[s.unit]]
		sums[stats.Num] += s.stalled
		sums[stats.Den] += s.watched
		fails[stats.Den]++
		t[stats.Num] += s.stalled
		t[stats.Den] += s.watched
		f[stats.Den]++
		if math.IsInf(s.firstMs, 1) {
			f[stats.Num]++
			fails[stats.Num]++
		}
	}
}

// failing is how many units have a failed start.
func (a *arm) failing() int64 {
	n := int64(0)
	for i := range a.fails {
		if a.fails[i][stats.Num] > 0 {
			n++
		}
	}
	return n
}

// stalling is how many units have stalled.
func (a *arm) stalling() int64 {
	n := int64(0)
	for i := range a.totals {
		if a.totals[i][stats.Num] > 0 {
			n++
		}
	}
	return n
}

// ratio is the stall ratio over the units that have come.
func (a *arm) ratio() (stats.Estimate, error) { return a.over(a.totals) }

// failures is the share of starts that failed, likewise.
func (a *arm) failures() (stats.Estimate, error) { return a.over(a.fails) }

// ratioOf is the stall ratio from the sums of n clusters of units, as reports have it from roll-ups.
func (a *arm) ratioOf(n int) (stats.Estimate, error) { return a.clustered(&a.sums, n) }

// failuresOf is the share of starts that failed, likewise.
func (a *arm) failuresOf(n int) (stats.Estimate, error) { return a.clustered(&a.failSums, n) }

func (a *arm) clustered(sums *[clusters]stats.Totals, n int) (stats.Estimate, error) {
	var m stats.Moments
	for i := range n {
		var t stats.Totals
		in := int64(0)
		for b := i; b < clusters; b += n {
			t[stats.Num] += sums[b][stats.Num]
			t[stats.Den] += sums[b][stats.Den]
			in += a.inBucket[b]
		}
		if in > 0 { // else nobody of the arm is in it
			m.Add(t)
		}
	}
	return stats.Ratio(m)
}

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
