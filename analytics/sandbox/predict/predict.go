package predict

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/spillway-live/spillway/analytics/sandbox"
	"github.com/spillway-live/spillway/analytics/stats"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// Candidate is what to try: a policy, a player, or both; nil is as recorded.
type Candidate struct {
	Policy *policy.Policy
	Player *sandbox.Player
	// OverflowAt is the threshold for overflow tried with Policy (experiments'
	// overflow_at); 0: as the registry says.
	OverflowAt float64
	// Sessions is how many the candidate will be judged on; 0: as many as were
	// recorded. Fewer widen the intervals: their own luck is part of what will be seen.
	Sessions int
}

// Settings of a prediction.
type Settings struct {
	Seed uint64
	// ModelError is the standard error of the model itself, on the logarithm of the
	// ratio of candidate to recorded; 0: ModelError as validated.
	ModelError float64
}

// ModelError is what `spillway sandbox --validate` found the model to be off by,
// beyond sampling, as a standard error of the logarithm of a stall ratio.
const ModelError = 0.11

// Interval is a prediction with its 95 % interval.
type Interval struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
	// Recorded is what the recording has, for comparison.
	Recorded float64 `json:"recorded"`
}

// HalfWidth is half the interval's width as a share of the value.
func (i Interval) HalfWidth() float64 { return (i.High - i.Low) / 2 / i.Value }

// Prediction is the answer.
type Prediction struct {
	StallRatio     Interval `json:"stall_ratio"`
	FirstScreenSec Interval `json:"first_screen_s"`
	LatencySec     Interval `json:"latency_s"`
	// CostUSDPerGB at the volumes of the recording, tiers and commitments as of a
	// whole month of such traffic.
	CostUSDPerGB Interval `json:"cost_usd_per_gb"`
	// Share of new sessions by CDN, Unknown the share sent where hardly anybody was recorded.
	Share   map[string]float64 `json:"share"`
	Unknown float64            `json:"unknown"`
	// OffPolicy is the stall ratio from logged probabilities alone, without the
	// simulator; OffPolicyWhy says why there is none.
	OffPolicy    *Interval `json:"off_policy_stall_ratio,omitempty"`
	OffPolicyWhy string    `json:"off_policy_why,omitempty"`
	// Sigma and HoldSec are how restless accesses had to be to stall as recorded.
	Sigma    float64 `json:"sigma"`
	HoldSec  float64 `json:"hold_s"`
	Sessions int     `json:"sessions"`
	Hours    float64 `json:"simulated_session_hours"`
}

// Predict answers what a candidate would do. Errors: *Refusal where the recording
// cannot say.
func Predict(rec *Recording, c Candidate, s Settings) (*Prediction, error) {
	m, err := fit(rec, s.Seed)
	if err != nil {
		return nil, err
	}
	return m.predict(c, s)
}

func (m *model) predict(c Candidate, s Settings) (*Prediction, error) {
	base, was, err := m.run(m.asRecorded())
	if err != nil {
		return nil, err
	}
	q := m.asRecorded()
	if q.policy = c.Policy; q.policy != nil {
		q.ttlSec = m.rec.SteeringTTLSec
	}
	if c.OverflowAt > 0 && c.Policy == nil {
		return nil, refuse("a threshold for overflow changes what a policy does: name the policy, too")
	}
	q.overflowAt = c.OverflowAt
	if c.Player != nil {
		q.player = *c.Player
	}
	cand, res, err := m.run(q)
	if err != nil {
		return nil, err
	}
	p := &Prediction{Sigma: m.sigma, HoldSec: m.hold, Sessions: len(m.viewers), Hours: m.fitHours + was.Hours + res.Hours, Share: map[string]float64{}}
	for i := range cand {
		p.Share[m.cdns[cand[i].cdn].Name] += 1 / float64(len(cand))
		if m.known[cand[i].cdn][m.viewers[i].Place] < minCell {
			p.Unknown += 1 / float64(len(cand))
		}
	}
	if c.Policy != nil && p.Unknown > maxUnknown {
		return nil, refuse("%.0f %% of the sessions would go to CDNs that hardly anybody in their place was on; let a policy with explore record first", 100*p.Unknown)
	}
	b := bootstrap{seen: m.seen(), base: base, cand: cand, units: m.units(), arm: cmp.Or(c.Sessions, len(cand)),
		model: cmp.Or(s.ModelError, ModelError), rnd: rand.New(rand.NewPCG(s.Seed, 99))}
	p.StallRatio, p.FirstScreenSec, p.LatencySec = b.interval(stallRatio), b.interval(firstScreen), b.interval(latency)
	p.CostUSDPerGB = m.cost(base, cand, b.interval(volume))
	if c.Policy != nil && c.Player == nil {
		p.OffPolicy, p.OffPolicyWhy = m.offPolicy(cand)
	}
	return p, nil
}

