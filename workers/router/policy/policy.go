// Package policy decides which CDN a playback session is sent to.
//
// It promises a pure function: equal inputs give equal answers in every router
// and in the sandbox, with every CDN accounted for, either as a candidate with
// its tier and score or as excluded with the reason; an answer that sends a
// new session by lot says with which probability. It leaves out where the facts come
// from (the router's load and health) and how an answer is told to a player.
//
// Tiers come before scores: where the session asked to be; where it is, unless
// something better than habit says otherwise; CDNs with room; full ones; failing
// ones, which stay in the answer because a player may yet get through.
package policy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"sync"

	"github.com/google/cel-go/cel"

	"github.com/spillway-live/spillway/schemas"
)

// Names of the built-in policies, each of the kind of the same name; the last
// two are other names of quality and cost.
const (
	Affinity = schemas.PolicyAffinity
	Balance  = schemas.PolicyBalance
	Quality  = schemas.PolicyQuality
	Weighted = schemas.PolicyWeighted
	Cost     = schemas.PolicyCost

	QualityFirst = "quality-first"
	CostAware    = "cost-aware"
)

// Version of this package's rules; it changes with any answer. The version of
// a policy's values is counted beside it.
const Version = "2"

// ErrNoCDN is returned when no CDN may take the session.
var ErrNoCDN = errors.New("no CDN takes viewers: all are off, draining or ruled out")

// Answer is a decision.
type Answer struct {
	// Candidates in the order to answer, best first; behind them those excluded.
	Candidates []schemas.Candidate
	// Eligible is the number of candidates that are not excluded.
	Eligible int
	// Chosen is the first candidate.
	Chosen string
	// Probability with which Chosen is taken in this context; 1 where no lot is drawn.
	// It speaks of new sessions: for one in play it is 1, also where a lot moved it.
	Probability float64
	Reason      string
	// Full is the share of their capacity that all CDNs which may take the session
	// use at least, by what they can serve: from 1 on, none has room. Ahead is the
	// same as forecast. 0 where one has no limits, or none may take it.
	Full, Ahead float64
	// NoneHealthy says that every CDN which may take the session fails: there is no
	// room to wait for, and it tries one that fails.
	NoneHealthy bool
	// Room is how many sessions of the session's region they can take now, RoomAll
	// those of any region; math.MaxInt32 without limits.
	Room, RoomAll int
	// Spills names the CDN that such sessions go to when the chosen one is full, where
	// that is forecast within the next tens of seconds; empty: it is not, or there is none.
	Spills string
	// Policy is the one applied, Version the version of its values.
	Policy  string
	Version int
}

// Policy is a compiled schemas.Policy. It is safe for concurrent use.
type Policy struct {
	s                          schemas.Policy
	score, eligible            cel.Program
	padFrom, padFactor         float64
	lossUSD, hysteresis, dwell float64
}

// Compile checks a policy and makes it ready to decide; expressions are compiled
// here, so one that is wrong is refused with its place marked.
func Compile(s schemas.Policy) (*Policy, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	p := &Policy{
		s: s, padFrom: cmp.Or(s.PadFrom, defaultPadFrom), padFactor: cmp.Or(s.PadFactor, defaultPadFactor),
		lossUSD: cmp.Or(s.LossUSDPerGB, defaultLossUSDPerGB), dwell: float64(cmp.Or(s.DwellSec, schemas.DefaultDwellSec)),
		hysteresis: s.Hysteresis,
	}
	if p.hysteresis == 0 {
		p.hysteresis = math.Inf(1)
		switch s.Kind {
		case schemas.PolicyQuality:
			p.hysteresis = defaultQualityGain
		case schemas.PolicyCost: // the same gain, in money
			p.hysteresis = defaultQualityGain * p.lossUSD
		}
	}
	if s.Score == "" && s.Eligible == "" {
		return p, nil
	}
	env, err := environment()
	if err != nil {
		return nil, fmt.Errorf("policy %s: %w", s.Name, err)
	}
	if s.Score != "" {
		if p.score, err = compile(env, "score", s.Score, cel.DoubleType); err != nil {
			return nil, fmt.Errorf("policy %s: %w", s.Name, err)
		}
	}
	if s.Eligible != "" {
		if p.eligible, err = compile(env, "eligible", s.Eligible, cel.BoolType); err != nil {
			return nil, fmt.Errorf("policy %s: %w", s.Name, err)
		}
	}
	return p, nil
}

