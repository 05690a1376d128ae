package policy

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/spillway-live/spillway/schemas"
)

// Defaults of schemas.Policy.
const (
	defaultPadFrom   = 0.8
	defaultPadFactor = 1.5
	// defaultLossUSDPerGB: at 1 a simulated week saved 45 % of a static split's cost
	// and stalled a third more, at 3 it saved 10 % and stalled a fifth less.
	defaultLossUSDPerGB = 2.0
	defaultQualityGain  = 0.05
	// baseHarm is what quality takes for lost even on a flawless CDN, so that
	// nearness to capacity has something to multiply.
	baseHarm = 0.005
)

// candidate is an eligible CDN on its way into the answer.
type candidate struct {
	cdn   *schemas.CDN
	facts *Facts
	tier  tier
	score float64
	load  float64
	here  schemas.Capacity // of the session's region
	class int              // by affinity, strength and region; under affinity only
	order int              // rank by affinity and region, then schemas.CDN.Order
}

// tier orders candidates before their score does.
type tier int

const (
	tierPenalised tier = iota + 1
	tierFailing
	tierFull
	tierRoom
	tierCurrent
	tierPinned
)

var tierNames = [...]string{
	tierPenalised: "penalised", tierFailing: "failing", tierFull: "full", tierRoom: "room", tierCurrent: "current", tierPinned: "pinned",
}

func (t tier) String() string { return tierNames[t] }

// tierName is how answers and decisions name the candidate's tier: of what fails, whether it does for
// viewers of the region or of the provider alone.
func (c *candidate) tierName() string {
	if c.tier == tierFailing {
		switch c.facts.FailingIn {
		case "region":
			return TierFailingRegion
		case "isp":
			return TierFailingISP
		}
	}
	return c.tier.String()
}

// Names of the tier of CDNs that fail for some viewers alone; of those that fail altogether it is "failing".
const (
	TierFailingRegion = "failing_region"
	TierFailingISP    = "failing_isp"
)

// pad is the soft price of nearness to capacity: 0 up to PadFrom, then growing
// linearly (Cedexis openmix's fusion-cdn-avoid-bursting).
func (p *Policy) pad(in *Input, load float64) float64 {
	from := p.padFrom
	if in.OverflowAt > 0 {
		from = in.OverflowAt
	}
	return max(0, load/from-1) * p.padFactor
}

// rate gives a candidate its score; higher is better.
func (p *Policy) rate(in *Input, c *candidate) error {
	switch p.s.Kind {
	case schemas.PolicyBalance:
		c.score = 0 - c.load
	case schemas.PolicyWeighted:
		// Efraimidis and Spirakis 2006: the order of log(u)/w is a draw without
		// replacement in proportion to w. Drawn by session and CDN, so that a CDN
		// that comes or goes moves only its own share.
		c.score = math.Inf(-1)
		if w := p.weight(c); w > 0 {
			c.score = math.Log(lot(in.Session, "weight "+c.cdn.Name)) / w
		}
	case schemas.PolicyQuality:
		c.score = -(c.facts.Harm() + baseHarm) * (1 + p.pad(in, c.load))
	case schemas.PolicyCost:
		c.score = -(PriceUSDPerGB(c.cdn, c.facts)*(1+p.pad(in, c.load)) + p.lossUSD*c.facts.Harm())
	case schemas.PolicyExpression:
		s, err := p.eval(in, c)
		if err != nil {
			return err
		}
		c.score = s
	default: // affinity: the rank is all
		c.score = 0 - float64(c.order)
	}
	return nil
}

// weight of a CDN under kind weighted; equal ones where none is given.
func (p *Policy) weight(c *candidate) float64 {
	if len(p.s.Weights) == 0 {
		return 1
	}
	return p.s.Weights[c.cdn.Name]
}

// nearness is what affinity goes by, less is better: the publisher's CDN, one strong
// where the session is, one of its region, any other.
func nearness(c *schemas.CDN, publishCDN, region, isp string) int {
	switch {
	case publishCDN != "" && c.Name == publishCDN:
		return 0
	case strong(c, region, isp):
		return 1
	case publishCDN == "" && region != "" && c.Region == region:
		return 2
	}
	return 3
}

// Alike says whether the policy prefers one of two CDNs of the same tier to the other
// for a publisher, or only orders them as the registry does. x and y are their scores.
func (p *Policy) Alike(a, b *schemas.CDN, x, y float64, region, isp string) bool {
	if p.s.Kind == schemas.PolicyAffinity {
		return nearness(a, "", region, isp) == nearness(b, "", region, isp)
	}
	return x == y
}

// ranks gives each candidate its place: under affinity by the publisher's CDN,
// strength, region and order; elsewhere, where it decides between equal scores, by order.
func (p *Policy) ranks(in *Input, w *work) {
	w.ranked = append(w.ranked[:0], w.open...)
	for _, c := range w.ranked {
		if p.s.Kind == schemas.PolicyAffinity {
			c.class = nearness(c.cdn, in.PublishCDN, in.Region, in.ISP)
		}
	}
	slices.SortFunc(w.ranked, func(x, y *candidate) int {
		if x.class != y.class || x.cdn.Order != y.cdn.Order {
			return cmp.Or(cmp.Compare(x.class, y.class), cmp.Compare(x.cdn.Order, y.cdn.Order))
		}
		return strings.Compare(x.cdn.Name, y.cdn.Name)
	})
	for rank, c := range w.ranked {
		c.order = rank
	}
}

// better compares candidates, best first. Where all are full, what counts is
// how far they are over their limits, whatever the policy.
func better(x, y *candidate) int {
	switch {
	case x.tier != y.tier:
		return int(y.tier) - int(x.tier)
	case x.tier == tierFull:
		return cmp.Or(cmp.Compare(x.load, y.load), x.order-y.order)
	}
	return cmp.Or(cmp.Compare(y.score, x.score), x.order-y.order)
}
