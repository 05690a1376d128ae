package validate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/spillway-live/spillway/analytics/sandbox"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/policy"
)

func median(x []float64) float64 {
	if len(x) == 0 {
		return 0
	}
	x = slices.Sorted(slices.Values(x))
	return x[len(x)/2]
}

func between(r *rand.Rand, lo, hi float64) float64 { return lo + (hi-lo)*r.Float64() }

// truth draws a world. Its Viewers gives one template, whose TraceSec is the
// deviation of accesses between viewers; record makes viewers of it.
func truth(r *rand.Rand, s *Settings) (sandbox.World, string) {
	ladders := [][]float64{{0.4e6, 0.8e6, 1.5e6, 3e6}, {0.8e6, 2e6, 4.5e6}, {1.2e6}, {0.5e6, 1e6, 2e6, 4e6, 8e6}}
	w := sandbox.World{
		Seconds: recordSec + 600, SampleSec: 60, SizeSigma: between(r, 0, 0.3),
		Access:  sandbox.Access{Sigma: between(r, 0.3, 0.9), Rho: between(r, 0.4, 0.95), HoldSec: between(r, 2, 15), FadeShare: between(r, 0, 0.05), FadeFactor: between(r, 0.02, 0.3)},
		Players: []sandbox.Player{{SegmentSec: []float64{1, 2, 4}[r.IntN(3)], Levels: ladders[r.IntN(len(ladders))], StartBehind: 3}},
		Control: sandbox.Control{Routers: 1, ShareSec: 0.25, ReportSec: 10, LagSec: 2, SteeringTTLSec: 10, Fallback: true},
	}
	places := 2 + r.IntN(2)
	for i := range places {
		w.Places = append(w.Places, sandbox.Place{Region: []string{"eu", "us", "asia"}[i], ISP: "p", Share: 1 / float64(places)})
	}
	for i := range 3 {
		c := sandbox.CDN{CDN: schemas.CDN{Name: string(rune('a' + i)), State: schemas.CDNActive, Order: i, PricePerGBMicroUSD: int64(between(r, 4000, 20000))}, Spread: between(r, 0.05, 0.4)}
		for range places {
			c.Paths = append(c.Paths, sandbox.Path{RTTSec: between(r, 0.02, 0.1), Factor: between(r, 0.4, 1), ErrorRatio: between(r, 0, 0.005)})
		}
		w.CDNs = append(w.CDNs, c)
	}
	if r.IntN(2) == 0 {
		from := between(r, 0, recordSec)
		w.Episodes = append(w.Episodes, sandbox.Episode{FromSec: from, ToSec: from + between(r, 60, 240), CDN: "a", Factor: between(r, 0.15, 0.5)})
	}
	// Wide enough for the lowest bitrate, mostly: a stall ratio of a few per cent.
	base := sandbox.Viewer{MedianBps: w.Players[0].Levels[0] * between(r, 3, 6), TraceSec: between(r, 0.3, 0.7)}
	what := fmt.Sprintf("accesses with deviation %.2f for %.0f s", w.Access.Sigma, w.Access.HoldSec)
	if len(s.Traces) > 0 && r.IntN(2) == 0 {
		w.Traces, base.Trace, what = s.Traces, 1, "real traces"
		base.MedianBps *= 1.5
	}
	w.Viewers = func() (sandbox.Viewer, bool) { return base, true }
	return w, what
}

func compile(p schemas.Policy) *policy.Policy {
	p.Version = 1
	c, err := policy.Compile(p)
	if err != nil {
		panic(err) // made of constants
	}
	return c
}

// weights draws a policy that sends everybody by lot, each CDN at least a share.
func weights(r *rand.Rand, cdns []sandbox.CDN, least float64) *policy.Policy {
	m := map[string]float64{}
	for i := range cdns {
		m[cdns[i].Name] = least + math.Pow(r.Float64(), 2)
	}
	return compile(schemas.Policy{Name: "lot", Kind: schemas.PolicyWeighted, Weights: m})
}

// otherPolicy draws what is tried.
func otherPolicy(r *rand.Rand, cdns []sandbox.CDN) (*policy.Policy, string) {
	switch r.IntN(4) {
	case 0:
		return policy.Builtin(policy.Quality), "policy quality"
	case 1:
		return policy.Builtin(policy.Cost), "policy cost"
	case 2:
		c := cdns[r.IntN(len(cdns))].Name
		return compile(schemas.Policy{Name: "one", Kind: schemas.PolicyWeighted, Weights: map[string]float64{c: 1}}), "all on CDN " + c
	}
	return weights(r, cdns, 0), "policy with other weights"
}

// otherPlayer draws a setting that is tried.
func otherPlayer(r *rand.Rand, p sandbox.Player) (sandbox.Player, string) {
	switch r.IntN(4) {
	case 0:
		p.StartBehind = 2
		return p, "player starts two segments behind"
	case 1:
		p.StartBehind = 5
		return p, "player starts five segments behind"
	case 2:
		p.StartSec = 2 * p.SegmentSec
		return p, "player starts on a filled buffer"
	}
	p.CatchUp, p.TargetLatencySec = 0.05, 3*p.SegmentSec
	return p, "player catches up"
}

// Normalise gives traces a mean of 1, leaving out those without any rate, so that
// each case may choose how fast they are.
func Normalise(traces [][]float64) [][]float64 {
	var out [][]float64
	for _, t := range traces {
		sum := 0.0
		for _, x := range t {
			sum += x
		}
		if len(t) < 60 || sum <= 0 {
			continue
		}
		n := make([]float64, len(t))
		for i, x := range t {
			n[i] = x / sum * float64(len(t))
		}
		out = append(out, n)
	}
	return out
}
