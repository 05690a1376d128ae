package policy_test

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// choices counts where n new sessions are sent, and the reasons.
func choices(t *testing.T, p *policy.Policy, in policy.Input, n int) (cdns, reasons map[string]int) {
	t.Helper()
	cdns, reasons = map[string]int{}, map[string]int{}
	for i := range n {
		in.Session = "s" + strconv.Itoa(i)
		a, err := p.Decide(&in)
		if err != nil {
			t.Fatal(err)
		}
		cdns[a.Chosen]++
		reasons[a.Reason]++
	}
	return cdns, reasons
}

// near: a binomial count within five standard deviations.
func near(t *testing.T, what string, got, n int, p float64) {
	t.Helper()
	want, sd := float64(n)*p, math.Sqrt(float64(n)*p*(1-p))
	if math.Abs(float64(got)-want) > 5*sd {
		t.Errorf("%s: %d of %d, want %.0f +- %.0f", what, got, n, want, 5*sd)
	}
}

func TestWeightsAreKept(t *testing.T) {
	p := compiled(t, schemas.Policy{Kind: schemas.PolicyWeighted, Weights: map[string]float64{"a": 5, "b": 3, "c": 2}})
	in := policy.Input{CDNs: three()}
	got, _ := choices(t, p, in, 20_000)
	near(t, "a", got["a"], 20_000, 0.5)
	near(t, "b", got["b"], 20_000, 0.3)
	near(t, "c", got["c"], 20_000, 0.2)
	before := map[string]string{}
	for i := range 2000 {
		in.Session = "s" + strconv.Itoa(i)
		a, _ := p.Decide(&in)
		if want := map[string]float64{"a": .5, "b": .3, "c": .2}[a.Chosen]; math.Abs(a.Probability-want) > 1e-9 {
			t.Fatalf("%s has probability %v", a.Chosen, a.Probability)
		}
		before[in.Session] = a.Chosen
	}
	// Without c, only c's sessions go elsewhere.
	in.CDNs = set(three(), "c", func(c *schemas.CDN) { c.State = schemas.CDNOff })
	for s, was := range before {
		in.Session = s
		a, _ := p.Decide(&in)
		if was != "c" && a.Chosen != was {
			t.Fatalf("session %s moved from %s to %s because c left", s, was, a.Chosen)
		}
	}
}

func TestExplorationIsLoggedWithItsProbability(t *testing.T) {
	p := compiled(t, schemas.Policy{Kind: schemas.PolicyQuality, Explore: 0.1})
	in := policy.Input{CDNs: three(), Facts: facts(map[string]policy.Facts{
		"a": {StallRatio: 0.05, Samples: 100}, "b": {StallRatio: 0.01, Samples: 100}, "c": {StallRatio: 0.02, Samples: 100},
	})}
	const n = 30_000
	got, reasons := choices(t, p, in, n)
	near(t, "explored", reasons[policy.ReasonExplore], n, 0.1)
	near(t, "a", got["a"], n, 0.1/3)
	// Inverse propensities must add up to the number of sessions for each CDN.
	sum := map[string]float64{}
	for i := range n {
		in.Session = "s" + strconv.Itoa(i)
		a, _ := p.Decide(&in)
		sum[a.Chosen] += 1 / a.Probability
	}
	for cdn, s := range sum {
		if math.Abs(s/n-1) > 0.1 {
			t.Errorf("%s: inverse propensities sum to %.0f of %d sessions", cdn, s, n)
		}
	}
	in.Current, in.SinceMoveSec = "b", 10_000
	if _, reasons := choices(t, p, in, 1000); reasons[policy.ReasonStay] != 1000 {
		t.Errorf("sessions in play are not for exploring: %v", reasons)
	}
}

