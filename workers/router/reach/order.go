package reach

import (
	"cmp"
	"math"
	"slices"

	"github.com/spillway-live/spillway/schemas"
)

const (
	// failing is from which share of failed probes on a transport is one that does not work.
	failing = 0.5
	// stepMs is below which difference round trips are alike: what is less is noise.
	stepMs = 10
	// A transport that works goes before one that comes earlier in the operator's order
	// where its round trip is less than ratio of that one's, and gainMs less.
	ratio  = 0.65
	gainMs = 50
)

// Works says whether a transport worked for more than half; nothing known is no failure.
func Works(m *schemas.TransportMeasured) bool { return m == nil || m.FailedShare < failing }

// Transports puts a candidate's transports in order: those that do not work last,
// the quickest first where it is much quicker, and else as they were.
func Transports(all []schemas.DispatchTransport) {
	slices.SortStableFunc(all, func(a, b schemas.DispatchTransport) int {
		return cmp.Compare(btoi(!Works(a.Measured)), btoi(!Works(b.Measured)))
	})
	first := rtt(&all, 0)
	best, at := first, 0
	for i := range all {
		if ms := rtt(&all, i); Works(all[i].Measured) && ms < best {
			best, at = ms, i
		}
	}
	if at > 0 && !math.IsInf(first, 1) && best < ratio*first && first-best >= gainMs {
		x := all[at]
		copy(all[1:at+1], all[:at])
		all[0] = x
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// rtt is +Inf where nothing is known.
func rtt(all *[]schemas.DispatchTransport, i int) float64 {
	if i >= len(*all) {
		return math.Inf(1)
	}
	if m := (*all)[i].Measured; m != nil && m.RTTMs > 0 && Works(m) {
		return m.RTTMs
	}
	return math.Inf(1)
}

// Candidates puts CDNs that the policy holds for equal, which are next to each other,
// in order: those that no transport reaches last, and those measured by their least
// round trip. Who was not measured keeps its place among those that are reached.
func Candidates(all []schemas.DispatchCandidate, equal func(a, b *schemas.DispatchCandidate) bool) {
	for from := 0; from < len(all); {
		to := from + 1
		for to < len(all) && equal(&all[from], &all[to]) {
			to++
		}
		equals(all[from:to])
		from = to
	}
}

func equals(all []schemas.DispatchCandidate) {
	slices.SortStableFunc(all, func(a, b schemas.DispatchCandidate) int {
		return cmp.Compare(btoi(!reached(&a)), btoi(!reached(&b)))
	})
	var places []int
	var known []schemas.DispatchCandidate
	for i := range all {
		if reached(&all[i]) && !math.IsInf(least(&all[i]), 1) {
			places, known = append(places, i), append(known, all[i])
		}
	}
	slices.SortStableFunc(known, func(a, b schemas.DispatchCandidate) int {
		return cmp.Compare(math.Floor(least(&a)/stepMs), math.Floor(least(&b)/stepMs))
	})
	for i, at := range places {
		all[at] = known[i]
	}
}

// reached says whether any transport of a CDN works, or may.
func reached(c *schemas.DispatchCandidate) bool {
	return len(c.Transports) == 0 || slices.ContainsFunc(c.Transports, func(t schemas.DispatchTransport) bool { return Works(t.Measured) })
}

// least is the shortest round trip of a CDN's transports that work; +Inf: none is known.
func least(c *schemas.DispatchCandidate) float64 {
	out := math.Inf(1)
	for i := range c.Transports {
		out = min(out, rtt(&c.Transports, i))
	}
	return out
}
