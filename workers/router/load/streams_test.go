package load

import (
	"log/slog"
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/policy"
)

var (
	one = schemas.StreamKey{App: "live", Stream: "one"}
	two = schemas.StreamKey{App: "live", Stream: "two"}
)

// streamed is a table with two CDNs: a, which limits the viewers of a stream, and b.
type streamed struct {
	*Table
	now  time.Time
	cdns []schemas.CDN
}

func newStreamed(limit int) *streamed {
	s := &streamed{Table: New(time.Minute, slog.New(slog.DiscardHandler)), now: time.Unix(1_795_000_000, 0)}
	s.limit(limit)
	s.Table.CDNs, s.Table.Now = func() []schemas.CDN { return s.cdns }, func() time.Time { return s.now }
	return s
}

// limit puts another version of the registry in place.
func (s *streamed) limit(n int) {
	s.cdns = []schemas.CDN{{Name: "a", StreamViewers: n, State: schemas.CDNActive}, {Name: "b", State: schemas.CDNActive}}
}

func (s *streamed) send(id, cdn string, k schemas.StreamKey) {
	s.now = s.now.Add(time.Millisecond)
	s.Answered(&Fact{ID: id, CDN: cdn, Stream: k, At: s.now})
	s.Decided(&Fact{ID: id, CDN: cdn, Stream: k, At: time.UnixMicro(s.now.UnixMicro())}, s.now) // its echo
}

// on gives the facts of a for a viewer of a stream.
func (s *streamed) on(k schemas.StreamKey) policy.Facts {
	f := s.Facts(s.cdns, Place{}, 1e6, s.now)
	s.OfStream(f, s.cdns, k, "")
	return f[0]
}

func (s *streamed) want(t *testing.T, what string, ofOne, ofTwo int) {
	t.Helper()
	if x, y := s.on(one).StreamViewers, s.on(two).StreamViewers; x != ofOne || y != ofTwo {
		t.Errorf("%s: %d and %d viewers of the streams, want %d and %d", what, x, y, ofOne, ofTwo)
	}
}

// TestViewersOfAStream: they are counted from decisions and slices, follow moves and
// ends, and are known only while a CDN limits them.
func TestViewersOfAStream(t *testing.T) {
	s := newStreamed(10)
	for i := range 12 {
		s.send("s"+strconv.Itoa(i), "a", one)
	}
	s.send("t0", "a", two)
	s.want(t, "after decisions", 12, 1)
	if x, y := s.on(one).Shed, s.on(two).Shed; math.Abs(x-shedGain*0.2/1.2) > 1e-9 || y != 0 {
		t.Errorf("%v of the one and %v of the other must leave", x, y)
	}
	s.send("s0", "b", one)
	s.want(t, "after a move", 11, 1)
	if f := s.Facts(s.cdns, Place{}, 1e6, s.now); f[1].StreamViewers != 0 {
		t.Error("viewers of a stream are told of a CDN that does not limit them")
	}
	slice := func(id, cdn string, k schemas.StreamKey) *schemas.Slice {
		s.now = s.now.Add(time.Millisecond)
		return &schemas.Slice{SessionID: id, App: k.App, Stream: k.Stream, CDN: cdn, PlayedMs: 1000}
	}
	s.Ended(slice("s1", "a", one), s.now)
	s.want(t, "after an end", 10, 1)
	s.Served(slice("s2", "a", two), s.now)
	s.want(t, "after a slice that says another stream than the router", 10, 1)
	s.Decided(&Fact{ID: "far", CDN: "a", At: s.now}, s.now)
	s.want(t, "after another region's decision, which does not tell the stream", 10, 1)
	s.Served(slice("far", "a", two), s.now)
	s.want(t, "after its slice", 10, 2)

	s.limit(0)
	s.Tick(s.now)
	s.want(t, "without limits", 0, 0)
	if s.CountsStreams() || len(s.streams.by)+len(s.streams.all) != 0 {
		t.Error("streams are held that no CDN limits")
	}
	s.Ended(slice("s3", "a", one), s.now) // it was counted before
	s.limit(10)
	s.want(t, "with limits again", 0, 0)
	s.Served(slice("s4", "a", one), s.now)
	s.send("s5", "a", one)
	s.send("s6", "a", one)
	s.Served(slice("s6", "b", one), s.now)
	s.Ended(slice("s7", "a", one), s.now)
	s.want(t, "after what is heard since", 2, 0)

	s.now = s.now.Add(2 * time.Minute)
	s.Served(slice("last", "b", two), s.now) // telemetry flows
	s.Viewers(s.now)
	s.want(t, "a window later", 0, 0)
	if len(s.streams.by) != 1 || len(s.streams.free)+1 != len(s.streams.all) {
		t.Errorf("%d streams are held, %d of %d numbers are free", len(s.streams.by), len(s.streams.free), len(s.streams.all))
	}
}