func TestQualityMovesOnlyForAGain(t *testing.T) {
	p := policy.Builtin(policy.Quality)
	in := policy.Input{Session: "s", Current: "a", SinceMoveSec: 700, CDNs: three(), Facts: facts(map[string]policy.Facts{
		"a": {StallRatio: 0.06, Samples: 100}, "b": {StallRatio: 0.02, Samples: 100}, "c": {StallRatio: 0.03, Samples: 100},
	})}
	if a, _ := p.Decide(&in); a.Chosen != "a" || a.Reason != policy.ReasonStay {
		t.Errorf("a gain of 0.04: %s because %s", a.Chosen, a.Reason)
	}
	in.Facts[0] = policy.Facts{StallRatio: 0.1, Samples: 100}
	if a, _ := p.Decide(&in); a.Chosen != "b" || a.Reason != policy.ReasonBetter {
		t.Errorf("a gain of 0.08: %s because %s", a.Chosen, a.Reason)
	}
	in.SinceMoveSec = 500
	if a, _ := p.Decide(&in); a.Chosen != "a" || a.Reason != policy.ReasonStay {
		t.Errorf("moved lately: %s because %s", a.Chosen, a.Reason)
	}
	in.Facts[0] = policy.Facts{Failing: true}
	if a, _ := p.Decide(&in); a.Chosen != "b" || a.Reason != policy.ReasonFailing || order(&a) != "b c a" {
		t.Errorf("failing, moved lately: %s because %s: %s", a.Chosen, a.Reason, order(&a))
	}
}

func TestNearnessToCapacityCosts(t *testing.T) {
	p := policy.Builtin(policy.Quality)
	in := policy.Input{CDNs: set(three(), "a", func(c *schemas.CDN) { c.SpillViewers = 100 }), Facts: facts(map[string]policy.Facts{
		"a": {StallRatio: 0.010, Samples: 9, Viewers: 70}, "b": {StallRatio: 0.012, Samples: 9}, "c": {StallRatio: 0.5, Samples: 9},
	})}
	if a, _ := p.Decide(&in); a.Chosen != "a" {
		t.Errorf("at 0.7 of its capacity a is still best: %s", order(&a))
	}
	in.Facts[0] = policy.Facts{StallRatio: 0.010, Samples: 9, Viewers: 95}
	if a, _ := p.Decide(&in); a.Chosen != "b" {
		t.Errorf("at 0.95 of its capacity a should cost more: %s", order(&a))
	}
	in.Facts[0] = policy.Facts{StallRatio: 0.010, Samples: 9, Viewers: 70, Growth: 1.5}
	if a, _ := p.Decide(&in); a.Chosen != "b" || a.Candidates[2].Tier != "full" {
		t.Errorf("full by forecast: %+v", a.Candidates)
	}
}

func TestShedTakesJustEnough(t *testing.T) {
	p := policy.Builtin(policy.Affinity)
	in := policy.Input{Current: "a", PublishCDN: "a", SinceMoveSec: 700, CDNs: three(), Facts: facts(map[string]policy.Facts{"a": {Viewers: 20, Shed: 0.2}})}
	const n = 10_000
	got, reasons := choices(t, p, in, n)
	near(t, "left", n-got["a"], n, 0.2)
	near(t, "shed", reasons[policy.ReasonShed], n, 0.2)
	// The same sessions leave at 0.1 as far as they leave at 0.2: less shedding never moves others.
	for i := range 1000 {
		in.Session = "s" + strconv.Itoa(i)
		in.Facts[0] = policy.Facts{Viewers: 20, Shed: 0.1}
		less, _ := p.Decide(&in)
		in.Facts[0] = policy.Facts{Viewers: 20, Shed: 0.2}
		more, _ := p.Decide(&in)
		if less.Chosen != "a" && more.Chosen == "a" {
			t.Fatalf("session %d leaves at 0.1 and not at 0.2", i)
		}
	}
	in.SinceMoveSec = 0
	if got, _ := choices(t, p, in, 1000); got["a"] != 1000 {
		t.Errorf("sessions that moved lately were moved again: %v", got)
	}
	in.SinceMoveSec = 700
	in.CDNs = set(set(three(), "b", func(c *schemas.CDN) { c.State = schemas.CDNOff }), "c", func(c *schemas.CDN) { c.State = schemas.CDNOff })
	if got, _ := choices(t, p, in, 1000); got["a"] != 1000 {
		t.Errorf("sessions were sent from a full CDN to none: %v", got)
	}
}

