package policy_test

import (
	"cmp"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/policy"
)

func cdn(name string, order, spill, capacity int, state schemas.CDNState, region string) schemas.CDN {
	return schemas.CDN{Name: name, BaseURL: "http://" + name, Order: order, SpillViewers: spill, CapacityViewers: capacity, State: state, Region: region}
}

func three() []schemas.CDN {
	return []schemas.CDN{
		cdn("a", 1, 10, 0, schemas.CDNActive, "eu"),
		cdn("b", 2, 10, 20, schemas.CDNActive, "us"),
		cdn("c", 3, 0, 0, schemas.CDNActive, "asia"),
	}
}

func set(list []schemas.CDN, name string, f func(*schemas.CDN)) []schemas.CDN {
	for i := range list {
		if list[i].Name == name {
			f(&list[i])
		}
	}
	return list
}

// viewers are facts of three(), by name.
func viewers(n map[string]int) []policy.Facts {
	m := map[string]policy.Facts{}
	for cdn, v := range n {
		m[cdn] = policy.Facts{Viewers: v}
	}
	return facts(m)
}

// facts puts facts by name into the order of three().
func facts(m map[string]policy.Facts) []policy.Facts { return policy.FactsOf(three(), m) }

func compiled(t testing.TB, s schemas.Policy) *policy.Policy {
	t.Helper()
	if s.Name == "" {
		s.Name = "p"
	}
	p, err := policy.Compile(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func order(a *policy.Answer) string {
	var got []string
	for _, x := range a.Candidates {
		if x.Excluded != "" {
			x.CDN = "!" + x.CDN
		}
		got = append(got, x.CDN)
	}
	return strings.Join(got, " ")
}

func TestAffinityAndBalance(t *testing.T) {
	off := func(c *schemas.CDN) { c.State = schemas.CDNOff }
	draining := func(c *schemas.CDN) { c.State = schemas.CDNDraining }
	type in = policy.Input
	for _, c := range []struct {
		name, policy string
		in           in
		want         string // candidates in order; ! marks those excluded
		reason       string
	}{
		{"publisher's CDN first", "", in{PublishCDN: "b", CDNs: three()}, "b a c", policy.ReasonAffinity},
		{"one below the limit", "", in{PublishCDN: "a", CDNs: three(), Facts: viewers(map[string]int{"a": 9})}, "a b c", policy.ReasonAffinity},
		{"spills at the limit", "", in{PublishCDN: "a", CDNs: three(), Facts: viewers(map[string]int{"a": 10})}, "b c a", policy.ReasonSpill},
		{"spills on", "", in{PublishCDN: "a", CDNs: three(), Facts: viewers(map[string]int{"a": 10, "b": 10})}, "c a b", policy.ReasonSpill},
		{"capacity is a limit too", "", in{PublishCDN: "b", CDNs: set(three(), "b", func(c *schemas.CDN) { c.SpillViewers = 0 }), Facts: viewers(map[string]int{"b": 20})}, "a c b", policy.ReasonSpill},
		{"all full: the least over", "", in{PublishCDN: "a", CDNs: set(three(), "c", func(c *schemas.CDN) { c.CapacityViewers = 5 }), Facts: viewers(map[string]int{"a": 30, "b": 11, "c": 40})}, "b a c", policy.ReasonFull},
		{"draining takes nobody new", "", in{PublishCDN: "a", CDNs: set(three(), "a", draining)}, "b c !a", policy.ReasonDraining},
		{"draining keeps those it has", "", in{PublishCDN: "a", Current: "a", CDNs: set(three(), "a", draining)}, "a b c", policy.ReasonStay},
		{"off leaves every answer", "", in{PublishCDN: "a", CDNs: set(three(), "a", off)}, "b c !a", policy.ReasonOff},
		{"off sends its sessions away", "", in{PublishCDN: "b", Current: "a", CDNs: set(three(), "a", off)}, "b c !a", policy.ReasonAffinity},
		{"a session stays", "", in{PublishCDN: "a", Current: "c", CDNs: three()}, "c a b", policy.ReasonStay},
		{"also on a full CDN", "", in{PublishCDN: "b", Current: "a", CDNs: three(), Facts: viewers(map[string]int{"a": 99})}, "a b c", policy.ReasonStay},
		{"pinned", "", in{PublishCDN: "a", Pinned: "c", CDNs: three()}, "c a b", policy.ReasonPinned},
		{"pinned comes before current", "", in{PublishCDN: "a", Pinned: "c", Current: "b", CDNs: three()}, "c b a", policy.ReasonPinned},
		{"pinned to one draining", "", in{Pinned: "a", CDNs: set(three(), "a", draining)}, "a b c", policy.ReasonPinned},
		{"pinned to one off", "", in{PublishCDN: "b", Pinned: "a", CDNs: set(three(), "a", off)}, "b c !a", policy.ReasonPinOff},
		{"pinned to an unknown one", "", in{PublishCDN: "b", Pinned: "x", CDNs: three()}, "b a c", policy.ReasonAffinity},
		{"no publisher's CDN: region", "", in{Region: "us", CDNs: three()}, "b a c", policy.ReasonRegion},
		{"region does not beat affinity", "", in{Region: "us", PublishCDN: "c", CDNs: three()}, "c a b", policy.ReasonAffinity},
		{"nothing known: order", "", in{CDNs: three()}, "a b c", policy.ReasonOrder},
		{"publisher's CDN not registered", "", in{PublishCDN: "x", CDNs: three()}, "a b c", policy.ReasonOrder},
		{"balance", policy.Balance, in{PublishCDN: "a", CDNs: set(three(), "c", func(c *schemas.CDN) { c.SpillViewers = 10 }), Facts: viewers(map[string]int{"a": 5, "b": 1, "c": 2})}, "b c a", policy.ReasonBalance},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, err := policy.Builtin(cmp.Or(c.policy, policy.Affinity)).Decide(&c.in)
			if err != nil {
				t.Fatal(err)
			}
			if s := order(&a); s != c.want || a.Reason != c.reason || a.Chosen != a.Candidates[0].CDN || a.Probability != 1 {
				t.Errorf("got %q, chosen %s, because %s; want %q because %s", s, a.Chosen, a.Reason, c.want, c.reason)
			}
		})
	}
}

