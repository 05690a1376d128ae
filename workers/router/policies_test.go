package router_test

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/workers/router"
)

func TestPoliciesOfTheBucket(t *testing.T) {
	b := world(t)
	reg := prometheus.NewRegistry()
	r := start(t, b.JS, func(s *router.Settings) { s.Registerer = reg })
	of := func(r instance) string { // of the policy that decides now
		id := r.dispatch(t, "").SessionID
		said := ""
		await.True(t, "the decision is on the bus", func() bool {
			for _, d := range decisions(t, b.JS, schemas.DecisionDispatch) {
				if d.SessionID == id {
					said = d.Policy + " " + d.PolicyVersion + " " + d.Chosen
				}
			}
			return said != ""
		})
		return said
	}
	version := func() string { return of(r) }
	put(t, b.JS, schemas.BucketApps, "live", schemas.AppSettings{Policy: "mine"})
	put(t, b.JS, schemas.BucketPolicies, "mine", schemas.Policy{Name: "mine", Version: 1, Kind: schemas.PolicyExpression, Score: "cdn == 'b' ? 1.0 : 0.0"})
	await.True(t, "the application's policy decides", func() bool { return version() == "mine 2.1 b" })
	// One that cannot be understood changes nothing.
	put(t, b.JS, schemas.BucketPolicies, "mine", schemas.Policy{Name: "mine", Version: 2, Kind: schemas.PolicyExpression, Score: "cdn =="})
	// One that fails at run time is set aside for the last that works.
	put(t, b.JS, schemas.BucketPolicies, "mine", schemas.Policy{Name: "mine", Version: 3, Kind: schemas.PolicyExpression, Score: "harm / harm"})
	await.True(t, "the newest version is tried and fails", func() bool {
		if said := version(); said != "mine 2.1 b" {
			t.Fatalf("%s decides, and not the version before the one that fails", said)
		}
		all, err := reg.Gather()
		return err == nil && slices.ContainsFunc(all, func(f *dto.MetricFamily) bool { return f.GetName() == "spillway_router_policy_failures_total" })
	})
	if said := version(); said != "mine 2.1 b" {
		t.Errorf("%s decides, and not the version before the one that fails", said)
	}
	raised := event(t, b.JS, schemas.EventAlertRaised)
	if raised.Detail["rule"] != "policy_mine" || !strings.Contains(raised.Reason, "Version 3 of policy mine is set aside and version 1 decides: policy mine version 3 fails for CDN") {
		t.Errorf("the alert says %+v", raised)
	}
	// A router that has begun since has to read the version before.
	later := start(t, b.JS)
	await.True(t, "it finds the version before the one that fails", func() bool { return of(later) == "mine 2.1 b" })
	later.stop()
	put(t, b.JS, schemas.BucketPolicies, "mine", schemas.Policy{Name: "mine", Version: 4, Kind: schemas.PolicyWeighted, Weights: map[string]float64{"c": 1}})
	await.True(t, "the next version is tried", func() bool { return version() == "mine 2.4 c" })
	if over := event(t, b.JS, schemas.EventAlertCleared); over.Detail["rule"] != "policy_mine" {
		t.Errorf("the alert is over: %+v", over)
	}

	// Versions begin again when a policy is removed: what failed before does not count against them.
	kv, err := b.JS.KeyValue(t.Context(), schemas.BucketPolicies)
	if err != nil {
		t.Fatal(err)
	}
	if err := kv.Delete(t.Context(), "mine"); err != nil {
		t.Fatal(err)
	}
	await.True(t, "affinity decides without it", func() bool { return version() == "affinity 2.1 a" })
	put(t, b.JS, schemas.BucketPolicies, "mine", schemas.Policy{Name: "mine", Version: 3, Kind: schemas.PolicyExpression, Score: "cdn == 'b' ? 1.0 : 0.0"})
	await.True(t, "a new version of the number that failed decides", func() bool { return version() == "mine 2.3 b" })
}

// event waits for the first event of a kind.
func event(t *testing.T, js jetstream.JetStream, kind schemas.EventKind) (e schemas.Event) {
	t.Helper()
	await.True(t, "there is an event "+string(kind), func() bool {
		all := records(t, js, "events."+string(kind)+".>")
		if len(all) == 0 {
			return false
		}
		if err := schemas.DecodeRecord(all[0].Data(), &e); err != nil {
			t.Fatal(err)
		}
		return true
	})
	return e
}

