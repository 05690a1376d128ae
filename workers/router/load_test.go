package router_test

import (
	"fmt"
	"net"
	"reflect"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/analytics/experiments/assign"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/workers/router"
)

func TestTwoRoutersAgreeAndSpill(t *testing.T) {
	b := world(t)
	put(t, b.JS, schemas.BucketCDNs, "a", cdn("a", 0, 10))
	put(t, b.JS, schemas.BucketCDNs, "b", cdn("b", 1, 5))
	one, two := start(t, b.JS), start(t, b.JS)
	where := map[string]int{}
	for i := range 30 {
		r := one
		if i%2 == 1 {
			r = two
		}
		where[r.dispatch(t, "").Candidates[0].CDN]++
		n := i + 1
		await.True(t, "both routers know of the session", func() bool {
			x, y := one.Viewers(), two.Viewers()
			return x["a"]+x["b"]+x["c"] == n && reflect.DeepEqual(x, y)
		})
	}
	if want := (map[string]int{"a": 10, "b": 5, "c": 15}); !reflect.DeepEqual(where, want) || !reflect.DeepEqual(one.Viewers(), want) {
		t.Errorf("answered %v, counted %v, want %v", where, one.Viewers(), want)
	}
	reasons := map[string]int{}
	await.True(t, "decisions are on the bus", func() bool { return len(decisions(t, b.JS, schemas.DecisionDispatch)) == 30 })
	for _, d := range decisions(t, b.JS, schemas.DecisionDispatch) {
		reasons[d.ReasonCode]++
	}
	if reasons["affinity"] != 10 || reasons["spill"] != 20 {
		t.Errorf("reasons %v", reasons)
	}

	// A router that starts now knows the same before its first answer.
	one.stop()
	three := start(t, b.JS)
	if got := three.Viewers(); !reflect.DeepEqual(got, two.Viewers()) {
		t.Errorf("the new router counts %v, the old one %v", got, two.Viewers())
	}
	if got := three.dispatch(t, "").Candidates[0].CDN; got != "c" {
		t.Errorf("the new router sends to %s, want c", got)
	}
}

func TestStoppingPublishesWhatWasAnswered(t *testing.T) {
	b := world(t)
	r := start(t, b.JS)
	for range 100 {
		r.dispatch(t, "")
	}
	r.stop()
	if n := len(decisions(t, b.JS, schemas.DecisionDispatch)); n != 100 {
		t.Errorf("%d of 100 decisions are on the bus", n)
	}
}