func TestFailingIsTriedByAFew(t *testing.T) {
	p := policy.Builtin(policy.Affinity)
	in := policy.Input{PublishCDN: "a", CDNs: three(), Facts: facts(map[string]policy.Facts{"a": {Failing: true, Probe: 0.02}})}
	const n = 20_000
	got, reasons := choices(t, p, in, n)
	near(t, "probes", got["a"], n, 0.02)
	if reasons[policy.ReasonProbe] != got["a"] || reasons[policy.ReasonFailing] != n-got["a"] {
		t.Errorf("reasons %v, choices %v", reasons, got)
	}
	// Those who try it stay there, the others leave.
	in.Current = "a"
	stay, reasons := choices(t, p, in, n)
	if stay["a"] != got["a"] || reasons[policy.ReasonFailing] != n-got["a"] {
		t.Errorf("%v stay, %d try; reasons %v", stay, got["a"], reasons)
	}
	in.Current = ""
	for i := range in.Facts {
		in.Facts[i] = policy.Facts{Failing: true}
	}
	if a, err := p.Decide(&in); err != nil || a.Reason != policy.ReasonAllFailing || a.Eligible != 3 {
		t.Errorf("all failing: %+v, %v: a player may yet get through", a, err)
	}
}

func TestCostWeighsPriceCommitmentAndHarm(t *testing.T) {
	p := compiled(t, schemas.Policy{Kind: schemas.PolicyCost, LossUSDPerGB: 0.1})
	price := func(c *schemas.CDN, usd float64) { c.PricePerGBMicroUSD = int64(usd * 1e6) }
	list := three()
	price(&list[0], 0.02)
	price(&list[1], 0.01)
	price(&list[2], 0.03)
	list[2].CommitGB = 1000
	in := policy.Input{CDNs: list, Facts: facts(map[string]policy.Facts{"c": {MonthGB: 400, MonthShare: 0.5}})}
	if a, _ := p.Decide(&in); order(&a) != "c b a" || a.Reason != policy.ReasonScore {
		t.Errorf("what is paid for anyway comes first: %s", order(&a))
	}
	in.Facts[2] = policy.Facts{MonthGB: 600, MonthShare: 0.5}
	if a, _ := p.Decide(&in); order(&a) != "b a c" {
		t.Errorf("the commitment is used up: %s", order(&a))
	}
	in.Facts[1] = policy.Facts{StallRatio: 0.2, Samples: 50}
	if a, _ := p.Decide(&in); a.Chosen != "a" {
		t.Errorf("0.2 of a view at 0.1 USD a GB costs more than a's price: %s", order(&a))
	}
}

func TestPriceTiers(t *testing.T) {
	c := schemas.CDN{PricePerGBMicroUSD: 30_000, PriceTiers: []schemas.PriceTier{{FromGB: 100, PerGBMicroUSD: 20_000}, {FromGB: 1000, PerGBMicroUSD: 5_000}}, CommitGB: 50}
	for _, x := range []struct{ gb, share, want float64 }{
		{10, 0.5, 0}, {25, 0.5, 0}, {30, 0.5, 0.03}, {99, 0.5, 0.03},
		{0, 0, 0}, {49.5, 0.99, 0}, {49.75, 0.99, 0.015}, {50, 0.99, 0.03}, {50, 1, 0.03}, {100, 0.5, 0.02}, {5000, 1, 0.005}, {49, 2, 0},
	} {
		if got := policy.PriceUSDPerGB(&c, &policy.Facts{MonthGB: x.gb, MonthShare: x.share}); math.Abs(got-x.want) > 1e-9 {
			t.Errorf("%v GB at %v of the month: %v, want %v", x.gb, x.share, got, x.want)
		}
	}
	before := -1.0
	for gb := 24.9; gb < 27; gb += 0.1 { // a commitment used ahead by up to a day of the month
		got := policy.PriceUSDPerGB(&c, &policy.Facts{MonthGB: gb, MonthShare: 0.5})
		if got < before || got > before+0.003 && before >= 0 || got > 0.03 {
			t.Errorf("%v GB: %v after %v", gb, got, before)
		}
		before = got
	}
	if before != 0.03 {
		t.Errorf("more than a day ahead: %v", before)
	}
}

