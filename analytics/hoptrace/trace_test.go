package hoptrace

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/hops"
)

var key = schemas.StreamKey{App: "live", Stream: "demo"}

// world makes the notes of a stream that is healthy but for what a test changes.
type world struct {
	parts int
	// change may alter or drop (false) a note.
	change func(n *hops.Note) bool
	extra  []hops.Note
}

func (w world) report() Report {
	t := New(key)
	put := func(n hops.Note) {
		if w.change == nil || w.change(&n) {
			t.Add(n)
		}
	}
	for i := range w.parts {
		done := int64(1_800_000_000_000_000 + i*2_000_000)
		note := func(hop string, ms float64) hops.Note {
			return hops.Note{Hop: hop, Rendition: "src", Track: "video", Epoch: 1, MSN: uint64(i), AtUs: done + int64(ms*1000), DelayMs: &ms}
		}
		put(note(schemas.HopPublish, -120))
		put(note(schemas.HopIngest, 0))
		put(note(schemas.HopStored, 4))
		for _, o := range []string{"o1", "o2"} {
			n := note(schemas.HopPackaged, 6)
			n.Server = o
			put(n)
			n = note(schemas.HopOrigin, 15)
			n.Server, n.Code = o, 200
			put(n)
		}
		for _, cdn := range []string{"a", "b"} {
			n, fb := note(schemas.HopEdge, 20), int32(180) // held until the part was there
			n.CDN, n.Code, n.FirstByteMs = cdn, 200, &fb
			put(n)
			lb := int32(205)
			n = note(schemas.HopPlayer, 45)
			n.CDN, n.Code, n.LastByteMs = cdn, 200, &lb
			put(n)
			p, kbps, br, stale := hops.Note{Hop: schemas.HopProbe, CDN: cdn, Code: 200, AtUs: done}, int32(20_000), int32(2500), int64(400)
			p.FirstByteMs, p.ThroughputKbps, p.BitrateKbps, p.StalenessMs = &fb, &kbps, &br, &stale
			put(p)
		}
	}
	for _, n := range w.extra {
		t.Add(n)
	}
	return t.Report(time.Duration(w.parts) * 2 * time.Second)
}

func is(hop, cdn string) func(n *hops.Note) bool {
	return func(n *hops.Note) bool { return n.Hop == hop && (cdn == "" || n.CDN == cdn || n.Server == cdn) }
}