// units numbers the viewers: sessions of one belong together.
func (m *model) units() [][]int {
	at := map[string]int{}
	var out [][]int
	for i, s := range m.of {
		name := s.Viewer
		if name == "" {
			name = "\x00" + strconv.Itoa(i)
		}
		k, ok := at[name]
		if !ok {
			k = len(out)
			at[name] = k
			out = append(out, nil)
		}
		out[k] = append(out[k], i)
	}
	return out
}

// bootstrap resamples viewers. The estimate is what was recorded, times what the
// simulator says the candidate changes: an error that both simulations share drops out.
type bootstrap struct {
	seen, base, cand []totals
	units            [][]int
	arm              int
	model            float64
	rnd              *rand.Rand
}

const rounds = 400

// unitSums are numerator and denominator of a metric as seen, as simulated, and
// with the candidate.
type unitSums [6]float64

func (s *unitSums) add(o *unitSums) {
	for k := range s {
		s[k] += o[k]
	}
}

func (s *unitSums) ratio(k int) float64 {
	if s[2*k+1] == 0 {
		return 0
	}
	return s[2*k] / s[2*k+1]
}

// sums of a metric by viewer, and over all.
func (b *bootstrap) sums(x metric) (units []unitSums, all unitSums) {
	units = make([]unitSums, len(b.units))
	for u, sessions := range b.units {
		for _, i := range sessions {
			for k, list := range [][]totals{b.seen, b.base, b.cand} {
				n, d := x.of(&list[i])
				units[u][2*k] += n
				units[u][2*k+1] += d
			}
		}
		all.add(&units[u])
	}
	return units, all
}

func (b *bootstrap) interval(x metric) Interval {
	units, at := b.sums(x)
	recorded, from, to := at.ratio(0), at.ratio(1), at.ratio(2)
	out := Interval{Recorded: recorded, Value: recorded * to / from}
	if !(from > 0 && to > 0) {
		out.Value, out.Low, out.High = to, 0, math.Inf(1)
		if recorded == 0 {
			out.High = max(to*3, 0)
		}
		return out
	}
	var logs, arms []float64
	for range rounds {
		var s unitSums
		for range units {
			s.add(&units[b.rnd.IntN(len(units))])
		}
		if s[0] > 0 && s[2] > 0 && s[4] > 0 {
			logs = append(logs, math.Log(s[0]/s[1]*(s[4]/s[5])/(s[2]/s[3])))
			arms = append(arms, math.Log(s[4]/s[5]))
		}
	}
	// The arm that will be seen has its own luck: that of as many sessions.
	own := variance(arms) * float64(len(b.cand)) / float64(b.arm)
	se := math.Sqrt(variance(logs) + own + b.model*b.model)
	out.Low, out.High = out.Value*math.Exp(-1.96*se), out.Value*math.Exp(1.96*se)
	return out
}

func variance(x []float64) float64 {
	if len(x) < 2 {
		return 1
	}
	mean, v := 0.0, 0.0
	for _, y := range x {
		mean += y / float64(len(x))
	}
	for _, y := range x {
		v += (y - mean) * (y - mean) / float64(len(x)-1)
	}
	return v
}

