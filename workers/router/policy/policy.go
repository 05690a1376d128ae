// Package policy decides which CDN a playback session is sent to.
//
// It promises a pure function: equal inputs give equal answers in every router
// and in the sandbox, with every CDN accounted for, either as a candidate with
// its score or as excluded with the reason. It leaves out where the figures
// come from (the router counts viewers) and how an answer is told to a player.
package policy

import (
	"cmp"
	"errors"
	"slices"

	"github.com/spillway-live/spillway/schemas"
)

// Names of the policies. Experiments choose one by the parameter schemas.ParamPolicy.
const (
	// Affinity prefers the CDN that the publisher came through, because the
	// stream is there already, and spills to the next by order when it is full.
	Affinity = "affinity"
	// Balance sends each new session where the share of the limit in use is least.
	Balance = "balance"
)

// Version of the policies in this package; it changes with any answer.
const Version = "1"

// Reason codes of answers.
const (
	ReasonAffinity = "affinity"   // the publisher's CDN
	ReasonSpill    = "spill"      // the publisher's CDN is full
	ReasonDraining = "draining"   // the publisher's CDN takes nobody new
	ReasonOff      = "off"        // the publisher's CDN is off
	ReasonRegion   = "region"     // no publisher's CDN; the session's region decides
	ReasonOrder    = "order"      // no publisher's CDN, no CDN in the region
	ReasonFull     = "all_full"   // every CDN is full: the one least over its limit
	ReasonBalance  = "balance"    // least share of its limit in use
	ReasonStay     = "stay"       // the session stays where it is
	ReasonPinned   = "pinned"     // the session asked for this CDN
	ReasonPinOff   = "pinned_off" // the session asked for a CDN that is off
)

// Reasons for which a CDN is excluded.
const (
	ExcludedOff      = "off"
	ExcludedDraining = "draining"
)

// ErrNoCDN is returned when no CDN may take the session.
var ErrNoCDN = errors.New("no CDN takes viewers: all are off or draining")

// Input is everything a decision rests on.
type Input struct {
	// Pinned is the CDN the session asked for; empty if none.
	Pinned string
	// Current is the CDN the session is on; empty for a new session.
	Current string
	// Region is the session's.
	Region string
	// PublishCDN is the CDN that the stream's publisher came through; empty if unknown.
	PublishCDN string
	CDNs       []schemas.CDN
	// Viewers counts the sessions on each CDN, this one included where it is.
	Viewers map[string]int
}

// Answer is a decision.
type Answer struct {
	// Candidates in the order to answer, best first; behind them those excluded.
	Candidates []schemas.Candidate
	// Eligible is the number of candidates that are not excluded.
	Eligible int
	// Chosen is the first candidate.
	Chosen string
	// Probability is 1: these policies draw no lots.
	Probability float64
	Reason      string
	// Policy is the one applied, which is Affinity if the one asked for is unknown.
	Policy string
}

// Tiers of candidates; a higher one always comes before a lower one, and a
// score is a tier plus a fraction for the rank inside it.
const (
	tierFull = iota + 1
	tierOpen
	tierRegion
	tierPublish
	tierCurrent
	tierPinned
)

type candidate struct {
	cdn     *schemas.CDN
	tier    int
	load    float64 // share of the limit in use; 0 without limit
	viewers int
}

// Decide applies the named policy. The order of in.CDNs does not matter.
func Decide(name string, in *Input) (Answer, error) {
	if name != Balance {
		name = Affinity
	}
	a := Answer{Probability: 1, Policy: name}
	var open []candidate
	var excluded []schemas.Candidate
	for i := range in.CDNs {
		c := &in.CDNs[i]
		n := in.Viewers[c.Name]
		here := c.Name == in.Current || c.Name == in.Pinned
		switch {
		case c.State == schemas.CDNActive, c.State == schemas.CDNDraining && here:
			open = append(open, in.place(name, c, n))
		case c.State == schemas.CDNDraining:
			excluded = append(excluded, schemas.Candidate{CDN: c.Name, Viewers: n, Excluded: ExcludedDraining})
		default:
			excluded = append(excluded, schemas.Candidate{CDN: c.Name, Viewers: n, Excluded: ExcludedOff})
		}
	}
	slices.SortFunc(open, func(x, y candidate) int {
		byLoad := 0
		if x.tier == tierFull || name == Balance && x.tier == tierOpen {
			byLoad = cmp.Compare(x.load, y.load)
		}
		return cmp.Or(cmp.Compare(y.tier, x.tier), byLoad, cmp.Compare(x.cdn.Order, y.cdn.Order), cmp.Compare(x.cdn.Name, y.cdn.Name))
	})
	slices.SortFunc(excluded, func(x, y schemas.Candidate) int { return cmp.Compare(x.CDN, y.CDN) })
	for i, c := range open {
		a.Candidates = append(a.Candidates, schemas.Candidate{CDN: c.cdn.Name, Score: float64(c.tier) + 1/float64(i+2), Viewers: c.viewers})
	}
	a.Eligible = len(open)
	a.Candidates = append(a.Candidates, excluded...)
	if len(open) == 0 {
		return a, ErrNoCDN
	}
	a.Chosen = open[0].cdn.Name
	a.Reason = in.reason(name, open[0])
	return a, nil
}

// place finds the tier of an eligible CDN.
func (in *Input) place(name string, c *schemas.CDN, viewers int) candidate {
	k := candidate{cdn: c, viewers: viewers, tier: tierOpen}
	limit := Limit(c)
	if limit > 0 {
		k.load = float64(viewers) / float64(limit)
	}
	switch {
	case c.Name == in.Pinned:
		k.tier = tierPinned
	case c.Name == in.Current:
		k.tier = tierCurrent
	case limit > 0 && viewers >= limit:
		k.tier = tierFull
	case name == Balance:
	case c.Name == in.PublishCDN:
		k.tier = tierPublish
	case in.PublishCDN == "" && in.Region != "" && c.Region == in.Region:
		k.tier = tierRegion
	}
	return k
}

// Limit is the number of viewers from which on a CDN takes no new ones while
// another has room: the lower of SpillViewers and CapacityViewers; 0 is never.
func Limit(c *schemas.CDN) int {
	if c.SpillViewers > 0 && (c.CapacityViewers == 0 || c.SpillViewers < c.CapacityViewers) {
		return c.SpillViewers
	}
	return c.CapacityViewers
}

func (in *Input) reason(name string, first candidate) string {
	switch first.tier {
	case tierPinned:
		return ReasonPinned
	case tierCurrent:
		return ReasonStay
	}
	if i := slices.IndexFunc(in.CDNs, func(c schemas.CDN) bool { return c.Name == in.Pinned }); i >= 0 {
		return ReasonPinOff // one that is not off would have been chosen
	}
	switch first.tier {
	case tierFull:
		return ReasonFull
	case tierPublish:
		return ReasonAffinity
	case tierRegion:
		return ReasonRegion
	}
	if name == Balance {
		return ReasonBalance
	}
	for i := range in.CDNs {
		if c := &in.CDNs[i]; c.Name == in.PublishCDN {
			switch c.State {
			case schemas.CDNActive:
				return ReasonSpill
			case schemas.CDNDraining:
				return ReasonDraining
			}
			return ReasonOff
		}
	}
	return ReasonOrder
}
