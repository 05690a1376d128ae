package router

import (
	"math/rand/v2"
	"net/url"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/policy"
)

func TestBufferOfASteeringRequest(t *testing.T) {
	for query, want := range map[string]int64{
		"": 0, "bl=7200": 7200, "bl=-1": 0, "bl=x": 0, "bl=99999999999": 0,
		"CMCD=" + url.QueryEscape("bl=(8000;v 6100;a),v=2"): 6100, "CMCD=" + url.QueryEscape("bl=4000,sid=\"x\""): 4000, "CMCD=%22&bl=5": 5,
	} {
		v, err := parseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if got := bufferOf(v); got != want {
			t.Errorf("%s: %d ms, want %d", query, got, want)
		}
	}
}

// TestFewTryAndNewSessionsAreSpared: about as many sessions as are needed, however
// many could, and new ones only while that is so.
func TestFewTryAndNewSessionsAreSpared(t *testing.T) {
	var d deepBuffers
	now := time.Unix(1_795_000_000, 0)
	random := rand.New(rand.NewPCG(1, 2))
	there := map[int]bool{} // tries a
	for range 5 {           // rounds
		for i := range 2000 {
			if there[i] || random.Float64() < d.share(now) {
				there[i] = true
				d.tests(part{cdn: "a"}, now)
			}
			now = now.Add(deepRound / 2000)
		}
	}
	if len(there) < enough || len(there) > 2*testers {
		t.Errorf("%d of 2000 sessions try", len(there))
	}
	if !d.tested(part{cdn: "a"}, now) || d.tested(part{cdn: "b"}, now) || d.tested(part{cdn: "a"}, now.Add(5*deepRound)) {
		t.Error("tests of this CDN spare new sessions, those of another or of long ago do not")
	}
	now = now.Add(10 * deepRound)
	if got := d.share(now); got != maxTest || d.tested(part{cdn: "a"}, now) {
		t.Errorf("a lone session that could try does with %v, and spares new ones", got)
	}
}

// TestWhoCouldTry: sessions that cannot try a failing CDN neither count among
// those who could, nor keep new sessions from it.
func TestWhoCouldTry(t *testing.T) {
	now := time.Unix(1_795_000_000, 0)
	cdns := []schemas.CDN{{Name: "a", State: schemas.CDNActive}, {Name: "b", State: schemas.CDNActive}}
	input := func() *policy.Input {
		return &policy.Input{CDNs: cdns, Facts: []policy.Facts{{Failing: true, Probe: 0.01}, {}}}
	}
	able := asked{current: "b", bufferMs: deepBufferMs}
	var r Router
	for name, edit := range map[string]func(*asked){
		"new":       func(q *asked) { q.current = "" },
		"thin":      func(q *asked) { q.bufferMs-- },
		"pinned":    func(q *asked) { q.pin = "b" },
		"penalised": func(q *asked) { q.avoid = []string{"a"} },
		"there":     func(q *asked) { q.current = "a" },
	} {
		q, in := able, input()
		edit(&q)
		if r.spare(&q, in, now); in.Test != 0 || r.deep.now.could != 0 || in.Facts[0].Probe == 0 {
			t.Errorf("%s: %+v", name, in)
		}
	}
	for range 100 { // could, and do not
		r.spare(&able, input(), now)
	}
	in := input()
	if r.spare(&asked{}, in, now); in.Facts[0].Probe == 0 {
		t.Error("new sessions are spared though nobody tries")
	}
	for range enough {
		r.noteTest(&able, in, &policy.Answer{Chosen: "a", Reason: policy.ReasonProbe}, now)
		r.noteTest(&able, in, &policy.Answer{Chosen: "b", Reason: policy.ReasonStay}, now)
	}
	if r.spare(&asked{}, in, now); in.Facts[0].Probe != 0 || r.deep.now.testing() != enough {
		t.Errorf("new sessions are not spared though %d try", r.deep.now.testing())
	}
	trying := asked{current: "a", trying: "a"}
	if r.noteTest(&trying, in, &policy.Answer{Chosen: "a", Reason: policy.ReasonStay}, now); r.deep.now.testing() != enough+1 {
		t.Error("who stays to try does not count")
	}
	elsewhere := input() // where it fails in one region alone others must try it
	elsewhere.Region, elsewhere.Facts[0].FailingIn = "us", "region"
	if r.spare(&asked{}, elsewhere, now); elsewhere.Facts[0].Probe == 0 {
		t.Error("new sessions of a region are spared by tests of others")
	}
	in.Facts[0].Failing = false
	if r.noteTest(&trying, in, &policy.Answer{Chosen: "a", Reason: policy.ReasonStay}, now); r.deep.now.testing() != enough+1 {
		t.Error("who stays on a CDN that is back counts as a test")
	}
}