// Parse reads and compiles an entry of the bucket policies.
func Parse(key string, value []byte) (*Policy, error) {
	var s schemas.Policy
	if err := schemas.UnmarshalStrict(value, &s); err != nil {
		return nil, err
	}
	if s.Name != key {
		return nil, fmt.Errorf("the policy under key %s is named %s", key, s.Name)
	}
	return Compile(s)
}

// Value reads and compiles an entry of the bucket policies and gives what it was
// compiled from: the check of who writes the bucket.
func Value(key string, value []byte) (*schemas.Policy, error) {
	p, err := Parse(key, value)
	if err != nil {
		return nil, err
	}
	return &p.s, nil
}

// Becomes counts the version of a policy that takes the place of old, or of nothing (nil).
func Becomes(old, next *schemas.Policy) error {
	next.Version = 1
	if old != nil {
		next.Version = old.Version + 1
	}
	return nil
}

var builtin = func() map[string]*Policy {
	m := map[string]*Policy{}
	for name, kind := range map[string]string{
		Affinity: Affinity, Balance: Balance, Weighted: Weighted, Quality: Quality, Cost: Cost, QualityFirst: Quality, CostAware: Cost,
	} {
		p, err := Compile(schemas.Policy{Name: name, Version: 1, Kind: kind})
		if err != nil {
			panic(err) // constants of this package
		}
		m[name] = p
	}
	return m
}()

// Builtin gives a built-in policy; nil if there is none of that name.
func Builtin(name string) *Policy { return builtin[name] }

// Builtins gives the names of the built-in policies, in order.
func Builtins() []string { return slices.Sorted(maps.Keys(builtin)) }

// Value gives what the policy was compiled from.
func (p *Policy) Value() schemas.Policy { return p.s }

// Decide applies the policy. The order of in.CDNs does not matter. Errors:
// ErrNoCDN, with what was excluded and why in the answer; *RunError where an
// expression fails.
func (p *Policy) Decide(in *Input) (Answer, error) {
	a := Answer{Probability: 1, Policy: p.s.Name, Version: p.s.Version}
	w := works.Get().(*work)
	defer w.free()
	open, excluded, err := p.open(in, w)
	if err != nil {
		return a, err
	}
	p.ranks(in, w)
	for i := range open {
		if err := p.rate(in, open[i]); err != nil {
			return a, err
		}
		open[i].tier = in.tier(open[i])
	}
	left := p.leave(in, open)
	slices.SortFunc(open, better)
	p.preferWarm(open)
	a.Spills = in.spills(open)
	drawn := cmp.Or(p.draw(in, open, &a), p.try(in, open))
	a.Candidates = make([]schemas.Candidate, 0, len(open)+len(excluded))
	for i := range open {
		c := open[i]
		a.Candidates = append(a.Candidates, schemas.Candidate{
			CDN: c.cdn.Name, Tier: c.tierName(), Score: told(c.score), Viewers: c.facts.Viewers,
			Load: toldShare(c.load), Harm: toldShare(c.facts.Harm()),
		})
	}
	a.Eligible = len(open)
	a.squeeze(open)
	a.Candidates = append(a.Candidates, excluded...)
	if len(open) == 0 {
		return a, ErrNoCDN
	}
	a.Chosen = open[0].cdn.Name
	if a.Reason = cmp.Or(drawn, left); a.Reason == "" || open[0].tier >= tierCurrent {
		a.Reason = p.reason(in, open, excluded)
	}
	return a, nil
}

// told is a score as answers and decisions tell it: storable, since JSON knows no
// infinity, and of the usual size to nine decimals, which are enough to tell and
// quick to write. What decides is not rounded.
func told(x float64) float64 {
	if size := math.Abs(x); size >= 1e-3 && size < 1e6 {
		return math.Round(x*1e9) / 1e9
	}
	return max(min(x, math.MaxFloat64), -math.MaxFloat64)
}

// toldShare is told of load and harm: to six decimals.
func toldShare(x float64) float64 {
	if x < 1e6 {
		return math.Round(x*1e6) / 1e6
	}
	return min(x, math.MaxFloat64)
}

