package scenario

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/spillway-live/spillway/analytics/sandbox"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/policy"
)

const week = 7 * 24 * 3600.0

// weekPlaces are three regions with two providers each.
var weekPlaces = []sandbox.Place{
	{Region: "eu", ISP: "e1", Share: 0.25}, {Region: "eu", ISP: "e2", Share: 0.20}, {Region: "us", ISP: "u1", Share: 0.20},
	{Region: "us", ISP: "u2", Share: 0.10}, {Region: "asia", ISP: "s1", Share: 0.15}, {Region: "asia", ISP: "s2", Share: 0.10},
}

// weekCDN is what a contract says and what the paths are like, place by place.
type weekCDN struct {
	price    int64 // micro-dollars a GB
	tier     int64 // the lower price, from half of the mean share of the week's volume on
	commit   float64
	capacity float64 // share of the highest audience
	factor   [6]float64
	rtt      [6]float64
}

// weekCDNs: two large ones that are good everywhere and dear, a middling one, two
// cheap ones that are weak in places.
var weekCDNs = []weekCDN{
	{20000, 16000, 0.06, 0.6, [6]float64{1, 1, 1, 1, .9, .9}, [6]float64{.02, .02, .02, .02, .04, .04}},
	{17000, 13000, 0.06, 0.6, [6]float64{.95, .9, 1, .9, .9, 1}, [6]float64{.02, .03, .02, .03, .04, .03}},
	{11000, 9000, 0, 0.5, [6]float64{.9, .9, .8, .8, .8, .6}, [6]float64{.03, .03, .04, .04, .06, .08}},
	{6000, 5000, 0.10, 0.35, [6]float64{1, .9, .35, .3, .3, .25}, [6]float64{.02, .03, .1, .1, .16, .16}},
	{5000, 4000, 0, 0.35, [6]float64{.5, .3, .95, .9, .3, .3}, [6]float64{.08, .1, .02, .03, .14, .14}},
}

// Week simulates a week's load on five CDNs with prices and brown-outs, under
// policies and under what one does without them.
func Week(s Settings) (*Report, error) {
	// 40 at once are 27,000 session-hours under four policies, minutes of CPU; 150
	// took longer than anybody waits for on a shared machine.
	s.Viewers, s.Routers = or(s.Viewers, 40), or(s.Routers, 1)
	r := newReport("week", "A week with daily peaks on five CDNs with tiers and commitments: what do policies save, and what do they spare?", s)
	r.World = []string{
		fmt.Sprintf("%d sessions at once on the mean, each standing for %.0f viewers in the bill; peaks each evening by region, higher at the weekend; sessions of 8 min on the mean", s.Viewers, stands),
		"six places (three regions, two providers each); accesses of 7 Mbit/s in the median (lognormal, deviation 0.7) that fade now and then; bitrates 0.4 to 4.5 Mbit/s",
		"five CDNs: two dear and good everywhere, one middling, two cheap and weak in places; each is in a brown-out (a tenth to a third of the rate, in one region) for about 20 min, eight times a week, and is down altogether for 5 min once",
		"static split: new sessions by lot in proportion to capacity; random: by lot evenly; both with steering, so that they leave a failing CDN, and without any estimate of quality",
		"the bill is for the week: tiers and commitments are the week's",
	}
	jobs := weekJobs(s)
	if err := r.run(jobs); err != nil {
		return nil, err
	}
	weekTables(r, jobs)
	return r, nil
}

// stands is how many viewers a simulated session stands for in the bill.
const stands = 400.0

func weekJobs(s Settings) []job {
	gb := float64(s.Viewers) * stands * week * 2.9e6 / 8 / 1e9 // about the week's volume
	cdns := weekList(s.Viewers, gb)
	episodes := weekEpisodes(s.Seed)
	split, even := map[string]float64{}, map[string]float64{}
	for i := range cdns {
		split[cdns[i].Name], even[cdns[i].Name] = weekCDNs[i].capacity, 1
	}
	policies := []*policy.Policy{
		must(schemas.Policy{Name: "static-split", Kind: schemas.PolicyWeighted, Weights: split}),
		must(schemas.Policy{Name: "random", Kind: schemas.PolicyWeighted, Weights: even}),
		policy.Builtin(policy.Cost), policy.Builtin(policy.Quality),
	}
	var jobs []job
	for _, p := range policies {
		c := &crowd{rnd: rand.New(rand.NewPCG(s.Seed, 6)), seconds: week, watchSec: 480, most: float64(s.Viewers) * 3, medianBps: 7e6, sigma: 0.7, places: weekPlaces,
			audience: func(t float64) float64 { return float64(s.Viewers) * weekShape(t) }}
		jobs = append(jobs, job{p.Value().Name, sandbox.World{
			Seed: s.Seed, Seconds: week, CDNs: cdns, Places: weekPlaces, Episodes: episodes, Viewers: c.next, SampleSec: 300, ViewersPerSession: stands,
			Access:  sandbox.Access{Sigma: 0.5, Rho: 0.85, HoldSec: 6, FadeShare: 0.02, FadeFactor: 0.08},
			Players: []sandbox.Player{{SegmentSec: 2, Levels: []float64{0.4e6, 0.8e6, 1.5e6, 2.7e6, 4.5e6}, StartBehind: 3}},
			Control: sandbox.Control{Policy: p, Routers: s.Routers, ShareSec: 0.25, ReportSec: 10, LagSec: 2, SteeringTTLSec: 20, Fallback: true},
		}})
	}
	return jobs
}