// Each fault is told of at its hop, and nowhere else.
func TestTheBadHopIsNamed(t *testing.T) {
	at := func(which func(*hops.Note) bool, do func(n *hops.Note) bool) func(*hops.Note) bool {
		return func(n *hops.Note) bool { return !which(n) || do(n) }
	}
	later := func(ms float64) func(n *hops.Note) bool {
		return func(n *hops.Note) bool {
			d := *n.DelayMs + ms
			n.DelayMs, n.AtUs = &d, n.AtUs+int64(ms*1000)
			return true
		}
	}
	late := func(n *hops.Note) bool { later(900)(n); fb := int32(1000); n.FirstByteMs = &fb; return true }
	odd := func(code int) func(n *hops.Note) bool {
		return func(n *hops.Note) bool {
			if n.MSN%2 == 1 {
				n.Code, n.DelayMs = code, nil
			}
			return true
		}
	}
	stale := int64(9000)
	slow, starved := int32(1500), int32(300)
	starve := func(n *hops.Note) bool {
		switch {
		case n.CDN != "b":
		case n.Hop == schemas.HopProbe:
			n.ThroughputKbps = &starved
		case n.Hop == schemas.HopPlayer:
			later(900)(n)
			lb := int32(1100)
			n.LastByteMs = &lb
		}
		return true
	}
	// They asked six seconds after the part was there, as another player's latency has it.
	lateAsker := func(n *hops.Note) bool { later(6000)(n); lb := int32(60); n.LastByteMs = &lb; return true }
	for name, x := range map[string]struct {
		change    func(*hops.Note) bool
		hop, who  string
		text      string
		wantClock string
	}{
		"healthy":              {},
		"an edge with errors":  {change: at(is(schemas.HopEdge, "b"), odd(503)), hop: schemas.HopEdge, who: "b", text: "50 %"},
		"an edge that is away": {change: at(is(schemas.HopProbe, "b"), func(n *hops.Note) bool { n.Code = -1; return true }), hop: schemas.HopEdge, who: "b", text: "no answer"},
		"a slow edge":          {change: at(is(schemas.HopEdge, "b"), late), hop: schemas.HopEdge, who: "b", text: "slow"},
		"a slow edge that is only probed": {change: at(is(schemas.HopProbe, "b"), func(n *hops.Note) bool { n.FirstByteMs = &slow; return true }),
			hop: schemas.HopEdge, who: "b", text: "slow"},
		"an edge that is starved, by its players":                   {change: at(is(schemas.HopPlayer, "b"), starve), hop: schemas.HopPlayer, who: "b", text: "925 ms"},
		"an edge that is starved, by its players, without its logs": {change: func(n *hops.Note) bool { return n.Hop == schemas.HopProbe || n.Hop != schemas.HopEdge && starve(n) }, hop: schemas.HopPlayer, who: "b", text: "945 ms"},
		"an edge that is starved and only probed":                   {change: at(is(schemas.HopProbe, "b"), starve), hop: schemas.HopEdge, who: "b", text: "0.3 Mbit/s (median) of a stream of 2.5"},
		"players that ask late":                                     {change: at(is(schemas.HopPlayer, "b"), lateAsker)},
		"an origin, an edge and players asked late":                 {change: at(func(n *hops.Note) bool { return n.Hop == schemas.HopOrigin || n.Hop == schemas.HopEdge && n.CDN == "b" }, func(n *hops.Note) bool { later(6000)(n); fb := int32(9); n.FirstByteMs = &fb; return true })},
		"stale playlists":                                           {change: at(is(schemas.HopProbe, "b"), func(n *hops.Note) bool { n.StalenessMs = &stale; return true }), hop: schemas.HopEdge, who: "b", text: "stale"},
		"an origin that loses":                                      {change: at(is(schemas.HopPackaged, "o2"), func(n *hops.Note) bool { return n.MSN%3 != 1 }), hop: schemas.HopPackaged, who: "o2", text: "never came"},
		"an origin that is late":                                    {change: at(is(schemas.HopPackaged, "o2"), later(700)), hop: schemas.HopPackaged, who: "o2", text: "adds 702 ms"},
		"a bus that is slow":                                        {change: func(n *hops.Note) bool { return n.Hop != schemas.HopStored || later(400)(n) }, hop: schemas.HopStored, text: "adds 404 ms"},
		"an origin's clock":                                         {change: at(is(schemas.HopPackaged, "o2"), later(-300)), wantClock: "origin o2 is at least 294 ms"},
		"an edge's clock":                                           {change: at(is(schemas.HopEdge, "b"), later(-300)), wantClock: "CDN b is at least 280 ms"},
		"a publisher's long line":                                   {change: at(is(schemas.HopPublish, ""), later(-4000)), hop: schemas.HopIngest, text: "publisher"},
	} {
		t.Run(name, func(t *testing.T) {
			r := world{parts: 12, change: x.change}.report()
			if x.hop == "" && len(r.Bad) > 0 || x.hop != "" && (len(r.Bad) == 0 || r.Bad[0].Hop != x.hop || r.Bad[0].Name != x.who || !strings.Contains(r.Bad[0].Text, x.text)) {
				t.Errorf("bad hops: %+v; expected %s %s: %s", r.Bad, x.hop, x.who, x.text)
			}
			for _, f := range r.Bad[min(1, len(r.Bad)):] {
				if f.Hop != x.hop || f.Name != x.who {
					t.Errorf("%s %s is accused, too: %s", f.Hop, f.Name, f.Text)
				}
			}
			told := slices.ContainsFunc(r.Clocks, func(s string) bool { return strings.Contains(s, x.wantClock) })
			if x.wantClock == "" && len(r.Clocks) > 0 || x.wantClock != "" && !told {
				t.Errorf("clocks: %q; expected %q", r.Clocks, x.wantClock)
			}
			var text strings.Builder
			if err := r.WriteText(&text); err != nil || x.hop != "" && !strings.Contains(text.String(), "BAD") {
				t.Errorf("the text does not say it (%v):\n%s", err, text.String())
			}
		})
	}
}

