package policy

import (
	"hash/fnv"
	"strconv"

	"github.com/spillway-live/spillway/schemas"
)

// lot draws a number in (0, 1) that is fixed for the session and the purpose.
func lot(session, purpose string) float64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(purpose))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(session))
	x := h.Sum64()
	// FNV's high bits are weak on short keys: mix (splitmix64's finalizer).
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	x ^= x >> 31
	return (float64(x>>11) + 0.5) / (1 << 53)
}

// draw lets a few new sessions go elsewhere: to a failing CDN, to see whether it
// is back, or to any with room, to know them all. It gives the reason code of a
// choice made by lot, and sets the probability of the choice.
func (p *Policy) draw(in *Input, open []*candidate, a *Answer) string {
	if len(open) == 0 || open[0].tier != tierRoom || in.Current != "" {
		return ""
	}
	probe, probed := lot(in.Session, "probe"), 0.0 // one lot for all that fail
	for i := len(open) - 1; i >= 0 && open[i].tier <= tierFailing; i-- {
		if open[i].tier == tierPenalised {
			continue
		}
		share := min(max(open[i].facts.Probe, 0), 1-probed)
		if probed += share; probe < probed {
			first(open, i)
			a.Probability = share
			return ReasonProbe
		}
	}
	rest := 1 - probed
	n := 0
	for n < len(open) && open[n].tier == tierRoom {
		n++
	}
	reason, weight := "", 1.0
	if p.s.Kind == schemas.PolicyWeighted {
		reason, weight = ReasonLot, p.share(open[:n], 0)
	}
	a.Probability = rest * weight
	if p.s.Explore == 0 || n < 2 {
		return reason
	}
	even := p.s.Explore / float64(n)
	if lot(in.Session, "explore") < p.s.Explore {
		i := int(lot(in.Session, "explore which") * float64(n))
		a.Probability = even
		switch {
		case p.s.Kind == schemas.PolicyWeighted:
			a.Probability += (1 - p.s.Explore) * p.share(open[:n], i)
		case i == 0:
			a.Probability += 1 - p.s.Explore
		}
		a.Probability *= rest
		first(open, i)
		return ReasonExplore
	}
	a.Probability = rest * ((1-p.s.Explore)*weight + even)
	return reason
}

// try sends a session in play to a failing CDN, to see whether it is back: one
// that can afford it (Input.Test), that has not moved lately, and whose player
// does not hold the CDN in its penalty box. Each round others are drawn: those of
// the last are back, or hold the CDN in that box now.
func (p *Policy) try(in *Input, open []*candidate) string {
	if in.Test <= 0 || in.Current == "" || in.SinceMoveSec < p.dwell || len(open) == 0 || open[0].tier != tierCurrent {
		return ""
	}
	round := strconv.FormatInt(in.Round, 10)
	for i := len(open) - 1; i >= 0 && open[i].tier <= tierFailing; i-- {
		c := open[i]
		if c.tier == tierFailing && c.facts.Probe > 0 && lot(in.Session, "try "+c.cdn.Name+" "+round) < in.Test {
			first(open, i)
			return ReasonProbe
		}
	}
	return ""
}

// share is the probability with which a candidate is drawn first by weight.
func (p *Policy) share(room []*candidate, i int) float64 {
	sum := 0.0
	for j := range room {
		sum += p.weight(room[j])
	}
	switch {
	case sum > 0:
	case i == 0:
		return 1 // none has a weight: order decides
	default:
		return 0
	}
	return p.weight(room[i]) / sum
}

// first puts the candidate i before the others, whose order stays.
func first(open []*candidate, i int) {
	c := open[i]
	copy(open[1:i+1], open[:i])
	open[0] = c
}