func weekTables(r *Report, jobs []job) {
	t := Table{Title: "By policy", Columns: []string{"policy", "cost", "USD per TB", "stall ratio", "stalled hours", "first screen p95", "start failures", "mean bitrate", "moves"}}
	g := Table{Title: "Volume, TB", Columns: []string{"policy"}}
	for _, c := range jobs[0].world.CDNs {
		g.Columns = append(g.Columns, c.Name)
	}
	for _, j := range jobs {
		x := r.Runs[j.name]
		gb := 0.0
		row := []string{j.name}
		for _, c := range x.CDNs {
			gb += c.GB
			row = append(row, fmt.Sprintf("%.0f", c.GB/1000))
		}
		g.Rows = append(g.Rows, row)
		t.Rows = append(t.Rows, []string{j.name, fmt.Sprintf("%.0f USD", x.CostUSD), fmt.Sprintf("%.2f", x.CostUSD/gb*1000), fmt.Sprintf("%.3f %%", 100*x.StallRatio),
			fmt.Sprintf("%.1f", x.StalledSec/3600), sec(x.FirstScreenP95Sec), fmt.Sprintf("%.3f %%", 100*float64(x.StartFails)/float64(x.Attempts)), fmt.Sprintf("%.2f Mbit/s", x.MeanBps/1e6), fmt.Sprint(x.Moves)})
	}
	r.Tables = append(r.Tables, t, g)
	static, random, cost, quality := r.Runs["static-split"], r.Runs["random"], r.Runs["cost"], r.Runs["quality"]
	saved, spared := 1-cost.CostUSD/static.CostUSD, 1-quality.StalledSec/random.StalledSec
	r.Checks = append(r.Checks,
		Check{"cost-aware against static split: cost", fmt.Sprintf("%.1f %% less", 100*saved), "at least 25 % less", saved >= 0.25},
		Check{"cost-aware against static split: stall ratio", fmt.Sprintf("%.3f %% against %.3f %%", 100*cost.StallRatio, 100*static.StallRatio), "no worse", cost.StallRatio <= static.StallRatio},
		Check{"quality-first against random choice: stalled time", fmt.Sprintf("%.1f %% less", 100*spared), "at least 25 % less", spared >= 0.25})
	for _, name := range []string{"static-split", "cost", "quality"} {
		c := viewersChart("A week, policy "+name, r.Runs[name], jobs[0].world.CDNs)
		c.XLabel = "days"
		c.YLabel = "simulated sessions"
		for i := range c.Lines {
			for k := range c.Lines[i].X {
				c.Lines[i].X[k] /= 86400
			}
		}
		r.Charts["week-"+name] = c
	}
}

// weekShape is the audience as a multiple of its mean: low at night, an evening
// peak that is higher at the weekend, and a match on Wednesday.
func weekShape(t float64) float64 {
	hour := math.Mod(t/3600, 24)
	day := int(t / 86400)
	bump := func(at, width float64) float64 { d := (hour - at) / width; return math.Exp(-d * d / 2) }
	x := 0.35 + 0.55*bump(13, 3) + 1.45*bump(20.5, 2)
	if day >= 5 {
		x *= 1.2
	}
	if day == 2 {
		x += 0.8 * bump(20, 0.8)
	}
	return x / 0.869 // so that the mean is 1
}

func weekList(viewers int, gb float64) []sandbox.CDN {
	var out []sandbox.CDN
	for i, x := range weekCDNs {
		room := int(x.capacity * 2.6 * float64(viewers))
		c := sandbox.CDN{CDN: schemas.CDN{
			Name: string(rune('a' + i)), State: schemas.CDNActive, Order: i, CapacityViewers: room, CapacityBps: int64(float64(room) * 4.5e6),
			PricePerGBMicroUSD: x.price, PriceTiers: []schemas.PriceTier{{FromGB: int64(gb / 10), PerGBMicroUSD: x.tier}}, CommitGB: int64(x.commit * gb),
		}, Spread: 0.3}
		for p := range weekPlaces {
			c.Paths = append(c.Paths, sandbox.Path{RTTSec: x.rtt[p], Factor: x.factor[p], ErrorRatio: 0.0005})
		}
		out = append(out, c)
	}
	return out
}

// weekEpisodes draws the brown-outs and outages.
func weekEpisodes(seed uint64) []sandbox.Episode {
	rnd := rand.New(rand.NewPCG(seed, 7))
	var out []sandbox.Episode
	for i := range weekCDNs {
		name := string(rune('a' + i))
		for range 8 {
			from := rnd.Float64() * week
			out = append(out, sandbox.Episode{FromSec: from, ToSec: from + 300 + rnd.ExpFloat64()*900, CDN: name, Region: []string{"eu", "us", "asia"}[rnd.IntN(3)],
				Factor: 0.1 + 0.2*rnd.Float64(), ErrorRatio: 0.02 * rnd.Float64()})
		}
		from := rnd.Float64() * week
		out = append(out, sandbox.Episode{FromSec: from, ToSec: from + 300, CDN: name, Down: true})
	}
	return out
}
