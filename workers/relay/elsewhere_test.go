package relay_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/regions"
	"github.com/spillway-live/spillway/workers/router"
)

// dispatched begins a session on a CDN.
func dispatched(t *testing.T, r *router.Router, cdn string) (id string) {
	t.Helper()
	var d schemas.Dispatch
	await.True(t, "the router dispatches to "+cdn, func() bool {
		body := get(t, r.URL()+"/v1/dispatch?app=live&stream=demo&pin="+cdn)
		return body != "" && json.Unmarshal([]byte(body), &d) == nil
	})
	return d.SessionID
}

// decidedIn publishes a decision in a region as a router there would.
func decidedIn(t *testing.T, r *regions.Region, session, cdn string) {
	t.Helper()
	d := &schemas.Decision{ID: "of-" + session, TimeUs: time.Now().UnixMicro(), Kind: schemas.DecisionDispatch, App: "live", Stream: "demo", SessionID: session, Chosen: cdn, Probability: 1}
	data, err := schemas.EncodeRecord(d)
	if err != nil {
		t.Fatal(err)
	}
	w, _ := d.Where()
	if _, err := r.JS.PublishMsg(patient(t), &nats.Msg{Subject: schemas.DecisionSubject(d), Data: data, Header: nats.Header{schemas.HeaderWhere: {w.String()}, "Nats-Msg-Id": {d.ID}}}); err != nil {
		t.Fatal(err)
	}
}

// elsewhereOf counts each decision of other regions that a region's bus has.
func elsewhereOf(t *testing.T, r *regions.Region) map[string]int {
	t.Helper()
	out := map[string]int{}
	for _, m := range messagesOf(t, r, schemas.StreamElsewhere) {
		if err := schemas.ReadElsewhere(m.Data, func(_ time.Duration, w schemas.Where) { out[w.SessionID]++ }); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// decisionsOf counts each decision that a region's bus has to be loaded or sent up.
func decisionsOf(t *testing.T, r *regions.Region) map[string]int {
	t.Helper()
	out := map[string]int{}
	for _, m := range messagesOf(t, r, schemas.StreamDecisions) {
		all, err := schemas.DecodeRecords[schemas.Decision](m.Data)
		if err != nil {
			t.Fatal(err)
		}
		for i := range all {
			out[all[i].SessionID]++
		}
	}
	return out
}

// decisionsAreShared goes on where TestSlicesComeFromTheParent has shown that slices come:
// a session that a router of one region sends somewhere counts at the routers of all others,
// before anything is heard of how it is served, and once: over two links, over one that was
// cut, and over a relay that was killed.
func decisionsAreShared(t *testing.T, all []*regions.Region, cut, pass func(), restart func() (then func()), signer *token.Signer, there *router.Router) {
	a, b, far := all[0], all[1], all[2]
	putIn(t, a, schemas.BucketCDNs, "z", schemas.CDN{Name: "z", BaseURL: "http://z.example", State: schemas.CDNActive})
	putIn(t, far, schemas.BucketCDNs, "z", schemas.CDN{Name: "z", BaseURL: "http://z.example", State: schemas.CDNActive, Order: 9})
	liveIn(t, a)
	here := runRouter(t, a, signer, "another salt of a region")
	ofA, ofB, ofC := []string{}, []string{}, []string{}
	counted := func() {
		t.Helper()
		n := len(ofA) + len(ofB) + len(ofC)
		await.True(t, fmt.Sprintf("both routers know of all %d sessions", n), func() bool {
			return here.Viewers()["z"] == n && there.Viewers()["z"] == n
		})
	}
	for range 3 {
		ofA = append(ofA, dispatched(t, here, "z"))
	}
	counted()
	// How they are served counts, since their groups are known.
	await.True(t, "region c knows how sessions of region a are served", func() bool {
		for _, id := range ofA {
			sliced(t, a, id, "z")
		}
		h := healthIn(t, far, "z")
		return h != nil && h.StallRatio.Value > 0.4
	})
	ofC = append(ofC, dispatched(t, there, "z"))
	ofB = append(ofB, signer.NewSessionID())
	decidedIn(t, b, ofB[0], "z")
	counted()

	cut()
	ofA = append(ofA, dispatched(t, here, "z"), dispatched(t, here, "z"))
	ofC = append(ofC, dispatched(t, there, "z"))
	await.True(t, "region b has what region a decided", func() bool { return len(elsewhereOf(t, b)) >= len(ofA) })
	pass()
	counted()
	then := restart()
	ofA = append(ofA, dispatched(t, here, "z"))
	then()
	counted()

	// What each region has is of others, and there once.
	for _, x := range []struct {
		r      *regions.Region
		others []string
	}{{a, nil}, {b, ofA}, {far, append(ofA, ofB...)}} {
		got := elsewhereOf(t, x.r)
		for _, id := range x.others {
			if got[id] != 1 {
				t.Errorf("region %s has the decision about %s %d times", x.r.Name, id, got[id])
			}
			delete(got, id)
		}
		if len(got) != 0 {
			t.Errorf("region %s was told of what it decided or sent up: %v", x.r.Name, got)
		}
	}
	// What is loaded is in region a, each decision once; nothing that came down is in what goes up.
	await.True(t, "region a has all decisions to be loaded", func() bool {
		got := decisionsOf(t, a)
		for _, id := range strings.Fields(strings.Join(append(append(ofA, ofB...), ofC...), " ")) {
			if got[id] == 0 {
				return false
			}
		}
		return true
	})
	for _, r := range all {
		for id, n := range decisionsOf(t, r) {
			if n != 1 {
				t.Errorf("region %s has %d decisions about %s", r.Name, n, id)
			}
		}
	}
	for _, id := range append(ofA, ofB...) {
		if decisionsOf(t, far)[id] != 0 {
			t.Errorf("the decision about %s came down into what goes up", id)
		}
	}
}