// work is memory of a decision, which the next one uses again.
type work struct {
	all          []candidate
	open, ranked []*candidate
}

var works = sync.Pool{New: func() any { return &work{} }}

func (w *work) free() {
	clear(w.all)
	works.Put(w)
}

// open sorts out the CDNs that may not take the session.
func (p *Policy) open(in *Input, w *work) (open []*candidate, excluded []schemas.Candidate, err error) {
	w.all = slices.Grow(w.all[:0], len(in.CDNs))[:len(in.CDNs)]
	open = w.open[:0]
	for i := range in.CDNs {
		c := &w.all[i]
		*c = candidate{cdn: &in.CDNs[i], facts: in.facts(i)}
		if in.Region != "" && len(c.cdn.RegionCapacity) > 0 {
			c.here = c.cdn.RegionCapacity[in.Region]
		}
		c.load = in.load(c)
		here := c.cdn.Name == in.Current || c.cdn.Name == in.Pinned
		why := ""
		switch {
		case c.cdn.State == schemas.CDNDraining && !here:
			why = ExcludedDraining
		case c.cdn.State != schemas.CDNActive && c.cdn.State != schemas.CDNDraining:
			why = ExcludedOff
		default:
			if why, err = p.allowed(in, c); err != nil {
				return nil, nil, err
			}
		}
		if why == "" {
			open = append(open, c)
			continue
		}
		excluded = append(excluded, schemas.Candidate{CDN: c.cdn.Name, Viewers: c.facts.Viewers, Load: toldShare(c.load), Harm: toldShare(c.facts.Harm()), Excluded: why})
	}
	w.open = open
	slices.SortFunc(excluded, func(x, y schemas.Candidate) int { return cmp.Compare(x.CDN, y.CDN) })
	return open, excluded, nil
}

// tier places a candidate before its score does.
func (in *Input) tier(c *candidate) tier {
	switch {
	case c.cdn.Name == in.Pinned:
		return tierPinned
	case c.cdn.Name != in.Current && slices.Contains(in.Avoid, c.cdn.Name):
		return tierPenalised
	case c.facts.Failing && !(c.cdn.Name == in.Current && in.probes()):
		return tierFailing
	case c.cdn.Name == in.Current:
		return tierCurrent
	case c.load >= in.spillAt():
		return tierFull
	}
	return tierRoom
}

// probes says whether the session is one of those that try failing CDNs: where it
// is on one, it stays until its player leaves, or there would be nothing to learn.
func (in *Input) probes() bool {
	if in.Trying != "" && in.Trying == in.Current {
		return true
	}
	share := 0.0
	for i := range in.CDNs {
		if f := in.facts(i); f.Failing {
			share += max(f.Probe, 0)
		}
	}
	return share > 0 && lot(in.Session, "probe") < share
}

// leave takes the session's own CDN out of its tier where it must or should
// leave it, and says why: the CDN is over its capacity and the session's lot is
// among those to go, or another is better by more than the hysteresis. Neither
// moves a session that has moved within the dwell.
func (p *Policy) leave(in *Input, open []*candidate) string {
	i := slices.IndexFunc(open, func(c *candidate) bool { return c.tier == tierCurrent })
	if i < 0 || in.SinceMoveSec < p.dwell {
		return ""
	}
	cur := open[i]
	best := math.Inf(-1)
	room, untried := false, false
	for j := range open {
		if c := open[j]; c.tier == tierRoom {
			room, best = true, max(best, c.score)
			untried = untried || c.facts.Trial == 0
		}
	}
	switch {
	case !room:
		return "" // nowhere better to go
	case cur.facts.Shed > 0 && lot(in.Session, "shed "+strconv.FormatInt(in.Round, 10)) < cur.facts.Shed:
		cur.tier = tierFull
		return ReasonShed
	case cur.facts.Trial > 0 && untried && lot(in.Session, "trial "+strconv.FormatInt(in.Round, 10)) < cur.facts.Trial:
		for j := range open { // what others leave to try another tells nothing
			if c := open[j]; c.tier == tierRoom && c.facts.Trial > 0 {
				c.tier = tierFull
			}
		}
		cur.tier = tierFull
		return ReasonTrial
	case best > cur.score+p.hysteresis:
		cur.tier = tierRoom
		return ReasonBetter
	}
	return ""
}