// What is lost before ingest has no name; the publisher's protocol counts it.
func TestLossOnThePublishersWay(t *testing.T) {
	state := func(epoch uint32, lost, again uint64) *schemas.StreamState {
		return &schemas.StreamState{Epoch: schemas.EpochOpen{Epoch: epoch}, Stats: schemas.PublisherStats{PacketsLost: lost, PacketsRetransmitted: again}}
	}
	for name, x := range map[string]struct {
		began, ended *schemas.StreamState
		bad          bool
	}{
		"lost":              {state(1, 10, 10), state(1, 40, 25), true},
		"came again":        {state(1, 10, 4), state(1, 40, 34), false},
		"a few not yet":     {state(1, 10, 4), state(1, 1010, 990), false},
		"lost before":       {state(1, 40, 0), state(1, 40, 0), false},
		"another epoch":     {state(1, 10, 0), state(2, 40, 0), false},
		"counted from anew": {state(1, 40, 0), state(1, 10, 0), false},
		"not told":          {nil, state(1, 40, 0), false},
	} {
		tr := New(key)
		tr.Link(x.began, x.ended)
		if r := tr.Report(time.Second); x.bad != (len(r.Bad) == 1 && r.Bad[0].Hop == schemas.HopIngest && strings.Contains(r.Bad[0].Text, "15 packets")) || !x.bad && len(r.Bad) > 0 {
			t.Errorf("%s: %+v", name, r.Bad)
		}
	}
}

func TestDelaysAreAddedUpByHop(t *testing.T) {
	r := world{parts: 10}.report()
	want := map[string][2]float64{"publish": {-120, 0}, "ingest": {0, 120}, "stored": {4, 4}, "packaged": {6, 2}, "origin": {15, 9}, "edge": {20, 5}, "player": {45, 25}}
	for _, h := range r.Hops {
		w := want[h.Hop]
		if h.Parts != 10 || *h.DelayP50Ms != w[0] || h.Hop != "publish" && *h.AddedP50Ms != w[1] || h.Missing != 0 {
			t.Errorf("%s %s: %d parts, %d missing, delay %v, added %v; expected 10, 0, %v", h.Hop, h.Name, h.Parts, h.Missing, *h.DelayP50Ms, h.AddedP50Ms, w)
		}
	}
	if len(r.Hops) != 3+2+2+2+2 || len(r.Probes) != 2 {
		t.Errorf("%d hops and %d probes", len(r.Hops), len(r.Probes))
	}
	// What came too late to be further on is not lost, nor what an origin did not read yet.
	fresh := hops.Note{Hop: schemas.HopStored, Rendition: "src", Track: "video", Epoch: 1, MSN: 9, Part: 5, AtUs: 1_800_000_000_000_000 + 19_000_000}
	r = world{parts: 10, extra: []hops.Note{fresh}}.report()
	for _, h := range r.Hops {
		if h.Missing != 0 {
			t.Errorf("%s %s misses %d", h.Hop, h.Name, h.Missing)
		}
	}
	empty := New(key).Report(time.Second)
	if len(empty.Notes) != 1 {
		t.Errorf("nothing heard: %q", empty.Notes)
	}
}