func TestNoCDN(t *testing.T) {
	for _, list := range [][]schemas.CDN{nil, {cdn("a", 1, 0, 0, schemas.CDNOff, "")}, {cdn("a", 1, 0, 0, schemas.CDNDraining, "")}} {
		a, err := policy.Builtin(policy.Affinity).Decide(&policy.Input{CDNs: list})
		if !errors.Is(err, policy.ErrNoCDN) || a.Chosen != "" || len(a.Candidates) != len(list) {
			t.Errorf("%d CDNs: %+v, %v", len(list), a, err)
		}
	}
}

// TestAlwaysSound holds answers to what must be true of any input and policy.
func TestAlwaysSound(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	states := []schemas.CDNState{schemas.CDNActive, schemas.CDNActive, schemas.CDNDraining, schemas.CDNOff}
	tiers := []string{"pinned", "current", "room", "full", "failing"}
	names := []string{"", "a", "b", "c", "d", "x"}
	policies := []*policy.Policy{
		policy.Builtin(policy.Affinity), policy.Builtin(policy.Balance), policy.Builtin(policy.Quality), policy.Builtin(policy.Cost),
		compiled(t, schemas.Policy{Kind: schemas.PolicyQuality, Explore: 0.3, Hysteresis: 0.1}),
		compiled(t, schemas.Policy{Kind: schemas.PolicyWeighted, Weights: map[string]float64{"a": 1, "b": 3}, Explore: 0.1}),
		compiled(t, schemas.Policy{Kind: schemas.PolicyExpression, Score: "current ? 1.0 : -harm - load", Eligible: "cdn != 'd'", Hysteresis: 0.5}),
	}
	for range 20_000 {
		in := policy.Input{
			Session: strconv.Itoa(r.IntN(1000)), Pinned: names[r.IntN(6)], Current: names[r.IntN(6)], PublishCDN: names[r.IntN(6)],
			Region: names[r.IntN(3)], SinceMoveSec: float64(r.IntN(1200)),
		}
		for _, n := range names[1 : 1+r.IntN(5)] {
			in.CDNs = append(in.CDNs, cdn(n, r.IntN(3), r.IntN(5), r.IntN(5), states[r.IntN(4)], names[r.IntN(3)]))
			in.Facts = append(in.Facts, policy.Facts{
				Viewers: r.IntN(6), Samples: float64(r.IntN(3)), StallRatio: []float64{r.Float64(), math.NaN()}[r.IntN(2)],
				Failing: r.IntN(4) == 0, Probe: r.Float64() / 4, Shed: r.Float64() / 2, Growth: r.Float64() * 2,
			})
		}
		p := policies[r.IntN(len(policies))]
		a, err := p.Decide(&in)
		if len(a.Candidates) != len(in.CDNs) {
			t.Fatalf("%+v: %d of %d CDNs accounted for", in, len(a.Candidates), len(in.CDNs))
		}
		if !(a.Probability > 0 && a.Probability <= 1) {
			t.Fatalf("%+v: probability %v", in, a.Probability)
		}
		for i, c := range a.Candidates {
			if (c.Excluded == "") != (i < a.Eligible) {
				t.Fatalf("%+v: candidate %d excluded %q, %d eligible", in, i, c.Excluded, a.Eligible)
			}
			// The first may be there by lot; behind it tiers and scores fall.
			if i > 1 && i < a.Eligible {
				x, y := slices.Index(tiers, a.Candidates[i-1].Tier), slices.Index(tiers, c.Tier)
				if x > y || x == y && c.Tier == "room" && a.Candidates[i-1].Score < c.Score {
					t.Fatalf("%+v: out of order: %+v", in, a.Candidates)
				}
			}
			state := in.CDNs[slices.IndexFunc(in.CDNs, func(x schemas.CDN) bool { return x.Name == c.CDN })].State
			if c.Excluded == "" && (state == schemas.CDNOff || state == schemas.CDNDraining && c.CDN != in.Current && c.CDN != in.Pinned) {
				t.Fatalf("%+v: %s is %s and in the answer", in, c.CDN, state)
			}
		}
		if (err == nil) != (a.Eligible > 0) || err == nil && (a.Chosen != a.Candidates[0].CDN || a.Reason == "") {
			t.Fatalf("%+v: %+v, %v", in, a, err)
		}
		r.Shuffle(len(in.CDNs), func(i, j int) {
			in.CDNs[i], in.CDNs[j] = in.CDNs[j], in.CDNs[i]
			in.Facts[i], in.Facts[j] = in.Facts[j], in.Facts[i]
		})
		if b, _ := p.Decide(&in); !reflect.DeepEqual(a, b) {
			t.Fatalf("%+v: the order of the registry changes the answer:\n%+v\n%+v", in, a, b)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	in := policy.Input{PublishCDN: "a", CDNs: three(), Facts: viewers(map[string]int{"a": 10})}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := policy.Builtin(policy.Affinity).Decide(&in); err != nil {
			b.Fatal(err)
		}
	}
}