// TestTooManyStreams: those beyond are not limited, until others are gone.
func TestTooManyStreams(t *testing.T) {
	s := newStreamed(10)
	for i := range maxStreams {
		s.send("s"+strconv.Itoa(i), "a", schemas.StreamKey{App: "live", Stream: strconv.Itoa(i)})
	}
	s.send("beyond", "a", one)
	s.want(t, "of one stream too many", 0, 0)
	s.send("s0", "a", two) // in place of the stream that it was of
	s.want(t, "when one is gone", 0, 1)
	if len(s.streams.by) != maxStreams || len(s.streams.all) != maxStreams {
		t.Errorf("%d streams are held in %d places", len(s.streams.by), len(s.streams.all))
	}
}

// TestStreamIsForecast: by its own trend, and not by that of the CDN.
func TestStreamIsForecast(t *testing.T) {
	s := newStreamed(1000)
	for i := range 100 {
		s.send("t"+strconv.Itoa(i), "a", two)
	}
	for i := range 200 {
		s.send("s"+strconv.Itoa(i), "a", one)
		if i%10 == 9 {
			s.now = s.now.Add(time.Second)
			s.Tick(s.now)
		}
	}
	x, y := s.on(one), s.on(two)
	if x.StreamGrowth < 1.2 || x.StreamSoon <= x.StreamGrowth || y.StreamGrowth > 1.05 {
		t.Errorf("the one that grows is forecast to grow by %.2f and %.2f, the other by %.2f", x.StreamGrowth, x.StreamSoon, y.StreamGrowth)
	}
}

// TestStreamOverItsLimit: just enough of its sessions leave, none of another stream's do.
func TestStreamOverItsLimit(t *testing.T) {
	s := newStreamed(100)
	p := policy.Builtin(policy.Affinity)
	where := map[string]string{}
	id := func(k schemas.StreamKey, i int) string { return k.Stream + strconv.Itoa(i) }
	ask := func(k schemas.StreamKey, id string, round int64) policy.Answer {
		f := s.Facts(s.cdns, Place{}, 1e6, s.now)
		s.OfStream(f, s.cdns, k, "")
		a, err := p.Decide(&policy.Input{Session: id, Current: where[id], PublishCDN: "a", CDNs: s.cdns, Facts: f, SinceMoveSec: 1e9, Round: round})
		if err != nil {
			t.Fatal(err)
		}
		if a.Chosen != where[id] {
			s.send(id, a.Chosen, k)
		}
		where[id] = a.Chosen
		return a
	}
	for i := range 130 {
		if a := ask(one, id(one, i), 0); (a.Chosen == "a") != (i < 100) || i == 100 && a.Reason != policy.ReasonSpill {
			t.Fatalf("the viewer %d of the stream is sent to %s: %s", i, a.Chosen, a.Reason)
		}
	}
	for i := range 90 {
		if a := ask(two, id(two, i), 0); a.Chosen != "a" {
			t.Fatalf("the viewer %d of another stream is sent to %s: %s", i, a.Chosen, a.Reason)
		}
	}
	s.limit(90)
	for round := range int64(20) {
		for i := range 130 {
			if a := ask(one, id(one, i), round+1); a.Reason != policy.ReasonShed && a.Reason != policy.ReasonStay {
				t.Fatalf("sent to %s: %s", a.Chosen, a.Reason)
			}
		}
		for i := range 90 {
			ask(two, id(two, i), round+1)
		}
	}
	s.want(t, "after twenty rounds", 90, 90)
}