func TestRegions(t *testing.T) {
	list := three()
	list[1].RegionCapacity = map[string]schemas.Capacity{"eu": {Viewers: 5}}
	list[2].StrongIn = []string{"eu/telia"}
	p := compiled(t, schemas.Policy{Kind: schemas.PolicyAffinity, Regions: map[string][]string{"a": {"us"}}})
	in := policy.Input{Region: "eu", ISP: "telia", PublishCDN: "b", CDNs: list, Facts: facts(map[string]policy.Facts{"b": {Viewers: 6, RegionViewers: 5}})}
	a, err := p.Decide(&in)
	if err != nil || order(&a) != "c b !a" || a.Candidates[2].Excluded != policy.ExcludedRegion || a.Candidates[1].Tier != "full" {
		t.Errorf("%s, %v: %+v", order(&a), err, a.Candidates)
	}
	in.Region = "us"
	if a, _ := p.Decide(&in); order(&a) != "b a c" {
		t.Errorf("full in one region only: %s", order(&a))
	}
}

func TestExpressions(t *testing.T) {
	p := compiled(t, schemas.Policy{
		Kind:  schemas.PolicyExpression,
		Score: "(affinity ? 0.1 : 0.0) - harm - (load > 0.8 ? (load - 0.8) * 2.0 : 0.0) - price_usd_per_gb", Eligible: "!(region == 'eu' && cdn == 'c')",
	})
	in := policy.Input{Region: "eu", PublishCDN: "b", CDNs: three(), Facts: facts(map[string]policy.Facts{"b": {StallRatio: 0.05, Samples: 10}})}
	a, err := p.Decide(&in)
	if err != nil || order(&a) != "b a !c" || a.Reason != policy.ReasonScore || math.Abs(a.Candidates[0].Score-0.05) > 1e-9 {
		t.Errorf("%s because %s, %+v, %v", order(&a), a.Reason, a.Candidates, err)
	}
}

func TestEveryVariableCompilesAsDocumented(t *testing.T) {
	for _, v := range policy.Variables() {
		text := map[string]string{"string": v.Name + " == '' ? 0.0 : 1.0", "bool": v.Name + " ? 0.0 : 1.0", "double": v.Name + " * 2.0"}[v.Type]
		p := compiled(t, schemas.Policy{Kind: schemas.PolicyExpression, Score: text})
		if _, err := p.Decide(&policy.Input{CDNs: three()}); err != nil {
			t.Errorf("%s: %v", v.Name, err)
		}
	}
}

func TestBadPoliciesAreRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		p    schemas.Policy
		want string
	}{
		{"syntax, with its place", schemas.Policy{Kind: "expression", Score: "harm +* 2.0"}, "1:7"},
		{"unknown name", schemas.Policy{Kind: "expression", Score: "harms"}, "undeclared reference to 'harms'"},
		{"wrong type", schemas.Policy{Kind: "expression", Score: "cdn"}, "gives string, not double"},
		{"whole number", schemas.Policy{Kind: "expression", Score: "1"}, "write numbers with a point"},
		{"eligible is no condition", schemas.Policy{Kind: "quality", Eligible: "harm"}, "eligible: the expression gives double"},
		{"no score", schemas.Policy{Kind: "expression"}, "score"},
		{"score beside another kind", schemas.Policy{Kind: "quality", Score: "harm"}, "score"},
		{"kind", schemas.Policy{Kind: "clever"}, "kind"},
		{"weights", schemas.Policy{Kind: "weighted", Weights: map[string]float64{"a": -1}}, "weights"},
		{"no weight above 0", schemas.Policy{Kind: "weighted", Weights: map[string]float64{"a": 0}}, "none is above 0"},
		{"explore", schemas.Policy{Kind: "quality", Explore: 0.6}, "explore"},
		{"not a number", schemas.Policy{Kind: "quality", Hysteresis: math.NaN()}, "hysteresis"},
		{"too long", schemas.Policy{Kind: "expression", Score: strings.Repeat("harm+", 1000) + "harm"}, "bytes"},
		{"too deep", schemas.Policy{Kind: "expression", Score: strings.Repeat("(", 500) + "harm" + strings.Repeat(")", 500)}, "score"},
	} {
		c.p.Name = "mine"
		if _, err := policy.Compile(c.p); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "mine") {
			t.Errorf("%s: %v, want it to say %q", c.name, err, c.want)
		}
	}
}

