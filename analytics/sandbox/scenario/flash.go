package scenario

import (
	"fmt"
	"math/rand/v2"

	"github.com/spillway-live/spillway/analytics/sandbox"
	"github.com/spillway-live/spillway/analytics/sandbox/plot"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// flashLevels is what a star's stream is offered in, bit/s.
var flashLevels = []float64{0.8e6, 1.6e6, 3e6}

// Flash lets a star go live: from nobody to Settings.Viewers in a minute, on
// CDNs that have room for a fifth more, under four built-in policies.
func Flash(s Settings) (*Report, error) {
	s.Viewers, s.Routers = or(s.Viewers, 100_000), or(s.Routers, 10)
	r := newReport("flash", fmt.Sprintf("0 to %d viewers in a minute over %d routers: is any CDN past its capacity for longer than a control interval of 1 s?", s.Viewers, s.Routers), s)
	cdns := flashCDNs(s.Viewers)
	r.World = []string{
		fmt.Sprintf("five CDNs with room for %d viewers in all, in viewers and in bandwidth (viewers x %.1f Mbit/s); the publisher is on the first", capacity(cdns), flashLevels[2]/1e6),
		"viewers come evenly over 60 s and stay; bitrates 0.8, 1.6, 3 Mbit/s, segments of 2 s; accesses of 10 Mbit/s in the median (lognormal, deviation 0.6)",
		"routers hear each other's decisions every 250 ms, reports 2 s late; steering TTL 10 s",
	}
	var jobs []job
	for _, name := range []string{policy.Affinity, policy.Balance, policy.Cost, policy.Quality} {
		jobs = append(jobs, job{name, flashWorld(s, cdns, policy.Builtin(name))})
	}
	if err := r.run(jobs); err != nil {
		return nil, err
	}
	t := Table{Title: "By policy", Columns: []string{"policy", "highest load", "s above capacity", "highest demand", "s above bandwidth", "moved", "moved twice", "turned away", "stall ratio", "first screen p95"}}
	for _, j := range jobs {
		x := r.Runs[j.name]
		var load, over, demand, overDemand float64
		for _, c := range x.CDNs {
			load, over, demand, overDemand = max(load, c.WorstLoad), max(over, c.OverSec), max(demand, c.WorstDemand), max(overDemand, c.OverDemandSec)
		}
		t.Rows = append(t.Rows, []string{j.name, fmt.Sprintf("%.3f", load), fmt.Sprintf("%.2f", over), fmt.Sprintf("%.3f", demand), fmt.Sprintf("%.2f", overDemand),
			fmt.Sprint(x.Moves), fmt.Sprint(x.MovedTwice), fmt.Sprint(x.Refused), pct(x.StallRatio), fmt.Sprintf("%.2f s", x.FirstScreenP95Sec)})
		r.Checks = append(r.Checks,
			Check{j.name + ": longest time of a CDN above its capacity in viewers", fmt.Sprintf("%.2f s", over), "at most 1 s", over <= 1},
			Check{j.name + ": longest time of a CDN asked for more than its bandwidth", fmt.Sprintf("%.2f s", overDemand), "at most 1 s", overDemand <= 1})
		r.Charts["flash-"+j.name] = viewersChart("Flash crowd, policy "+j.name, x, cdns)
	}
	r.Tables = append(r.Tables, t)
	return r, nil
}

func capacity(cdns []sandbox.CDN) (n int) {
	for i := range cdns {
		n += cdns[i].CapacityViewers
	}
	return n
}

// flashCDNs have room for a fifth more than the crowd.
func flashCDNs(viewers int) []sandbox.CDN {
	var out []sandbox.CDN
	for i, share := range []float64{0.30, 0.30, 0.25, 0.20, 0.15} {
		n := int(share * float64(viewers))
		out = append(out, sandbox.CDN{
			CDN: schemas.CDN{Name: string(rune('a' + i)), State: schemas.CDNActive, Order: i, CapacityViewers: n, CapacityBps: int64(float64(n) * flashLevels[2]),
				PricePerGBMicroUSD: int64(4000 + 2000*i)},
			Paths: []sandbox.Path{{RTTSec: 0.02 + 0.005*float64(i), Factor: 1}, {RTTSec: 0.05, Factor: 0.9}},
		})
	}
	return out
}

func flashWorld(s Settings, cdns []sandbox.CDN, p *policy.Policy) sandbox.World {
	rnd := rand.New(rand.NewPCG(s.Seed, 1))
	n := 0
	return sandbox.World{
		Seed: s.Seed, Seconds: 150, CDNs: cdns, SampleSec: 0.25,
		Places:  []sandbox.Place{{Region: "eu", ISP: "x", Share: 0.7}, {Region: "us", ISP: "y", Share: 0.3}},
		Access:  sandbox.Access{Sigma: 0.3, Rho: 0.8, HoldSec: 5},
		Players: []sandbox.Player{{SegmentSec: 2, Levels: flashLevels, StartBehind: 3}},
		Control: sandbox.Control{Policy: p, Routers: s.Routers, ShareSec: 0.25, ReportSec: 10, LagSec: 2, SteeringTTLSec: 10, Fallback: true, PublishCDN: "a"},
		Viewers: func() (sandbox.Viewer, bool) {
			if n++; n > s.Viewers {
				return sandbox.Viewer{}, false
			}
			place := 0
			if rnd.Float64() < 0.3 {
				place = 1
			}
			return sandbox.Viewer{
				AtSec: 60 * (float64(n) - rnd.Float64()) / float64(s.Viewers) * 0.999999, WatchSec: 1e6, Place: place,
				MedianBps: lognormal(rnd, 10e6, 0.6), Group: uint8(rnd.IntN(16)), Seed: rnd.Uint64(),
			}, true
		},
	}
}

// viewersChart shows viewers by CDN, with the capacities dashed.
func viewersChart(title string, x *sandbox.Result, cdns []sandbox.CDN) *plot.Chart {
	c := &plot.Chart{Title: title, XLabel: "seconds", YLabel: "viewers"}
	for i := range cdns {
		l := plot.Line{Name: "CDN " + cdns[i].Name, Color: i}
		for _, s := range x.Series {
			l.X, l.Y = append(l.X, s.AtSec), append(l.Y, float64(s.Viewers[i]))
		}
		c.Lines = append(c.Lines, l)
	}
	end := x.Series[len(x.Series)-1].AtSec
	for i := range cdns {
		if n := float64(cdns[i].CapacityViewers); n > 0 {
			c.Lines = append(c.Lines, plot.Line{X: []float64{0, end}, Y: []float64{n, n}, Dashed: true, Color: i})
		}
	}
	return c
}
