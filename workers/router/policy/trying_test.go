package policy_test

import (
	"fmt"
	"math"
	"strconv"
	"testing"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// TestReturnIsTriedByThoseWhoCanAffordIt: of the sessions in play, the share that
// Input.Test says tries a failing CDN and stays there; no others do, and none
// whose player holds it in its penalty box, or who has moved lately.
func TestReturnIsTriedByThoseWhoCanAffordIt(t *testing.T) {
	p := compiled(t, schemas.Policy{Kind: schemas.PolicyAffinity})
	in := policy.Input{PublishCDN: "a", CDNs: three(), Current: "b", SinceMoveSec: 1e9, Facts: facts(map[string]policy.Facts{"a": {Failing: true, Probe: 0.01}})}
	tried := func(edit func(*policy.Input)) int {
		t.Helper()
		x := in
		edit(&x)
		n := 0
		for i := range 10_000 {
			x.Session = "s" + strconv.Itoa(i)
			a, err := p.Decide(&x)
			if err != nil {
				t.Fatal(err)
			}
			if a.Chosen == "a" {
				n++
				if a.Reason != policy.ReasonProbe || a.Candidates[1].CDN != "b" {
					t.Fatalf("%s, then %+v", a.Reason, a.Candidates)
				}
			}
		}
		return n
	}
	for round := range int64(20) { // no session is left out for ever
		x := in
		x.Session, x.Test, x.Round = "s1", 0.5, round
		if a, err := p.Decide(&x); err == nil && a.Chosen == "a" {
			break
		} else if round == 19 {
			t.Errorf("in 20 rounds a session of which half try does not: %v", err)
		}
	}
	near(t, "deep buffers", tried(func(x *policy.Input) { x.Test = 0.05 }), 10_000, 0.05)
	for name, edit := range map[string]func(*policy.Input){
		"thin buffers":    func(*policy.Input) {},
		"penalised":       func(x *policy.Input) { x.Test, x.Avoid = 1, []string{"a"} },
		"moved lately":    func(x *policy.Input) { x.Test, x.SinceMoveSec = 1, 60 },
		"pinned":          func(x *policy.Input) { x.Test, x.Pinned = 1, "b" },
		"failed just now": func(x *policy.Input) { x.Test, x.Facts = 1, facts(map[string]policy.Facts{"a": {Failing: true}}) },
	} {
		if n := tried(edit); n != 0 {
			t.Errorf("%s: %d of 10,000 sessions try", name, n)
		}
	}
	in.Current, in.Session = "a", "s1"
	if a, _ := p.Decide(&in); a.Chosen == "a" {
		t.Error("a session on a failing CDN that tries nothing stays")
	}
	in.Trying = "a"
	if a, _ := p.Decide(&in); a.Chosen != "a" || a.Reason != policy.ReasonStay {
		t.Errorf("the session that tries a is sent to %s: %s", a.Chosen, a.Reason)
	}
}

// TestPenalisedComesLast: behind full and failing ones, and never first while
// another is there.
func TestPenalisedComesLast(t *testing.T) {
	p := compiled(t, schemas.Policy{Kind: schemas.PolicyAffinity, Explore: 0.5})
	in := policy.Input{PublishCDN: "a", CDNs: three(), Avoid: []string{"a"}, Facts: facts(map[string]policy.Facts{"b": {Viewers: 99}, "c": {Failing: true, Probe: 0.1}})}
	for i := range 200 {
		in.Session = "s" + strconv.Itoa(i)
		a, err := p.Decide(&in)
		if err != nil || a.Candidates[2].CDN != "a" || a.Candidates[2].Tier != "penalised" || a.Chosen == "a" {
			t.Fatalf("%s: %+v, %v", order(&a), a.Candidates, err)
		}
	}
	in.Current = "a" // it plays there: so it is in no penalty box
	if a, _ := p.Decide(&in); a.Chosen != "a" || a.Reason != policy.ReasonStay {
		t.Errorf("%s: %s", order(&a), a.Reason)
	}
}

// TestTrial: of the sessions on a CDN that loses much, few go and see how others serve.
func TestTrial(t *testing.T) {
	moved := 0
	for i := range 2000 {
		in := policy.Input{Session: fmt.Sprint("s", i), CDNs: three(), Current: "a", SinceMoveSec: math.Inf(1), Facts: policy.FactsOf(three(), map[string]policy.Facts{"a": {Viewers: 2000, Trial: 0.01}})}
		a, err := policy.Builtin(policy.Affinity).Decide(&in)
		if err != nil {
			t.Fatal(err)
		}
		if a.Chosen != "a" {
			moved++
			if a.Reason != policy.ReasonTrial {
				t.Fatalf("moved for %q", a.Reason)
			}
		}
	}
	if moved < 8 || moved > 40 {
		t.Errorf("%d of 2000 sessions were moved, a hundredth was to be", moved)
	}
}

// TestTrialIsWhereNobodyKnows: who leaves to see how another serves does not go where as much is lost.
func TestTrialIsWhereNobodyKnows(t *testing.T) {
	for _, x := range []struct {
		c    policy.Facts
		goes string
	}{{policy.Facts{}, "c"}, {policy.Facts{Trial: 1}, "a"}} {
		in := policy.Input{Session: "s", CDNs: three(), Current: "a", SinceMoveSec: math.Inf(1), Facts: policy.FactsOf(three(), map[string]policy.Facts{"a": {Trial: 1}, "b": {Trial: 1}, "c": x.c})}
		if a, err := policy.Builtin(policy.Affinity).Decide(&in); err != nil || a.Chosen != x.goes {
			t.Errorf("with %+v at c it goes to %s: %v", x.c, a.Chosen, err)
		}
	}
}
