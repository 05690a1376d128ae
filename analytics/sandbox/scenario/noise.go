package scenario

import (
	"fmt"
	"math/rand/v2"

	"github.com/spillway-live/spillway/analytics/sandbox"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// Noise holds the load at the capacity of a CDN while viewers come and go: nobody
// may be moved to and fro.
func Noise(s Settings) (*Report, error) {
	s.Viewers, s.Routers = or(s.Viewers, 1000), or(s.Routers, 3)
	r := newReport("noise", "Load held at a threshold with noise: does any session move twice in ten minutes?", s)
	const seconds = 2400.0
	r.World = []string{
		fmt.Sprintf("about %d viewers at once, who stay 5 min on the mean, for %.0f min; the first CDN has room for exactly as many, the second for twice as many", s.Viewers, seconds/60),
		"every 40 s the audience swings by a twentieth to either side; the second CDN serves a little worse, so that scores are close, too",
	}
	var jobs []job
	policies := []*policy.Policy{policy.Builtin(policy.Affinity), policy.Builtin(policy.Balance), policy.Builtin(policy.Cost), policy.Builtin(policy.Quality),
		must(schemas.Policy{Name: "quality-eager", Kind: schemas.PolicyQuality, Hysteresis: 0.0005})}
	for _, p := range policies {
		c := &crowd{
			rnd: rand.New(rand.NewPCG(s.Seed, 3)), seconds: seconds, watchSec: 300, most: float64(s.Viewers) * 1.06, medianBps: 8e6, sigma: 0.6,
			places:   []sandbox.Place{{Region: "eu", ISP: "x", Share: 1}},
			audience: func(t float64) float64 { return float64(s.Viewers) * (1 + 0.05*float64(1-2*(int(t/40)%2))) },
		}
		jobs = append(jobs, job{p.Value().Name, sandbox.World{
			Seed: s.Seed, Seconds: seconds, Places: c.places, Viewers: c.next,
			CDNs: []sandbox.CDN{
				{CDN: schemas.CDN{Name: "a", State: schemas.CDNActive, CapacityViewers: s.Viewers, PricePerGBMicroUSD: 5000}, Paths: []sandbox.Path{{RTTSec: 0.03, Factor: 1}}},
				{CDN: schemas.CDN{Name: "b", State: schemas.CDNActive, Order: 1, CapacityViewers: 2 * s.Viewers, PricePerGBMicroUSD: 6000}, Paths: []sandbox.Path{{RTTSec: 0.04, Factor: 0.9}}},
			},
			Access:  sandbox.Access{Sigma: 0.5, Rho: 0.8, HoldSec: 5, FadeShare: 0.02, FadeFactor: 0.1},
			Players: []sandbox.Player{{SegmentSec: 2, Levels: []float64{0.8e6, 2.5e6}, StartBehind: 3}},
			Control: sandbox.Control{Policy: p, Routers: s.Routers, ShareSec: 0.25, ReportSec: 10, LagSec: 2, SteeringTTLSec: 10, Fallback: true, PublishCDN: "a"},
		}})
	}
	if err := r.run(jobs); err != nil {
		return nil, err
	}
	t := Table{Title: "By policy", Columns: []string{"policy", "sessions", "moves", "sessions moved twice in ten minutes", "highest load of a"}}
	for _, j := range jobs {
		x := r.Runs[j.name]
		t.Rows = append(t.Rows, []string{j.name, fmt.Sprint(x.Sessions), fmt.Sprint(x.Moves), fmt.Sprint(x.MovedTwice), fmt.Sprintf("%.3f", x.CDNs[0].WorstLoad)})
		r.Checks = append(r.Checks, Check{j.name + ": sessions moved twice in ten minutes", fmt.Sprint(x.MovedTwice), "none", x.MovedTwice == 0})
	}
	r.Tables = append(r.Tables, t)
	r.Charts["noise-affinity"] = viewersChart("Load at a threshold, policy affinity", r.Runs["affinity"], jobs[0].world.CDNs)
	return r, nil
}
