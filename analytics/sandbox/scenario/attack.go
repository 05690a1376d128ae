package scenario

import (
	"fmt"
	"math/rand/v2"

	"github.com/spillway-live/spillway/analytics/sandbox"
	"github.com/spillway-live/spillway/analytics/sandbox/plot"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// attackBound is by how much liars of up to attackGroups of the 16 address groups may change
// a CDN's share of the honest viewers.
const attackBound = 0.10

// attackGroups is what health leaves out on either side however few report. Where many do it leaves out
// six, which is shown and not held against a bound: there seeds differ by 16 points.
const attackGroups = 4

const attackFrom, attackTo, attackEnd = 600.0, 1800.0, 2400.0

// attacks are liars for each honest one, from a number of address groups.
var attacks = []struct {
	name   string
	share  float64 // liars per honest viewer
	groups int     // of 16
}{
	{"nobody lies", 0, 0},
	{"1 liar in 10, from 1 group of 16", 0.1, 1},
	{"as many liars as viewers, from 2 groups", 1, 2},
	{"as many liars as viewers, from 4 groups", 1, 4},
	{"as many liars as viewers, from 6 groups", 1, 6},
	{"as many liars as viewers, from 8 groups", 1, 8},
	{"1 liar in 20, from everywhere", 0.05, 16},
	{"1 liar in 10, from everywhere", 0.1, 16},
	{"1 liar in 5, from everywhere", 0.2, 16},
}

// Attack lets a botnet report that the best CDN is bad, while it is not, and
// measures where the honest viewers are sent.
func Attack(s Settings) (*Report, error) {
	s.Viewers, s.Routers = or(s.Viewers, 1000), or(s.Routers, 3)
	r := newReport("attack", "A botnet reports one CDN as bad: does routing stay within bounds?", s)
	r.World = []string{
		fmt.Sprintf("%d honest viewers at once, who stay 3 min on the mean; CDN a serves best, b and c give half of the rate; policy quality", s.Viewers),
		fmt.Sprintf("from %.0f to %.0f s liars open sessions as viewers do, and report that they stall all the time, and fail to start, on CDN a", attackFrom, attackTo),
		fmt.Sprintf("bound: liars of at most %d of 16 address groups take at most %.0f points off the accused CDN's share of the honest viewers", attackGroups, 100*attackBound),
	}
	var jobs []job
	share := make([][2]float64, len(attacks)) // of honest sessions begun under attack: on a, all
	for i, a := range attacks {
		j := job{a.name, attackWorld(s, a.share, a.groups)}
		j.world.Each = underAttack(&share[i])
		jobs = append(jobs, j)
	}
	if err := r.run(jobs); err != nil {
		return nil, err
	}
	of := func(i int) float64 { return share[i][0] / max(share[i][1], 1) }
	t := Table{Title: "Honest viewers, while the attack lasts", Columns: []string{"attack", "new sessions on the accused CDN", "moves", "stall ratio"}}
	c := &plot.Chart{Title: "Sessions on the accused CDN (liars stay where they are sent)", XLabel: "seconds", YLabel: "share of all sessions, %", Marks: map[string]float64{"lies": attackFrom, "end": attackTo}}
	for i, a := range attacks {
		x := r.Runs[a.name]
		t.Rows = append(t.Rows, []string{a.name, pct(of(i)), fmt.Sprint(x.Moves), pct(x.StallRatio)})
		if a.groups > 0 && a.groups <= attackGroups {
			d := of(i) - of(0)
			r.Checks = append(r.Checks, Check{a.name + ": change of the accused CDN's share", fmt.Sprintf("%+.1f points", 100*d), fmt.Sprintf("at most -%.0f", 100*attackBound), d >= -attackBound})
		}
		l := plot.Line{Name: fmt.Sprintf("%d groups", a.groups), Color: -1}
		for k := 0; k+10 <= len(x.Series); k += 10 {
			on, all := 0, 0
			for _, y := range x.Series[k : k+10] {
				on += y.Viewers[0]
				for _, n := range y.Viewers {
					all += n
				}
			}
			l.X, l.Y = append(l.X, x.Series[k].AtSec), append(l.Y, 100*float64(on)/float64(max(all, 1)))
		}
		c.Lines = append(c.Lines, l)
	}
	r.Tables = append(r.Tables, t)
	r.Charts["attack"] = c
	return r, nil
}

// underAttack counts honest sessions begun while liars lie: on the accused CDN, and all.
func underAttack(n *[2]float64) func(*sandbox.Outcome) {
	return func(o *sandbox.Outcome) {
		if o.Viewer.AtSec > attackFrom+60 && o.Viewer.AtSec < attackTo {
			n[1]++
			if o.CDN == 0 {
				n[0]++
			}
		}
	}
}

func attackWorld(s Settings, liars float64, groups int) sandbox.World {
	honest := &crowd{
		rnd: rand.New(rand.NewPCG(s.Seed, 4)), seconds: attackEnd, watchSec: 180, most: float64(s.Viewers), medianBps: 5e6, sigma: 0.6,
		places: []sandbox.Place{{Region: "eu", ISP: "x", Share: 0.5}, {Region: "eu", ISP: "y", Share: 0.5}}, audience: func(float64) float64 { return float64(s.Viewers) },
	}
	bots := *honest
	bots.rnd = rand.New(rand.NewPCG(s.Seed, 5))
	bots.most = max(float64(s.Viewers)*liars, 1e-6)
	bots.audience = func(t float64) float64 {
		if t < attackFrom || t > attackTo {
			return 0
		}
		return bots.most
	}
	a, aOK := honest.next()
	b, bOK := bots.next()
	var cdns []sandbox.CDN
	for i, name := range []string{"a", "b", "c"} {
		factor := 1.0
		if i > 0 {
			factor = 0.5
		}
		cdns = append(cdns, sandbox.CDN{CDN: schemas.CDN{Name: name, State: schemas.CDNActive, Order: i, CapacityViewers: 5 * s.Viewers},
			Paths: []sandbox.Path{{RTTSec: 0.03, Factor: factor}, {RTTSec: 0.03, Factor: factor}}})
	}
	return sandbox.World{
		Seed: s.Seed, Seconds: attackEnd, CDNs: cdns, Places: honest.places,
		Access:  sandbox.Access{Sigma: 0.5, Rho: 0.8, HoldSec: 5, FadeShare: 0.02, FadeFactor: 0.1},
		Players: []sandbox.Player{{SegmentSec: 2, Levels: []float64{0.8e6, 2.5e6}, StartBehind: 3}},
		Control: sandbox.Control{Policy: policy.Builtin(policy.Quality), Routers: s.Routers, ShareSec: 0.25, ReportSec: 10, LagSec: 2, SteeringTTLSec: 10, Fallback: true},
		Viewers: func() (v sandbox.Viewer, ok bool) {
			if bOK && (!aOK || b.AtSec < a.AtSec) {
				v = b
				v.Accuses = 1
				v.Group = uint8(bots.rnd.IntN(max(groups, 1)))
				b, bOK = bots.next()
				return v, true
			}
			v, ok = a, aOK
			a, aOK = honest.next()
			return v, ok
		},
	}
}