func TestAPolicyThatFailsAtRunTimeSaysSo(t *testing.T) {
	for _, score := range []string{"harm / harm", "double(cdn)"} {
		p := compiled(t, schemas.Policy{Name: "mine", Version: 3, Kind: schemas.PolicyExpression, Score: score})
		_, err := p.Decide(&policy.Input{CDNs: three()})
		var run *policy.RunError
		if !errors.As(err, &run) || run.Policy != "mine" || run.Version != 3 || run.CDN == "" {
			t.Errorf("%s: %v", score, err)
		}
	}
}

// FuzzExpression: whatever is given as an expression is refused or decides, and
// neither panics nor runs on.
func FuzzExpression(f *testing.F) {
	for _, s := range []string{"-harm", "load > 0.8 ? -1.0 : 1.0", "double(cdn.size())", "harm / 0.0", "[1,2,3][5]", "'x' * 9", "cdn.matches('(a+)+$') ? 1.0 : 0.0"} {
		f.Add(s)
	}
	f.Fuzz(func(_ *testing.T, s string) {
		p, err := policy.Compile(schemas.Policy{Name: "f", Kind: schemas.PolicyExpression, Score: s})
		if err != nil {
			return
		}
		_, _ = p.Decide(&policy.Input{Session: "s", CDNs: three()})
	})
}

// TestProbabilitiesAddUp: where probes, weights and exploration meet, the inverse
// probabilities of each CDN's choices add up to the number of sessions.
func TestProbabilitiesAddUp(t *testing.T) {
	list := append(three(), cdn("d", 4, 0, 0, schemas.CDNActive, ""), cdn("e", 5, 0, 0, schemas.CDNActive, ""))
	in := policy.Input{CDNs: list, Facts: policy.FactsOf(list, map[string]policy.Facts{
		"d": {Failing: true, Probe: 0.3, StallRatio: 0.5, Samples: 9}, "e": {Failing: true, Probe: 0.2, Samples: 9},
	})}
	for name, s := range map[string]schemas.Policy{
		"affinity": {Kind: schemas.PolicyAffinity}, "quality": {Kind: schemas.PolicyQuality, Explore: 0.4},
		"weighted":          {Kind: schemas.PolicyWeighted, Weights: map[string]float64{"a": 5, "b": 3, "c": 2, "d": 1}, Explore: 0.4},
		"no weight in play": {Kind: schemas.PolicyWeighted, Weights: map[string]float64{"d": 1}, Explore: 0.4},
	} {
		t.Run(name, func(t *testing.T) {
			p, sum := compiled(t, s), map[string]float64{}
			const n = 10_000
			for i := range n {
				in.Session = "s" + strconv.Itoa(i)
				a, err := p.Decide(&in)
				if err != nil {
					t.Fatal(err)
				}
				sum[a.Chosen] += 1 / a.Probability
			}
			for cdn, x := range sum {
				if math.Abs(x/n-1) > 0.15 {
					t.Errorf("%s: inverse probabilities add up to %.0f of %d sessions", cdn, x, n)
				}
			}
		})
	}
}

// TestBuiltinNames: the names that operators know, and equal weights where none are given.
func TestBuiltinNames(t *testing.T) {
	for name, kind := range map[string]string{
		"affinity": "affinity", "balance": "balance", "weighted": "weighted", "quality": "quality", "quality-first": "quality", "cost": "cost", "cost-aware": "cost",
	} {
		if p := policy.Builtin(name); p == nil || p.Value().Kind != kind || p.Value().Name != name {
			t.Errorf("%s: %+v", name, p)
		}
	}
	got, _ := choices(t, policy.Builtin("weighted"), policy.Input{CDNs: three()}, 15_000)
	for _, c := range []string{"a", "b", "c"} {
		near(t, c, got[c], 15_000, 1.0/3)
	}
}