// TestTelemetryTakesAFailingCDNOut: reports of sessions that routers began say
// that one CDN does not serve; new sessions go elsewhere, those on it are told to leave.
func TestTelemetryTakesAFailingCDNOut(t *testing.T) {
	b := world(t)
	r := start(t, b.JS)
	var sessions []schemas.Dispatch
	for i := range 24 {
		sessions = append(sessions, r.dispatch(t, "&pin="+[]string{"a", "b"}[i%2]))
	}
	report := func(i int, cdn string) schemas.Slice {
		s := schemas.Slice{Kind: schemas.SliceDelta, SessionID: sessions[i].SessionID, CDN: cdn, Region: "eu", PlayedMs: 5000}
		if cdn == "a" {
			s.PlayedMs, s.StalledMs = 500, 4500
		}
		return s
	}
	free := r.dispatch(t, "")
	if free.Candidates[0].CDN != "a" {
		t.Fatalf("the publisher's CDN is first while nothing is wrong: %+v", free.Candidates)
	}
	await.True(t, "new sessions leave the failing CDN", func() bool {
		var rows []schemas.Slice
		for i := range sessions {
			rows = append(rows, report(i, []string{"a", "b"}[i%2]))
		}
		data, err := schemas.EncodeSlices(rows)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.JS.Publish(t.Context(), schemas.SlicesSubject(0), data); err != nil {
			t.Fatal(err)
		}
		return r.dispatch(t, "").Candidates[0].CDN != "a"
	})
	if a := r.get(t, "/v1/steering?s="+free.Token+"&_HLS_pathway=a"); !strings.Contains(a.body, `["b",`) {
		t.Errorf("a session on the failing CDN stays there: %s", a.body)
	}
	reasons := map[string]bool{}
	await.True(t, "the decisions say why", func() bool {
		for _, d := range decisions(t, b.JS, schemas.DecisionDispatch) {
			reasons[d.ReasonCode] = true
		}
		return reasons["failing"]
	})
}

// TestAMoveIsRememberedInTheToken: a router that knows nothing of a session does
// not move it again within the dwell.
func TestAMoveIsRememberedInTheToken(t *testing.T) {
	b := world(t)
	put(t, b.JS, schemas.BucketPolicies, "q", schemas.Policy{Name: "q", Version: 1, Kind: schemas.PolicyExpression, Score: "cdn == 'b' ? 1.0 : 0.0", Hysteresis: 0.1})
	r := start(t, b.JS, func(s *router.Settings) { s.Policy = "q" })
	d := r.dispatch(t, "")
	await.True(t, "b is best", func() bool { d = r.dispatch(t, ""); return d.Candidates[0].CDN == "b" })
	put(t, b.JS, schemas.BucketPolicies, "q", schemas.Policy{Name: "q", Version: 2, Kind: schemas.PolicyExpression, Score: "cdn == 'c' ? 1.0 : 0.0", Hysteresis: 0.1})
	var moved string
	await.True(t, "the session is moved to c", func() bool {
		a := r.get(t, "/v1/steering?s="+d.Token+"&_HLS_pathway=b")
		_, next, _ := strings.Cut(a.body, "/v1/steering?s=")
		moved, _, _ = strings.Cut(next, `"`)
		return strings.Contains(a.body, `["c",`)
	})
	c, err := newSigner(t).ParseSteering(moved, time.Now())
	if err != nil || c.MovedUnix == 0 || c.SessionID != d.SessionID {
		t.Fatalf("token of the next reload: %+v, %v", c, err)
	}
	put(t, b.JS, schemas.BucketPolicies, "q", schemas.Policy{Name: "q", Version: 3, Kind: schemas.PolicyExpression, Score: "cdn == 'a' ? 1.0 : 0.0", Hysteresis: 0.1})
	await.True(t, "a is best for new sessions", func() bool { return r.dispatch(t, "").Candidates[0].CDN == "a" })
	for i := range 5 {
		if a := r.get(t, "/v1/steering?s="+moved+"&_HLS_pathway=c&n="+strconv.Itoa(i)); !strings.Contains(a.body, `["c",`) {
			t.Fatalf("moved twice within the dwell: %s", a.body)
		}
	}
}

// TestPublishersAreDrawnByStream: publishers have no session, and must not all
// be sent to the one CDN that the lot of no session draws.
func TestPublishersAreDrawnByStream(t *testing.T) {
	b := world(t)
	put(t, b.JS, schemas.BucketPolicies, "w", schemas.Policy{Name: "w", Version: 1, Kind: schemas.PolicyWeighted, Weights: map[string]float64{"a": 1, "b": 1, "c": 1}})
	r := start(t, b.JS, func(s *router.Settings) { s.Policy = "w"; s.PublishURL = "rtmp://{cdn}/{app}/{stream}" })
	first := map[string]bool{}
	for i := range 40 {
		var d schemas.Dispatch
		a := r.get(t, "/v1/dispatch?publish=1&app=live&stream=s"+strconv.Itoa(i))
		if err := json.Unmarshal([]byte(a.body), &d); err != nil || len(d.Candidates) != 3 {
			t.Fatalf("%v: %s", err, a.body)
		}
		first[d.Candidates[0].CDN] = true
	}
	if len(first) != 3 {
		t.Errorf("40 publishers are sent to %v", first)
	}
}
