package relay

import (
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
	loc := at(1, true, 0, 0, "a", "me")
	loc.Watching = 3
	tests := []struct {
		name     string
		here     bool
		wants    map[string]want
		hot      int
		yes      bool
		watching int
	}{
		{name: "by nobody"},
		{name: "here", here: true, yes: true, watching: 1},
		{name: "beyond", wants: map[string]want{"c": {2, soon}, "d": {0, soon}}, yes: true, watching: 2},
		{name: "no longer", wants: map[string]want{"c": {2, past}}},
		{name: "where it comes from", wants: map[string]want{"a": {2, soon}}},
		{name: "both", here: true, wants: map[string]want{"c": {2, soon}, "a": {5, soon}}, yes: true, watching: 3},
		{name: "hot", hot: 3, yes: true},
		{name: "not hot enough", hot: 4},
	}
	for _, x := range tests {
		yes, watching := wanted(loc, "a", x.here, x.wants, x.hot, now)
		if yes != x.yes || watching != x.watching {
			t.Errorf("%s: %v, %d; want %v, %d", x.name, yes, watching, x.yes, x.watching)
		}
	}
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
