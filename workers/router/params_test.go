package router_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
)

// TestArmParametersAreObeyed: a stored version of a policy, a threshold for
// overflow and a number of neighbours hold for the sessions of an arm, and for
// nobody else.
func TestArmParametersAreObeyed(t *testing.T) {
	b := world(t)
	only := func(cdn string, version int) schemas.Policy {
		return schemas.Policy{Name: "mine", Version: version, Kind: schemas.PolicyWeighted, Weights: map[string]float64{cdn: 1}}
	}
	put(t, b.JS, schemas.BucketPolicies, "mine", only("b", 1))
	put(t, b.JS, schemas.BucketPolicies, "mine", only("c", 2))
	var near []string
	for i := range 3 {
		k := schemas.StreamKey{App: "live", Stream: fmt.Sprint("near", i)}
		near = append(near, k.Stream)
		put(t, b.JS, schemas.BucketStreams, k.KVKey(), state(k, "a"))
	}
	x := experiment("versions", "routing", "viewer")
	x.Arms[0].Params = map[string]string{schemas.ParamPolicy: "mine", schemas.ParamPreloadNeighbours: "0"}
	x.Arms[1].Params = map[string]string{schemas.ParamPolicy: "mine@1", schemas.ParamPreloadNeighbours: "2"}
	put(t, b.JS, schemas.BucketExperiments, x.Name, x)
	r := start(t, b.JS)
	first := func(viewer string) string {
		d := r.dispatch(t, "&viewer="+viewer)
		return d.Arms[strings.Index(d.Arms, "=")+1:] + " " + d.Candidates[0].CDN
	}
	var test string // a viewer of that arm
	await.True(t, "the stored version has been read", func() bool {
		for i := range 40 {
			test = fmt.Sprint("v", i)
			if first(test) == "test b" {
				return true
			}
		}
		return false
	})
	seen := map[string]bool{}
	for i := range 40 {
		d := r.dispatch(t, fmt.Sprint("&viewer=v", i, "&neighbours=", strings.Join(near, ",")))
		_, arm, _ := strings.Cut(d.Arms, "=")
		want := map[string]string{"control": "c 0", "test": "b 2"}[arm]
		if got := fmt.Sprint(d.Candidates[0].CDN, " ", len(d.Neighbours)); got != want {
			t.Fatalf("arm %s: first CDN and neighbours %s, want %s", arm, got, want)
		}
		if !seen[arm] { // steering obeys the same
			if a := r.get(t, "/v1/steering?s="+d.Token); !strings.Contains(a.body, `["`+want[:1]+`"`) {
				t.Errorf("arm %s is steered by %s, want %s first", arm, a.body, want[:1])
			}
		}
		seen[arm] = true
	}
	if len(seen) != 2 {
		t.Fatalf("arms met: %v", seen)
	}
	await.True(t, "decisions say which version decided", func() bool {
		said := map[string]bool{}
		for _, d := range decisions(t, b.JS, schemas.DecisionDispatch) {
			_, arm, _ := strings.Cut(d.Arms, "=")
			said[arm+" "+d.PolicyVersion] = true
		}
		return len(said) == 2 && said["control 2.2"] && said["test 2.1"]
	})
	var alone schemas.Dispatch
	if err := json.Unmarshal([]byte(r.get(t, "/v1/dispatch?app=live&neighbours="+strings.Join(near, ",")).body), &alone); err != nil || len(alone.Neighbours) != 3 {
		t.Errorf("%d neighbours of a page that asks for them alone, 3 were asked for (%v)", len(alone.Neighbours), err)
	}

	// Versions begin again when a policy is removed and made anew.
	kv, err := b.JS.KeyValue(t.Context(), schemas.BucketPolicies)
	if err != nil {
		t.Fatal(err)
	}
	if err := kv.Delete(t.Context(), "mine"); err != nil {
		t.Fatal(err)
	}
	put(t, b.JS, schemas.BucketPolicies, "mine", only("a", 1))
	put(t, b.JS, schemas.BucketPolicies, "mine", only("c", 2))
	await.True(t, "the new first version decides", func() bool { return first(test) == "test a" })

	// One that is not stored any more: the newest decides, and decisions say so.
	put(t, b.JS, schemas.BucketPolicies, "mine", only("a", 9))
	put(t, b.JS, schemas.BucketApps, "live", schemas.AppSettings{Policy: "mine@7"})
	x.Status = schemas.ExperimentDraft
	put(t, b.JS, schemas.BucketExperiments, x.Name, x)
	await.True(t, "the newest version decides", func() bool { return r.dispatch(t, "").Candidates[0].CDN == "a" })
}

// TestOverflowThresholdByArm: sessions of the arm leave the publisher's CDN at its
// threshold while those of the control go on to it.
func TestOverflowThresholdByArm(t *testing.T) {
	b := world(t)
	full := cdn("a", 0, 0)
	full.CapacityViewers = 100
	put(t, b.JS, schemas.BucketCDNs, "a", full)
	x := experiment("spill", "routing", "viewer")
	x.Arms[0].Params = nil
	x.Arms[1].Params = map[string]string{schemas.ParamOverflowAt: "0.1"}
	put(t, b.JS, schemas.BucketExperiments, x.Name, x)
	r := start(t, b.JS)
	for range 10 {
		r.dispatch(t, "&pin=a")
	}
	first := map[string]string{}
	for i := range 20 {
		d := r.dispatch(t, fmt.Sprint("&viewer=w", i))
		_, arm, _ := strings.Cut(d.Arms, "=")
		first[arm] = d.Candidates[0].CDN
	}
	if first["control"] != "a" || first["test"] == "a" || first["test"] == "" {
		t.Errorf("with a tenth of the capacity in use arms go to %v: want the control on a, the other elsewhere", first)
	}
}
