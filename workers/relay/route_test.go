package relay

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
)

// at makes a region's entry: the path to it, the epoch, and whether it has the chunks.
func at(epoch uint32, held bool, nearest, delay time.Duration, path ...string) *schemas.Location {
	return &schemas.Location{
		App: "live", Stream: "x", Path: path, Held: held, NearestUs: nearest.Microseconds(), DelayUs: delay.Microseconds(),
		State: schemas.StreamState{App: "live", Stream: "x", Live: true, Epoch: schemas.EpochOpen{Epoch: epoch}},
	}
}

const ms = time.Millisecond

func TestChoose(t *testing.T) {
	tests := []struct {
		name    string
		local   *schemas.Location
		offers  []offer
		current string
		via     string
		path    []string
	}{
		{name: "nothing"},
		{name: "published here", local: at(3, true, 0, 0, "me"), offers: []offer{{"b", ms, at(3, true, 0, 0, "a", "b")}}, path: []string{"me"}},
		{name: "a newer publication elsewhere", local: at(3, true, 0, 0, "me"), offers: []offer{{"b", ms, at(4, true, 0, 0, "b")}}, via: "b", path: []string{"b", "me"}},
		{name: "the nearer of two that have it", offers: []offer{{"b", 40 * ms, at(1, true, 0, 5*ms, "a", "b")}, {"c", 10 * ms, at(1, true, 0, 50*ms, "a", "c")}}, via: "c", path: []string{"a", "c", "me"}},
		{name: "who has it before who would have to get it", offers: []offer{{"b", 20 * ms, at(1, false, 30*ms, 30*ms, "a", "b")}, {"c", 40 * ms, at(1, true, 0, 50*ms, "a", "c")}}, via: "c", path: []string{"a", "c", "me"}},
		{name: "far away it is nearer over one that must get it", offers: []offer{{"b", 2 * ms, at(1, false, ms, ms, "a", "b")}, {"c", 100 * ms, at(1, true, 0, ms, "a", "c")}}, via: "b", path: []string{"a", "b", "me"}},
		{name: "no loop", offers: []offer{{"b", ms, at(1, true, 0, 0, "a", "me", "b")}}},
		{name: "another's name on the way", offers: []offer{{"b", ms, at(1, true, 0, 0, "a", "z")}}},
		{name: "the highest epoch is the stream", offers: []offer{{"b", ms, at(1, true, 0, 0, "b")}, {"c", 90 * ms, at(2, false, 0, 0, "c")}}, via: "c", path: []string{"c", "me"}},
		{name: "a little nearer is no reason to change", offers: []offer{{"b", 20 * ms, at(1, true, 0, 0, "a", "b")}, {"c", 24 * ms, at(1, true, 0, 0, "a", "c")}}, current: "c", via: "c", path: []string{"a", "c", "me"}},
		{name: "much nearer is", offers: []offer{{"b", 20 * ms, at(1, true, 0, 0, "a", "b")}, {"c", 80 * ms, at(1, true, 0, 0, "a", "c")}}, current: "c", via: "b", path: []string{"a", "b", "me"}},
		{name: "too many hops", offers: []offer{{"h", ms, at(1, true, 0, 0, "a", "b", "c", "d", "e", "f", "g", "h")}}},
	}
	for _, x := range tests {
		t.Run(x.name, func(t *testing.T) {
			l, via := choose("me", x.local, x.offers, x.current)
			if via != x.via || (l == nil) != (x.path == nil) {
				t.Fatalf("through %q (%v), want %q", via, l, x.via)
			}
			if l != nil && !slices.Equal(l.Path, x.path) {
				t.Errorf("path %v, want %v", l.Path, x.path)
			}
			if l != nil && via != "" && (l.State.Region != x.path[0] || l.Held || l.Offers[0].Region != via) {
				t.Errorf("location %+v", l)
			}
		})
	}
}

func TestChooseAddsTheWay(t *testing.T) {
	l, _ := choose("me", nil, []offer{{"b", 20 * ms, at(1, false, 3*ms, 7*ms, "a", "b")}}, "")
	if l.DelayUs != 17_000 || l.NearestUs != 13_000 {
		t.Errorf("delay %d us, nearest %d us; want 17000 and 13000", l.DelayUs, l.NearestUs)
	}
}

func TestWanted(t *testing.T) {
	now := time.Now()
	soon, past := now.Add(time.Second), now.Add(-time.Second)
	tests := []struct {
		name     string
		here     bool
		wants    map[string]want
		own      int
		yes      bool
		watching int
		viewers  int
	}{
		{name: "by nobody"},
		{name: "here", here: true, yes: true, watching: 1},
		{name: "beyond", wants: map[string]want{"c": {2, 40, soon}, "d": {0, 5, soon}}, yes: true, watching: 2, viewers: 45},
		{name: "no longer", wants: map[string]want{"c": {2, 40, past}}},
		{name: "where it comes from", wants: map[string]want{"a": {2, 40, soon}}},
		{name: "both", here: true, own: 7, wants: map[string]want{"c": {2, 3, soon}, "a": {5, 99, soon}}, yes: true, watching: 3, viewers: 7},
		{name: "the parent hears of sessions beyond", own: 30, wants: map[string]want{"c": {1, 20, soon}, "d": {1, 20, soon}}, yes: true, watching: 2, viewers: 40},
	}
	for _, x := range tests {
		yes, who := wanted("a", x.here, x.own, x.wants, now)
		if want := (watchers{x.watching, x.viewers}); yes != x.yes || who != want {
			t.Errorf("%s: %v, %+v; want %v, %+v", x.name, yes, who, x.yes, want)
		}
	}
}

