package health

import "math"

// Errors are standard errors of an [Estimate]: of ratios with sessions as units at
// most, of means by how the groups of addresses differ. 95 % of such estimates are
// within about twice that, where nobody lies.
type Errors struct {
	StallRatio, StartFailRatio, ErrorRatio, FirstScreenMs, BitrateBps, ThroughputBps float64
}

// measure is a value and its error, from x of n with the error own, and what is known from
// the coarser cell.
func (e *Estimate) measure(value, se *float64, x, n, prior, own float64) {
	if e.Cell == "" {
		prior = 0
	}
	if n+prior <= 0 {
		return
	}
	fine, coarse := n/(n+prior), prior/(n+prior)
	*value = fine*ratio(x, n) + coarse**value
	*se = math.Hypot(fine*own, coarse**se)
}

// shrink replaces the estimate by that of a finer cell, with the one so far as
// prior. list are the groups that s adds up.
func (e *Estimate) shrink(s *sums, list []part) {
	watch := s.played + s.stalled
	e.measure(&e.StallRatio, &e.SE.StallRatio, s.stalled, watch, priorWatchMs, shareError(ratio(s.stalled, watch), s.sessions))
	e.measure(&e.StartFailRatio, &e.SE.StartFailRatio, s.fails, s.attempts, priorAttempts, shareError(ratio(s.fails, s.attempts), s.attempts))
	e.measure(&e.ErrorRatio, &e.SE.ErrorRatio, s.errors, s.requests, priorRequests, shareError(ratio(s.errors, s.requests), min(s.requests, s.sessions)))
	e.measure(&e.FirstScreenMs, &e.SE.FirstScreenMs, s.startup, s.starts, priorAttempts, spread(list, func(s *sums) (x, n float64) { return s.startup, s.starts }))
	e.measure(&e.BitrateBps, &e.SE.BitrateBps, s.bitrateMs*1000, s.bitrateWeight, priorWatchMs, 1000*spread(list, func(s *sums) (x, n float64) { return s.bitrateMs, s.bitrateWeight }))
	e.measure(&e.ThroughputBps, &e.SE.ThroughputBps, s.throughput*1000, s.measured, priorReports, 1000*spread(list, func(s *sums) (x, n float64) { return s.throughput, s.measured }))
}

// shareError is the standard error of a share that so many units told: a report is about one
// session's stall or none, so it is binomial at most.
func shareError(share, units float64) float64 {
	// Of few there may be what none has shown: one more of each (Agresti and Coull 1998).
	p := (min(share, 1)*units + 1) / (units + 2)
	return math.Sqrt(p * (1 - p) / max(units, 1))
}

// spread is the standard error of a mean by how that of the groups differs: of a
// ratio estimator with groups as clusters (Cochran 1977, section 6.4). With one
// group nothing is known but that it may be off by as much as it is.
func spread(list []part, of func(*sums) (x, n float64)) float64 {
	var x, n, groups float64
	for i := range list {
		gx, gn := list[i].of(of)
		x, n = x+gx, n+gn
		if gn > 0 {
			groups++
		}
	}
	if n <= 0 {
		return 0
	}
	mean := x / n
	if groups < 2 {
		return mean
	}
	sq := 0.0
	for i := range list {
		gx, gn := list[i].of(of)
		sq += (gx - mean*gn) * (gx - mean*gn)
	}
	return math.Sqrt(sq*groups/(groups-1)) / n
}

func (p *part) of(two func(*sums) (x, n float64)) (x, n float64) {
	x, n = two(p.sums)
	return p.f * x, p.f * n
}