// cost is a month's bill by the gigabyte if all time were like the recording.
func (m *model) cost(base, cand []totals, gb Interval) Interval {
	month := 30 * 86400 / m.seconds
	perGB := func(list []totals) float64 {
		by := make([]float64, len(m.cdns))
		all := 0.0
		for i := range list {
			by[list[i].cdn] += list[i].bytes / 1e9 * month
			all += list[i].bytes / 1e9 * month
		}
		usd := 0.0
		for i := range by {
			usd += sandbox.Bill(&m.cdns[i].CDN, by[i])
		}
		return usd / max(all, 1e-9)
	}
	out := Interval{Recorded: perGB(m.seen()), Value: perGB(cand)}
	half := 0.0
	if gb.Value > 0 {
		half = (gb.High - gb.Low) / 2 / gb.Value
	}
	out.Low, out.High = out.Value*(1-half), out.Value*(1+half)
	_ = base
	return out
}

// offPolicy evaluates the candidate on the log alone: sessions whose recorded CDN
// is the one the candidate takes, by the inverse of their logged probability. The
// candidate's choice is a draw of its own, so its indicator stands for its probability.
func (m *model) offPolicy(cand []totals) (*Interval, string) {
	var log []stats.RatioDecision
	var plain []stats.Decision
	sum, square := 0.0, 0.0
	for i, s := range m.of {
		if s.Probability <= 0 {
			return nil, "the log does not say with which probability every CDN was chosen"
		}
		target := 0.0
		if m.cdns[cand[i].cdn].Name == s.CDN {
			target = 1
		}
		unit := s.Viewer
		if unit == "" {
			unit = strconv.Itoa(i)
		}
		log = append(log, stats.RatioDecision{Unit: unit, Propensity: s.Probability, Target: target, Num: s.StalledSec, Den: s.PlayedSec + s.StalledSec})
		plain = append(plain, stats.Decision{Unit: unit, Propensity: s.Probability, Target: target, Reward: s.StalledSec})
		w := target / s.Probability
		sum, square = sum+w, square+w*w
	}
	x, err := stats.OPE{}.Evaluate(plain)
	if err == nil {
		err = x.Supports(0)
	}
	if err != nil {
		return nil, err.Error()
	}
	e, err := stats.EvaluateRatio(log)
	if err != nil {
		return nil, err.Error()
	}
	se := math.Sqrt(e.Var)
	return &Interval{Value: e.Value, Low: max(e.Value-1.96*se, 0), High: e.Value + 1.96*se, Recorded: ratio(m.seen(), stallRatio)}, ""
}

// SelfCheck fits one half of the sessions and predicts the other, each where it
// was recorded, and gives the error of the stall ratio, as logarithms of predicted
// to seen: what of a prediction's error this recording shows by itself.
func SelfCheck(rec *Recording, s Settings) (logErrors []float64, err error) {
	for half := range 2 {
		a, b := *rec, *rec
		a.Sessions, b.Sessions = nil, nil
		for i := range rec.Sessions {
			if i%2 == half {
				a.Sessions = append(a.Sessions, rec.Sessions[i])
			} else {
				b.Sessions = append(b.Sessions, rec.Sessions[i])
			}
		}
		m, err := fit(&a, s.Seed)
		if err != nil {
			return nil, fmt.Errorf("half of the recording: %w", err)
		}
		// The other half's viewers on the first half's paths and restlessness.
		o := *m
		o.rec, o.viewers, o.of = &b, nil, nil
		if o.strange(&b) {
			return nil, refuse("a half of the recording has places that the other lacks")
		}
		factors := make([][]float64, len(m.cdns))
		for c := range m.cdns {
			for p := range m.places {
				factors[c] = append(factors[c], m.cdns[c].Paths[p].Factor)
			}
		}
		o.people(factors)
		o.shrink()
		mine, _, err := m.run(m.asRecorded())
		if err != nil {
			return nil, err
		}
		theirs, _, err := o.run(o.asRecorded())
		if err != nil {
			return nil, err
		}
		predicted := ratio(m.seen(), stallRatio) * ratio(theirs, stallRatio) / ratio(mine, stallRatio)
		logErrors = append(logErrors, math.Log(predicted/ratio(o.seen(), stallRatio)))
	}
	return logErrors, nil
}

func (m *model) strange(r *Recording) bool {
	return slices.ContainsFunc(r.Sessions, func(s Session) bool { _, ok := m.index[place{s.Region, s.ISP}]; return !ok })
}
