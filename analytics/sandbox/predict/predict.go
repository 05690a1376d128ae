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
	// Progress is told of the part that is done now and then; nil: nobody. False stops the prediction: sandbox.ErrStopped.
	Progress func(part float64) bool
}

// ModelError is what the model counts for, beyond sampling, as a standard error of
// the logarithm of a stall ratio. `spillway sandbox --validate` finds it to be off by
// 0.10, with tails that are heavier than a normal's: one case in ten by more than
// 0.25. With 0.135 the interval holds those, too, and is no wider than it must be.
const ModelError = 0.135

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
	m, err := fit(rec, s.Seed, newMeter(s.Progress, fitWork(len(rec.Sessions))+2*len(rec.Sessions)))
	if err != nil {
		return nil, err
	}
	return m.predict(c, s)
}

// maxReplayError is by how much, as a logarithm, the stall ratio of the recorded sessions played again may miss what was
// recorded. Fitting makes it small; where it cannot, something stalled viewers that the model does not have, or the
// player is not as the recording says.
const maxReplayError = 0.25

// replays says why the model does not give its own recording back.
func (m *model) replays(base []totals) error {
	was, again := ratio(m.seen(), stallRatio), ratio(base, stallRatio)
	if again > 0 && math.Abs(math.Log(again/was)) <= maxReplayError {
		return nil
	}
	return refuse("replay of the recorded sessions stalls for %.2f %% of their time, recorded is %.2f %%: something stalled them that the simulator does not know, such as a CDN at a limit that the registry does not have, or the player is another than said (segments, bitrates, media before the first frame)", 100*again, 100*was)
}

func (m *model) predict(c Candidate, s Settings) (*Prediction, error) {
	base, was, err := m.run(m.asRecorded())
	if err != nil {
		return nil, err
	}
	if err := m.replays(base); err != nil {
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
	p.CostUSDPerGB = m.cost(was, res, b)
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
	work := newMeter(s.Progress, 2*fitWork(len(rec.Sessions)/2)+2*len(rec.Sessions))
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
		m, err := fit(&a, s.Seed, work)
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
