package policy

import "github.com/spillway-live/spillway/schemas"

// nearlyFull is the share of a CDN's limit in use from which on it is about to
// spill, whatever the forecast.
const nearlyFull = 0.9

// spills names the next CDN with room where the one that the session goes to is
// about to be full.
func (in *Input) spills(open []*candidate) string {
	if len(open) < 2 || open[0].tier < tierRoom || open[0].tier == tierPinned {
		return ""
	}
	c := open[0]
	all, here := used(c.cdn, c.facts, c.here, Limit(c.cdn))
	stream := ofStream(c.cdn, c.facts)
	now := max(all, here, stream)
	if now == 0 || now < nearlyFull && max(all*factor(c.facts.Soon), here*factor(c.facts.RegionSoon), stream*factor(c.facts.StreamSoon)) < 1 {
		return ""
	}
	for i := 1; i < len(open); i++ {
		if open[i].tier == tierRoom {
			return open[i].cdn.Name
		}
	}
	return ""
}

// preferWarm puts a CDN whose caches hold the stream first where the session would
// have gone to one that is full, and the policy holds both for about as good. The
// order is otherwise the policy's: a cold CDN is used as well.
func (p *Policy) preferWarm(open []*candidate) {
	if len(open) == 0 || open[0].tier != tierRoom || open[0].facts.Warm || p.s.Kind == schemas.PolicyWeighted {
		return
	}
	spilled := false
	for i := range open {
		spilled = spilled || open[i].tier == tierFull && open[i].order < open[0].order || open[i].tier == tierFull && open[i].score > open[0].score
	}
	if !spilled {
		return
	}
	for i := 1; i < len(open) && open[i].tier == tierRoom; i++ {
		if open[i].facts.Warm && open[0].score-open[i].score <= p.hysteresis {
			first(open, i)
			return
		}
	}
}