func TestSlicesTellWhoIsServedWhere(t *testing.T) {
	b := world(t)
	r := start(t, b.JS)
	d := r.dispatch(t, "")
	send := func(s ...schemas.Slice) {
		t.Helper()
		data, err := schemas.EncodeSlices(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.JS.Publish(t.Context(), schemas.SlicesSubject(0), data); err != nil {
			t.Fatal(err)
		}
	}
	// The player left a by itself; a session that this router does not know is on c; ids that no router made count for nothing.
	stranger := newSigner(t).NewSessionID() // of a router that ended long ago, say
	madeUp := "s" + strings.Repeat("A", 26)
	await.True(t, "sessions are where they were served", func() bool {
		// Again and again, as a sessioniser does: what comes before the router's own decision is back counts for nothing.
		send(schemas.Slice{Kind: schemas.SliceDelta, SessionID: d.SessionID, CDN: "b"},
			schemas.Slice{Kind: schemas.SliceDelta, SessionID: stranger, CDN: "c"},
			schemas.Slice{Kind: schemas.SliceDelta, SessionID: madeUp, CDN: "c"},
			schemas.Slice{Kind: schemas.SliceDelta, SessionID: "4f2c-foreign", CDN: "c"})
		return reflect.DeepEqual(r.Viewers(), map[string]int{"b": 1, "c": 1})
	})
	if a := r.get(t, "/v1/steering?s="+d.Token); !strings.Contains(a.body, `["b","a","c"]`) {
		t.Errorf("steering forgets where the player went: %s", a.body)
	}
	if _, err := b.JS.Publish(t.Context(), schemas.SlicesSubject(1), []byte("not slices")); err != nil {
		t.Fatal(err)
	}
	await.True(t, "ended sessions are forgotten", func() bool {
		send(schemas.Slice{Kind: schemas.SliceFinal, SessionID: d.SessionID, CDN: "b"}, schemas.Slice{Kind: schemas.SliceFinal, SessionID: stranger})
		return len(r.Viewers()) == 0
	})
}

func experiment(name, layer, unit string) schemas.Experiment {
	return schemas.Experiment{
		Name: name, Status: schemas.ExperimentRunning, Salt: name + "-1", Unit: unit, Layer: layer, Coverage: 1,
		Arms: []schemas.Arm{
			{Name: "control", Weight: 1, Params: map[string]string{"policy": "affinity"}},
			{Name: "test", Weight: 1, Params: map[string]string{"policy": "balance", schemas.ParamLiveSyncSec: "2"}},
		},
	}
}

func TestExperiments(t *testing.T) {
	b := world(t)
	put(t, b.JS, schemas.BucketCDNs, "a", cdn("a", 9, 0)) // last by order: balance and affinity differ
	sessionX, viewerX := experiment("x1", "routing", "session"), experiment("x2", "player", "viewer")
	put(t, b.JS, schemas.BucketExperiments, "x1", sessionX)
	put(t, b.JS, schemas.BucketExperiments, "x2", viewerX)
	put(t, b.JS, schemas.BucketExperiments, "x3", experiment("x3", "routing", "session")) // same layer as x1: nobody
	stopped := experiment("x4", "other", "session")
	stopped.Status = schemas.ExperimentStopped
	put(t, b.JS, schemas.BucketExperiments, "x4", stopped)
	r := start(t, b.JS)
	arms := map[string]int{}
	var exposures []string
	for range 40 {
		d := r.dispatch(t, "&viewer=alice")
		c, err := newSigner(t).ParseSession(d.Token, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		i, p, ok := assign.Assign(&sessionX, d.SessionID)
		j, _, ok2 := assign.Assign(&viewerX, c.ViewerID)
		if !ok || !ok2 || p != 0.5 {
			t.Fatal("not assigned")
		}
		want := "x1=" + sessionX.Arms[i].Name + ",x2=" + viewerX.Arms[j].Name
		if d.Arms != want || c.Arms != want {
			t.Errorf("arms %q, in the token %q, want %q", d.Arms, c.Arms, want)
		}
		if d.Params["policy"] != sessionX.Arms[i].Params["policy"] {
			t.Errorf("params %v of %s", d.Params, want)
		}
		if chosen := d.Candidates[0].CDN; (chosen == "a") != (i == 0) {
			t.Errorf("arm %s went to %s", sessionX.Arms[i].Name, chosen)
		}
		arms[sessionX.Arms[i].Name]++
		exposures = append(exposures, "x1/x1-1/"+d.SessionID, "x2/x2-1/"+d.SessionID)
		r.get(t, d.URL) // the playlist is no second exposure
	}
	if arms["control"] == 0 || arms["test"] == 0 {
		t.Errorf("arms %v", arms)
	}
	if a := r.dispatch(t, ""); strings.Contains(a.Arms, "x2") {
		t.Errorf("an unknown viewer is in a viewer experiment: %s", a.Arms)
	} else {
		exposures = append(exposures, "x1/x1-1/"+a.SessionID)
	}
	r.stop()
	var got []string
	for _, m := range records(t, b.JS, "exposures.*") {
		var x schemas.Exposure
		if err := schemas.DecodeRecord(m.Data(), &x); err != nil {
			t.Fatal(err)
		}
		if x.Propensity != 0.5 || x.Reason != "assigned" || x.App != "live" || x.UnitKind == "session" && x.Unit != x.SessionID {
			t.Errorf("exposure %+v", x)
		}
		got = append(got, x.ID)
	}
	sort.Strings(got)
	sort.Strings(exposures)
	if !reflect.DeepEqual(got, exposures) {
		t.Errorf("%d exposures, want one for each session and experiment: %d", len(got), len(exposures))
	}
}

// tell puts a decision on the bus, as a router of today or as one from before HeaderWhere.
func tell(t *testing.T, js jetstream.JetStream, d *schemas.Decision, waitedMs string, today bool) {
	t.Helper()
	data, err := schemas.EncodeRecord(d)
	if err != nil {
		t.Fatal(err)
	}
	m := &nats.Msg{Subject: schemas.DecisionSubject(d), Data: data, Header: nats.Header{schemas.HeaderWaitedMs: {waitedMs}}}
	if w, ok := d.Where(); ok && today {
		m.Header.Set(schemas.HeaderWhere, w.String())
	}
	if _, err := js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}

// TestDecisionsOfOlderRouters: in a rolling upgrade routers count the sessions of those that put where a session is into
// the body alone, the window's old ones and new ones.
func TestDecisionsOfOlderRouters(t *testing.T) {
	b := world(t)
	old := func(session, chosen string, kind schemas.DecisionKind, today bool) {
		t.Helper()
		tell(t, b.JS, &schemas.Decision{ID: session, TimeUs: time.Now().UnixMicro(), Kind: kind, App: "live", Stream: "demo", SessionID: session, Chosen: chosen, Probability: 1}, "0", today)
	}
	r := start(t, b.JS)
	publisher := func() { old("publisher", "c", schemas.DecisionPublish, false) }
	publisher()
	old("s1", "a", schemas.DecisionDispatch, true)
	await.True(t, "a router of today is heard", func() bool { return r.Viewers()["a"] == 1 })
	old("s2", "b", schemas.DecisionDispatch, false)
	await.True(t, "one of yesterday is heard", func() bool { return r.Viewers()["b"] == 1 })
	old("s3", "b", schemas.DecisionSteering, false)
	publisher()
	old("s4", "a", schemas.DecisionDispatch, true)
	want := map[string]int{"a": 2, "b": 2}
	await.True(t, "both are heard", func() bool { return reflect.DeepEqual(r.Viewers(), want) })
	if next := start(t, b.JS); !reflect.DeepEqual(next.Viewers(), want) {
		t.Errorf("a router that starts now counts %v, want %v", next.Viewers(), want)
	}
}

// TestLateDecisionIsNoNewer: a decision that reaches the bus again or late, behind
// a newer one about the same session, changes nothing.
func TestLateDecisionIsNoNewer(t *testing.T) {
	b := world(t)
	r := start(t, b.JS)
	publish := func(id, session, chosen, waitedMs string) {
		t.Helper()
		tell(t, b.JS, &schemas.Decision{ID: id, TimeUs: time.Now().UnixMicro(), Kind: schemas.DecisionSteering, App: "live", Stream: "demo", SessionID: session, Chosen: chosen, Probability: 1}, waitedMs, true)
	}
	publish("new", "s1", "b", "1")
	publish("old", "s1", "c", "60000")
	publish("mark", "s2", "a", "not a number")
	await.True(t, "all are read", func() bool { return r.Viewers()["a"] == 1 })
	if got := r.Viewers(); got["b"] != 1 || got["c"] != 0 {
		t.Errorf("viewers %v: the session was last sent to b", got)
	}
}

// TestArmsTooLongForAToken: the session is in no experiment, and what is decided
// and recorded is what holds without their parameters.
func TestArmsTooLongForAToken(t *testing.T) {
	b := world(t)
	put(t, b.JS, schemas.BucketCDNs, "a", cdn("a", 9, 0))
	for i := range 16 {
		x := experiment(fmt.Sprintf("x%02d", i)+strings.Repeat("x", 50), fmt.Sprintf("layer%d", i), "session")
		for j := range x.Arms {
			x.Arms[j].Params = map[string]string{schemas.ParamPolicy: "balance"}
		}
		put(t, b.JS, schemas.BucketExperiments, x.Name, x)
	}
	r := start(t, b.JS)
	if d := r.dispatch(t, ""); d.Arms != "" || d.Params != nil || d.Candidates[0].CDN != "a" {
		t.Errorf("arms %q, parameters %v, first %s", d.Arms, d.Params, d.Candidates[0].CDN)
	}
	r.stop()
	if d := decisions(t, b.JS, schemas.DecisionDispatch); len(d) != 1 || d[0].Policy != "affinity" || d[0].Arms != "" || d[0].Chosen != "a" {
		t.Errorf("recorded %+v", d)
	}
}

func TestArmsSurviveAChange(t *testing.T) {
	b := world(t)
	x := experiment("x1", "routing", "session")
	put(t, b.JS, schemas.BucketExperiments, "x1", x)
	r := start(t, b.JS)
	d := r.dispatch(t, "")
	x.Salt = "another"
	put(t, b.JS, schemas.BucketExperiments, "x1", x)
	await.True(t, "new sessions have the new phase", func() bool {
		n := r.dispatch(t, "")
		i, _, _ := assign.Assign(&x, n.SessionID)
		return n.Arms == "x1="+x.Arms[i].Name
	})
	// Ten more playlists: the session keeps the arm in its token.
	for range 10 {
		if a := r.get(t, d.URL); !strings.Contains(a.body, d.Token) {
			t.Fatal("a playing session got another token")
		}
	}
}

// An experiment takes only its targets, and a session that plays keeps its
// arm's parameters when the experiment stops.
func TestTargetingAndStop(t *testing.T) {
	b := world(t)
	mine, others, region := experiment("mine", "l1", "session"), experiment("others", "l2", "session"), experiment("region", "l3", "session")
	mine.Targeting = &schemas.Targeting{Streams: []string{"live/*"}}
	mine.Arms[0].Params = map[string]string{schemas.ParamPolicy: "cost", schemas.ParamStartBufferSec: "1"}
	mine.Arms[1].Params = mine.Arms[0].Params
	others.Targeting = &schemas.Targeting{Streams: []string{"other/*"}}
	region.Targeting = &schemas.Targeting{Regions: []string{"mars"}}
	for _, x := range []schemas.Experiment{mine, others, region} {
		put(t, b.JS, schemas.BucketExperiments, x.Name, x)
	}
	r := start(t, b.JS)
	d := r.dispatch(t, "&viewer=alice")
	if !strings.HasPrefix(d.Arms, "mine=") || strings.Contains(d.Arms, ",") {
		t.Fatalf("arms %q, want those of the experiment that is for this stream", d.Arms)
	}
	if d.Params[schemas.ParamStartBufferSec] != "1" {
		t.Fatalf("params %v", d.Params)
	}
	mine.Status = schemas.ExperimentStopped
	put(t, b.JS, schemas.BucketExperiments, "mine", mine)
	inIt := map[string]bool{d.SessionID: true}
	await.True(t, "new sessions are in no experiment", func() bool {
		next := r.dispatch(t, "&viewer=alice")
		inIt[next.SessionID] = next.Arms != ""
		return next.Arms == ""
	})
	r.get(t, d.URL)
	r.stop()
	all := append(decisions(t, b.JS, schemas.DecisionDispatch), decisions(t, b.JS, schemas.DecisionMultivariant)...)
	if len(all) < 3 {
		t.Errorf("%d decisions", len(all))
	}
	for _, x := range all {
		if want := map[bool]string{true: "cost", false: "affinity"}[inIt[x.SessionID]]; x.Policy != want {
			t.Errorf("%s of session %s by policy %s, want %s", x.Kind, x.SessionID, x.Policy, want)
		}
	}
}

func TestBusAwayKeepsDecisions(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	srv, err := bus.Start(bus.Options{DataDir: dir, Port: port})
	if err != nil {
		t.Fatal(err)
	}
	nc, err := bus.Connect(srv.URL(), "router", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close(); srv.Stop() }) // after the router has ended
	js, err := bus.JetStream(t.Context(), nc, schemas.BusSettings{})
	if err != nil {
		t.Fatal(err)
	}
	put(t, js, schemas.BucketCDNs, "a", cdn("a", 0, 0))
	put(t, js, schemas.BucketStreams, key.KVKey(), state(key, "a"))
	r := start(t, js)
	srv.Stop()
	for range 50 {
		r.dispatch(t, "") // answered from what is known
	}
	next, err := bus.Start(bus.Options{DataDir: dir, Port: port})
	if err != nil {
		t.Fatal(err)
	}
	srv = next
	await.True(t, "the connection is back", nc.IsConnected)
	await.Text(t, "the decisions arrive", func() string {
		if n := len(decisions(t, js, schemas.DecisionDispatch)); n < 50 {
			return fmt.Sprintf("%d of 50", n)
		}
		return ""
	})
	if got := r.Viewers()["a"]; got != 50 {
		t.Errorf("%d viewers on a, want 50", got)
	}
}

func TestSettingsAreChecked(t *testing.T) {
	b := bustest.Start(t)
	good := router.Settings{JS: b.JS, Signer: newSigner(t), ViewerSalt: make([]byte, 16)}
	for name, edit := range map[string]func(*router.Settings){
		"no bus":     func(s *router.Settings) { s.JS = nil },
		"no signer":  func(s *router.Settings) { s.Signer = nil },
		"short salt": func(s *router.Settings) { s.ViewerSalt = s.ViewerSalt[:15] },
		"short TTL":  func(s *router.Settings) { s.SteeringTTL = time.Millisecond },
		"bad addr":   func(s *router.Settings) { s.Addr = "256.0.0.1:x" },
	} {
		s := good
		edit(&s)
		if _, err := router.New(s); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
