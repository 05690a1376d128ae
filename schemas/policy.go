package schemas

import (
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"
)

// BucketPolicies maps a policy's name to Policy; the bucket keeps earlier
// versions, to which a router goes back when the newest fails at run time.
const BucketPolicies = "policies"

// Kinds of policies: what the score of a CDN is made of.
const (
	// PolicyAffinity prefers the CDN that the publisher came through, because the
	// stream is there already, then the CDN of the viewer's region, then by order.
	PolicyAffinity = "affinity"
	// PolicyBalance prefers the CDN with the least share of its capacity in use.
	PolicyBalance = "balance"
	// PolicyWeighted draws each session's CDN by lot, in proportion to weights.
	PolicyWeighted = "weighted"
	// PolicyQuality prefers the CDN on which least of a view is lost.
	PolicyQuality = "quality"
	// PolicyCost prefers the CDN where a gigabyte and what is lost with it cost least.
	PolicyCost = "cost"
	// PolicyExpression lets a CEL expression give the score.
	PolicyExpression = "expression"
)

// Policy says how routers choose among CDNs. Apps and experiment arms name it.
type Policy struct {
	Name string `json:"name"`
	// Version grows by one with each change; the registry sets it.
	Version int    `json:"version"`
	Kind    string `json:"kind"`
	// Weights by CDN, for weighted: a CDN without one gets no session while another
	// can take it. None at all: equal weights.
	Weights map[string]float64 `json:"weights,omitempty"`
	// Score is a CEL expression, double, higher is better, for kind expression.
	Score string `json:"score,omitempty"`
	// Eligible is a CEL expression, bool: a CDN for which it is false takes
	// nobody. It is a hard rule and may stand beside any kind. Empty: all are eligible.
	Eligible string `json:"eligible,omitempty"`
	// Regions lets a CDN (key) only serve viewers of these regions; a CDN that is
	// not named serves everywhere.
	Regions map[string][]string `json:"regions,omitempty"`
	// Explore is the share of new sessions, 0 to 0.5, sent to a CDN drawn evenly
	// from those with room, so that every CDN stays known and decisions can be
	// evaluated for other policies (off-policy).
	Explore float64 `json:"explore,omitempty"`
	// Hysteresis is by how much another CDN's score must exceed that of the
	// session's own before the session moves, in the score's unit; 0: quality moves
	// at a gain of 0.05 of viewing time, cost at what that is worth by LossUSDPerGB,
	// other kinds move nobody for a score.
	Hysteresis float64 `json:"hysteresis,omitempty"`
	// DwellSec is how long a session stays after a move before a score or load may
	// move it again; default 600. Failure moves it at once.
	DwellSec int `json:"dwell_s,omitempty"`
	// PadFrom is the share of capacity from which on a CDN's score is made worse,
	// default 0.8; PadFactor how much per share above it, default 1.5: a soft
	// price in place of a cliff.
	PadFrom   float64 `json:"pad_from,omitempty"`
	PadFactor float64 `json:"pad_factor,omitempty"`
	// LossUSDPerGB is what kind cost pays to avoid a view lost entirely, in USD
	// for each gigabyte of it; default 2.
	LossUSDPerGB float64 `json:"loss_usd_per_gb,omitempty"`
}

// ParsePolicyRef reads NAME, which means the newest version (0), or NAME@VERSION.
func ParsePolicyRef(ref string) (name string, version int, err error) {
	name, v, pinned := strings.Cut(ref, "@")
	if err := CheckName("policy", name); err != nil {
		return "", 0, err
	}
	if !pinned {
		return name, 0, nil
	}
	if version, err = strconv.Atoi(v); err != nil || version < 1 {
		return "", 0, fmt.Errorf("policy %.64q: the version behind the @ is not a whole number from 1", ref)
	}
	return name, version, nil
}

const (
	maxExpression = 4096
	maxExplore    = 0.5
	// DefaultDwellSec is Policy.DwellSec where it is not given.
	DefaultDwellSec = 600
)

// Check names the field that is wrong. It does not compile the expressions.
func (p *Policy) Check() error {
	if err := CheckName("name: policy name", p.Name); err != nil {
		return err
	}
	bad := func(field, format string, a ...any) error {
		return fmt.Errorf("policy %s: %s: %s", p.Name, field, fmt.Sprintf(format, a...))
	}
	switch p.Kind {
	case PolicyAffinity, PolicyBalance, PolicyQuality, PolicyCost:
	case PolicyWeighted:
		if err := p.checkWeights(); err != nil {
			return bad("weights", "%v", err)
		}
	case PolicyExpression:
		if p.Score == "" {
			return bad("score", "kind expression needs a CEL expression, for example -harm")
		}
	default:
		return bad("kind", "%q is not affinity, balance, weighted, quality, cost or expression", p.Kind)
	}
	if p.Score != "" && p.Kind != PolicyExpression {
		return bad("score", "only kind expression has one, this is kind %s", p.Kind)
	}
	if len(p.Weights) > 0 && p.Kind != PolicyWeighted {
		return bad("weights", "only kind weighted has them, this is kind %s", p.Kind)
	}
	for field, text := range map[string]string{"score": p.Score, "eligible": p.Eligible} {
		if len(text) > maxExpression {
			return bad(field, "the expression has %d bytes: at most %d are allowed", len(text), maxExpression)
		}
	}
	for cdn, regions := range p.Regions {
		if CheckName("CDN", cdn) != nil {
			return bad("regions", "%q is not the name of a CDN", cdn)
		}
		if len(regions) == 0 {
			return bad("regions", "CDN %s has none: set it off in the registry instead", cdn)
		}
	}
	for _, f := range []struct {
		name   string
		v, max float64
	}{
		{"explore", p.Explore, maxExplore}, {"hysteresis", p.Hysteresis, math.MaxFloat64}, {"pad_from", p.PadFrom, 1},
		{"pad_factor", p.PadFactor, 1000}, {"loss_usd_per_gb", p.LossUSDPerGB, math.MaxFloat64},
	} {
		if !(f.v >= 0 && f.v <= f.max) {
			return bad(f.name, "%v is not between 0 and %g", f.v, f.max)
		}
	}
	if p.DwellSec < 0 || p.DwellSec > 86400 {
		return bad("dwell_s", "%d is not between 0 and 86400", p.DwellSec)
	}
	return nil
}

func (p *Policy) checkWeights() error {
	if len(p.Weights) == 0 {
		return nil
	}
	names := make([]string, 0, len(p.Weights))
	sum := 0.0
	for cdn := range p.Weights {
		names = append(names, cdn)
	}
	sort.Strings(names) // the same complaint each time
	for _, cdn := range names {
		if err := CheckName("CDN", cdn); err != nil {
			return err
		}
		if w := p.Weights[cdn]; !(w >= 0 && w <= 1e6) {
			return fmt.Errorf("%v for %s is not between 0 and a million", w, cdn)
		}
		sum += p.Weights[cdn]
	}
	if sum == 0 {
		return fmt.Errorf("none is above 0")
	}
	return nil
}