func TestHot(t *testing.T) {
	for _, x := range []struct {
		regions, viewers, watching, watched int
		live, want                          bool
	}{
		{0, 0, 9, 9000, true, false}, {3, 0, 3, 0, true, true}, {3, 0, 2, 9000, true, false},
		{0, 500, 1, 500, true, true}, {0, 500, 9, 499, true, false}, {3, 500, 1, 500, true, true}, {3, 500, 9, 9000, false, false},
	} {
		loc := at(1, true, 0, 0, "a", "me")
		loc.State.Live, loc.Watching, loc.Viewers = x.live, x.watching, x.watched
		if got := (&Relay{HotRegions: x.regions, HotViewers: x.viewers}).hot(loc); got != x.want {
			t.Errorf("%+v: %v", x, got)
		}
	}
}

// Sessions count once each, for as long as they are heard of; what is estimated is near what is.
func TestAudience(t *testing.T) {
	a, k, other := newAudience(), schemas.StreamKey{App: "live", Stream: "x"}, schemas.StreamKey{App: "live", Stream: "y"}
	now := time.Unix(1_800_000_000, 0)
	say := func(n int) {
		for i := range n {
			d := fmt.Appendf(nil, `{"id":"%d","session_id":"s%d"}`, i, i)
			if i%2 == 0 { // two in one message, which its header tells
				w := schemas.Where{TimeUs: 1, SessionID: fmt.Sprint("s", i), CDN: "a"}
				next := w
				next.SessionID = fmt.Sprint("s", i+1)
				h := nats.Header{schemas.HeaderWhere: {w.String(), schemas.WhereNowhere, next.String()}}
				a.heard(&nats.Msg{Subject: "decisions.steering.live.x", Data: []byte("[]"), Header: h}, now)
				continue
			}
			a.heard(&nats.Msg{Subject: "decisions.steering.live.x", Data: d}, now)
			a.heard(&nats.Msg{Subject: "decisions.publish.live.y", Data: d}, now)
		}
	}
	near := func(want int) {
		t.Helper()
		if got := a.of(k, now); math.Abs(float64(got-want)) > 0.05*float64(want) {
			t.Errorf("%d sessions, want about %d", got, want)
		}
	}
	near(0)
	say(1000)
	say(1000)
	near(1000)
	now = now.Add(crowdWindow + time.Second)
	near(1000)
	say(400)
	near(1000)
	now = now.Add(crowdWindow + time.Second)
	near(400)
	say(10_000)
	near(10_000)
	now = now.Add(3 * crowdWindow)
	near(0)
	if n := a.of(other, now); n != 0 {
		t.Errorf("%d publishers count as viewers", n)
	}
	a.heard(&nats.Msg{Subject: "decisions.steering.live.x", Data: []byte("{")}, now)
	near(0)
}

func TestPlacesAreInOrder(t *testing.T) {
	p := func(epoch uint32, home string, homeSeq uint64, rank int, seq uint64) *place {
		return &place{epoch: epoch, home: home, homeSeq: homeSeq, rank: rank, seq: seq}
	}
	later := []struct {
		name string
		a, b *place
	}{
		{"of one home by its sequence", p(1, "a", 10, 1, 5), p(1, "a", 11, 0, 0)},
		{"a higher epoch, whatever its sequence", p(1, "a", 10, 1, 5), p(2, "a", 3, 0, 0)},
		{"of two homes by number", p(1, "a", 10, 1, 5), p(1, "b", 3, 1, 6)},
		{"of two homes the end is last", p(1, "a", 10, 1, 5), p(1, "b", 3, 2, 0)},
	}
	for _, x := range later {
		if !x.b.after(x.a) || x.a.after(x.b) || x.a.after(x.a) {
			t.Error(x.name)
		}
	}
}

func FuzzPlaceOf(f *testing.F) {
	f.Add("chunk", "a/7", `{"v":1}`, "")
	f.Add("epoch", "", "", `{"epoch":3,"tracks":[{"init":"00112233445566778899aabbccddeeff"}]}`)
	f.Add("end", "b/x", "", `{"epoch":3}`)
	f.Fuzz(func(t *testing.T, kind, home, chunk, data string) {
		h := nats.Header{schemas.HeaderKind: {kind}, schemas.HeaderHome: {home}, schemas.HeaderChunk: {chunk}}
		p, err := placeOf("here", 1, h, []byte(data))
		if err == nil && (p.home == "" || p.homeSeq == 0 || schemas.CheckRegion(p.home) != nil) {
			t.Errorf("place %+v", p)
		}
		for _, id := range p.inits {
			if schemas.CheckInitID(id) != nil {
				t.Errorf("init %q", id)
			}
		}
	})
}

func TestGoesUp(t *testing.T) {
	for s, want := range map[string]bool{
		"telemetry.3": true, "telemetry.99": false, "events.stream_started.live.x": true, "events.a.b": false, "decisions.dispatch.live.x": true,
		"exposures.test": true, "media.1.live.x.src": false, "events.*.live.x": false, "$KV.apps.live": false, "": false, "slices.1": false,
	} {
		if goesUp(s) != want {
			t.Errorf("%q: %v", s, !want)
		}
	}
}
