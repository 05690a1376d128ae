package scenario

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/spillway-live/spillway/analytics/sandbox"
	"github.com/spillway-live/spillway/analytics/sandbox/plot"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/policy"
)

const (
	outageFrom, outageTo, outageEnd = 120.0, 300.0, 420.0
	outageBps                       = 300e3
)

// ways in which players may be told where to go.
var outageWays = []struct {
	name     string
	kind     string // of the policy; empty: affinity
	steering float64
	fallback bool
}{
	{"spillway, steering TTL 10 s", "", 10, true},
	{"hls.js without steering, CDNs as fallbacks", "", 0, true},
	{"static round robin, one CDN each", schemas.PolicyWeighted, 0, false},
}

// outageKinds are how the CDN fails.
var outageKinds = []struct {
	name    string
	episode sandbox.Episode
}{
	{"refuses", sandbox.Episode{Down: true}},
	{"hangs", sandbox.Episode{Hang: true}},
	{"slow", sandbox.Episode{Factor: 0.02}},
}

// Outage takes a CDN down under its viewers, in three ways, and measures how fast
// they are elsewhere and how long they stall: with steering, with players left to
// themselves, and with one fixed CDN each. A viewer's stall is counted beside that
// of the same viewer without the outage.
func Outage(s Settings) (*Report, error) {
	s.Viewers, s.Routers = or(s.Viewers, 2000), or(s.Routers, 3)
	r := newReport("outage", fmt.Sprintf("A CDN fails under %d viewers for %.0f s: how fast are they elsewhere, and what does it cost them?", s.Viewers, outageTo-outageFrom), s)
	r.World = []string{
		"three CDNs with room for all; segments of 2 s at 300 kbit/s; accesses of 8 Mbit/s in the median (lognormal, deviation 0.6)",
		"the CDN refuses requests at once, or never answers (players wait 10 s), or gives 2 % of the rate",
		"our prober asks each CDN every 2.5 s, and tells of an answer that is not there after 1.5 s",
		"with steering and without it all begin on the publisher's CDN, which fails; with round robin a third do",
	}
	var jobs []job
	sessions := map[string]map[uint64]sandbox.Outcome{}
	for _, way := range outageWays {
		for _, kind := range append([]struct {
			name    string
			episode sandbox.Episode
		}{{name: "none"}}, outageKinds...) {
			j := job{way.name + ", " + kind.name, outageWorld(s, way.kind, way.steering, way.fallback)}
			if kind.name != "none" {
				x := kind.episode
				x.CDN, x.FromSec, x.ToSec = "a", outageFrom, outageTo
				j.world.Episodes = []sandbox.Episode{x}
			}
			all := map[uint64]sandbox.Outcome{}
			sessions[j.name] = all
			j.world.Each = func(o *sandbox.Outcome) { all[o.Viewer.Seed] = *o }
			jobs = append(jobs, j)
		}
	}
	if err := r.run(jobs); err != nil {
		return nil, err
	}
	t := Table{Title: "Sessions on the CDN when it fails", Columns: []string{"way", "it", "sessions", "elsewhere in 15 s", "95 % after", "added stall p50", "p95", "mean"}}
	for _, kind := range outageKinds {
		c := &plot.Chart{Title: "A CDN " + kind.name, XLabel: "seconds", YLabel: "share of sessions stalled, %", Marks: map[string]float64{"fails": outageFrom, "is back": outageTo}}
		for _, way := range outageWays {
			name := way.name + ", " + kind.name
			x := after(sessions[name], sessions[way.name+", none"])
			t.Rows = append(t.Rows, []string{way.name, kind.name, fmt.Sprint(x.sessions), pct(x.within15), x.p95(), sec(x.stallP50), sec(x.stallP95), sec(x.stallMean)})
			if way.steering > 0 {
				r.Checks = append(r.Checks, Check{kind.name + ": sessions on another CDN within 15 s", pct(x.within15), "at least 95 %", x.within15 >= 0.95})
			}
			if way.steering > 0 && kind.name == "refuses" { // who waits for an answer, or for a segment, empties his buffer
				r.Checks = append(r.Checks, Check{kind.name + ": added stall per session, median", sec(x.stallP50), "under 1 s", x.stallP50 < 1})
			}
			c.Lines = append(c.Lines, stalledLine(way.name, r.Runs[name]))
		}
		r.Charts["outage-"+kind.name] = c
	}
	r.Tables = append(r.Tables, t)
	return r, nil
}

