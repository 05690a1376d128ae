package policy

import (
	"slices"

	"github.com/spillway-live/spillway/schemas"
)

// Reason codes of answers.
const (
	ReasonAffinity   = "affinity"    // the publisher's CDN
	ReasonSpill      = "spill"       // the publisher's CDN is full
	ReasonDraining   = "draining"    // the publisher's CDN takes nobody new
	ReasonOff        = "off"         // the publisher's CDN is off
	ReasonFailing    = "failing"     // the CDN it would be is failing
	ReasonRule       = "rule"        // a hard rule keeps the session off the publisher's CDN
	ReasonRegion     = "region"      // no publisher's CDN; the session's region decides
	ReasonStrong     = "strong"      // no publisher's CDN; one is registered as strong for the viewer
	ReasonOrder      = "order"       // no publisher's CDN, no CDN in the region
	ReasonFull       = "all_full"    // every CDN is full: the one least over its limit
	ReasonAllFailing = "all_failing" // every CDN is failing
	ReasonScore      = "score"       // the policy's score
	ReasonBalance    = "balance"     // least share of its limit in use
	ReasonLot        = "lot"         // drawn by weight
	ReasonExplore    = "explore"     // drawn evenly, to stay informed
	ReasonProbe      = "probe"       // tries whether a failing CDN is back
	ReasonProbed     = "probed"      // the client measured it to answer much sooner than the first
	ReasonStay       = "stay"        // the session stays where it is
	ReasonShed       = "shed"        // its CDN is over its capacity: the session is one of those to leave
	ReasonTrial      = "trial"       // its CDN loses much and nobody is on another: the session is one of few that see how that serves
	ReasonBetter     = "better"      // another CDN's score is better by more than the hysteresis
	ReasonPinned     = "pinned"      // the session asked for this CDN
	ReasonPinOff     = "pinned_off"  // the session asked for a CDN that is off
)

// Reasons for which a CDN is excluded.
const (
	ExcludedOff      = "off"
	ExcludedDraining = "draining"
	ExcludedRegion   = "region" // the policy lets it serve other regions only
	ExcludedRule     = "rule"   // the policy's eligible expression is false
)

// reason says why the first candidate is first where no lot and no move did.
func (p *Policy) reason(in *Input, open []*candidate, excluded []schemas.Candidate) string {
	top := open[0]
	switch top.tier {
	case tierPinned:
		return ReasonPinned
	case tierCurrent:
		return ReasonStay
	}
	if in.Pinned != "" && slices.ContainsFunc(in.CDNs, func(c schemas.CDN) bool { return c.Name == in.Pinned }) {
		return ReasonPinOff // one that is not off would have been chosen
	}
	switch top.tier {
	case tierFull:
		return ReasonFull
	case tierFailing, tierPenalised:
		return ReasonAllFailing
	}
	if in.Current != "" && slices.ContainsFunc(open, func(c *candidate) bool { return c.cdn.Name == in.Current && c.tier == tierFailing }) {
		return ReasonFailing
	}
	switch p.s.Kind {
	case schemas.PolicyBalance:
		return ReasonBalance
	case schemas.PolicyWeighted:
		return ReasonLot
	case schemas.PolicyAffinity:
		return in.affinityReason(top, open, excluded)
	}
	return ReasonScore
}

// affinityReason says why the publisher's CDN was or was not taken.
func (in *Input) affinityReason(top *candidate, open []*candidate, excluded []schemas.Candidate) string {
	if top.cdn.Name == in.PublishCDN {
		return ReasonAffinity
	}
	for _, x := range excluded {
		if x.CDN == in.PublishCDN {
			if x.Excluded == ExcludedRegion {
				return ReasonRule
			}
			return x.Excluded
		}
	}
	for i := range open {
		if open[i].cdn.Name == in.PublishCDN {
			if open[i].tier == tierFailing {
				return ReasonFailing
			}
			return ReasonSpill
		}
	}
	switch {
	case strong(top.cdn, in.Region, in.ISP):
		return ReasonStrong
	case in.PublishCDN == "" && in.Region != "" && top.cdn.Region == in.Region:
		return ReasonRegion
	}
	return ReasonOrder
}