func sec(x float64) string { return fmt.Sprintf("%.2f s", x) }

// aftermath of an outage for those who were on the CDN.
type aftermath struct {
	sessions                      int
	within15                      float64
	left95                        float64
	stallP50, stallP95, stallMean float64
}

func (a *aftermath) p95() string {
	if a.left95 <= 0 {
		return "never"
	}
	return sec(a.left95)
}

// after compares sessions with the same ones where nothing happened.
func after(hit, without map[uint64]sandbox.Outcome) aftermath {
	var a aftermath
	var stalls, left []float64
	for seed, o := range hit {
		if o.CDN != 0 || o.Viewer.AtSec > outageFrom-10 || o.Viewer.AtSec+o.Viewer.WatchSec < outageFrom+20 || o.FirstMoveSec > 0 && o.FirstMoveSec < outageFrom {
			continue
		}
		a.sessions++
		stalls = append(stalls, o.StalledSec-without[seed].StalledSec)
		if o.FirstMoveSec > 0 {
			left = append(left, o.FirstMoveSec-outageFrom)
			if o.FirstMoveSec-outageFrom <= 15 {
				a.within15++
			}
		}
		a.stallMean += o.StalledSec - without[seed].StalledSec
	}
	if a.sessions == 0 {
		return a
	}
	a.within15 /= float64(a.sessions)
	a.stallMean /= float64(a.sessions)
	slices.Sort(stalls)
	slices.Sort(left)
	a.stallP50, a.stallP95 = stalls[len(stalls)/2], stalls[len(stalls)*95/100]
	if i := a.sessions * 95 / 100; i < len(left) {
		a.left95 = left[i]
	}
	return a
}

func stalledLine(name string, x *sandbox.Result) plot.Line {
	l := plot.Line{Name: name, Color: -1}
	if i := len("hls.js without steering"); len(name) > 20 {
		l.Name = name[:min(i, len(name))]
	}
	for _, s := range x.Series {
		if s.AtSec >= outageFrom-20 {
			l.X, l.Y = append(l.X, s.AtSec), append(l.Y, 100*float64(s.Stalled)/float64(max(s.Stalled+s.Playing, 1)))
		}
	}
	return l
}

func outageWorld(s Settings, kind string, ttl float64, fallback bool) sandbox.World {
	p := policy.Builtin(policy.Affinity)
	if kind == schemas.PolicyWeighted {
		p = must(schemas.Policy{Name: "round-robin", Kind: kind, Weights: map[string]float64{"a": 1, "b": 1, "c": 1}})
	}
	rnd := rand.New(rand.NewPCG(s.Seed, 2))
	var cdns []sandbox.CDN
	for i, name := range []string{"a", "b", "c"} {
		cdns = append(cdns, sandbox.CDN{
			CDN:   schemas.CDN{Name: name, State: schemas.CDNActive, Order: i, CapacityViewers: 2 * s.Viewers, CapacityBps: int64(2 * float64(s.Viewers) * outageBps)},
			Paths: []sandbox.Path{{RTTSec: 0.03, Factor: 1}},
		})
	}
	n := 0
	return sandbox.World{
		Seed: s.Seed, Seconds: outageEnd, CDNs: cdns, Places: []sandbox.Place{{Region: "eu", ISP: "x", Share: 1}},
		Access:  sandbox.Access{Sigma: 0.4, Rho: 0.8, HoldSec: 5},
		Players: []sandbox.Player{{SegmentSec: 2, Levels: []float64{outageBps}, StartBehind: 3}},
		Control: sandbox.Control{Policy: p, Routers: s.Routers, ShareSec: 0.25, ReportSec: 5, LagSec: 2, SteeringTTLSec: ttl, ProbeSec: 2.5, Fallback: fallback, PublishCDN: "a"},
		Viewers: func() (sandbox.Viewer, bool) {
			if n++; n > s.Viewers {
				return sandbox.Viewer{}, false
			}
			return sandbox.Viewer{
				AtSec: 60 * (float64(n) - rnd.Float64()) / float64(s.Viewers), WatchSec: 1e6, MedianBps: lognormal(rnd, 8e6, 0.6),
				Group: uint8(rnd.IntN(16)), Seed: rnd.Uint64(),
			}, true
		},
	}
}

// must compiles a policy that is a constant of this package.
func must(s schemas.Policy) *policy.Policy {
	s.Version = 1
	p, err := policy.Compile(s)
	if err != nil {
		panic(err)
	}
	return p
}
