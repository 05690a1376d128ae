package relay

import (
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
)

// fromParent is a message as the parent's streams give it.
type fromParent struct {
	jetstream.Msg
	m nats.Msg
}

func (f *fromParent) Subject() string      { return f.m.Subject }
func (f *fromParent) Headers() nats.Header { return f.m.Header }
func (f *fromParent) Data() []byte         { return f.m.Data }

func testNode(t *testing.T) *node {
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &node{Relay: &Relay{Region: "c", Parent: "b", Logger: slog.New(slog.DiscardHandler), m: m}}
}

// What comes down is what other regions decided, with the time at which they did; not what
// went up from here, what nobody counts any more, or what goes in a ring.
func TestWhichDecisionsComeDown(t *testing.T) {
	n, now := testNode(t), time.Unix(1_795_000_000, 0)
	where := func(session string, ago time.Duration) schemas.Where {
		return schemas.Where{TimeUs: now.Add(-ago).UnixMicro(), SessionID: session, CDN: "x", Group: 7, Region: "eu"}
	}
	read := func(subject string, h nats.Header, data []byte) []decided {
		return n.appendDecided(nil, &fromParent{m: nats.Msg{Subject: subject, Header: h, Data: data}}, now.Add(-time.Second), now)
	}
	same := func(got []decided, path string, want map[string]time.Duration) {
		t.Helper()
		if len(got) != len(want) {
			t.Errorf("%d decisions, want %v: %+v", len(got), want, got)
		}
		for _, d := range got {
			if ago, ok := want[d.SessionID]; !ok || now.Sub(d.at) != ago || d.path != path || d.Group != 7 || d.CDN != "x" || d.Where.Region != "eu" {
				t.Errorf("%+v, want %v ago by %q", d, ago, path)
			}
		}
	}
	// Its router's clock is an hour behind; the newest of the message waited half a second.
	values := []string{where("s1", time.Hour+3*time.Second).String(), schemas.WhereNowhere, where("s2", time.Hour).String(), where("old", time.Hour+2*time.Minute).String(), "no where"}
	two := map[string]time.Duration{"s1": 4500 * time.Millisecond, "s2": 1500 * time.Millisecond}
	for _, path := range []string{"", "d", "e d", "cc"} { // the parent's own, and what others sent up
		same(read("decisions.steering.live.x", nats.Header{schemas.HeaderWhere: values, schemas.HeaderWaitedMs: {"500"}, schemas.HeaderPath: {path}}, nil), "b", two)
	}
	for _, path := range []string{"c", "f c"} { // from here, and from below
		same(read("decisions.steering.live.x", nats.Header{schemas.HeaderWhere: values, schemas.HeaderPath: {path}}, nil), "", nil)
	}
	same(read("decisions.steering.live.x", nats.Header{schemas.HeaderWhere: values, schemas.HeaderWaitedMs: {"3600000"}}, nil), "", nil) // a link was cut for an hour
	same(read("decisions.steering.live.x", nats.Header{}, nil), "", nil)                                                                 // of a router before the header

	var data []byte
	data = schemas.AppendElsewhere(data, 3*time.Second, where("s1", 0))
	data = schemas.AppendElsewhere(data, 0, where("s2", 0))
	data = schemas.AppendElsewhere(data, downReach, where("old", 0))
	same(read(schemas.SubjectElsewhereParent, nats.Header{schemas.HeaderPath: {"a"}, schemas.HeaderWaitedMs: {"500"}}, append(data, "no line\n"...)), "a b", two)
	same(read(schemas.SubjectElsewhereBeyond, nats.Header{schemas.HeaderPath: {"c a"}}, data), "", nil) // parents in a ring
}

// A message holds decisions that came on one way, as many as readers take, and each is as
// old for them as it was when it was written.
func TestDecisionsAreWrittenWithTheirAge(t *testing.T) {
	n, now := testNode(t), time.Unix(1_795_000_000, 0)
	var told []decided
	for i := range schemas.MaxElsewhere + 30 {
		d := decided{schemas.Where{TimeUs: int64(i), SessionID: "s", CDN: "x"}, now.Add(-time.Duration(i%7+2) * time.Second), "a b"}
		if i < 10 {
			d.path = "b"
		}
		told = append(told, d)
	}
	var sizes []int
	for left := told; len(left) > 0; {
		some := runOf(left)
		left = left[len(some):]
		sizes = append(sizes, len(some))
		m := n.elsewhereMsg(schemas.SubjectElsewhereBeyond, some, 12, now)
		if m.Header.Get(schemas.HeaderVia) != "b/12" || m.Header.Get(schemas.HeaderPath) != some[0].path || schemas.Waited(m.Header) != 2*time.Second {
			t.Errorf("headers %v", m.Header)
		}
		i := 0
		if err := schemas.ReadElsewhere(m.Data, func(older time.Duration, w schemas.Where) {
			if at := now.Add(-schemas.Waited(m.Header) - older); !at.Equal(some[i].at) || w != some[i].Where {
				t.Fatalf("%+v of %v, want %+v", w, at, some[i])
			}
			i++
		}); err != nil || i != len(some) {
			t.Errorf("%d of %d read: %v", i, len(some), err)
		}
	}
	if len(sizes) != 3 || sizes[0] != 10 || sizes[1] != schemas.MaxElsewhere || sizes[2] != 20 {
		t.Errorf("messages of %v decisions", sizes)
	}
}

// The parent notes where decisions came from; nothing else is touched.
func TestDecisionsSayWhereTheyCameFrom(t *testing.T) {
	for _, x := range []struct{ subject, had, want string }{
		{"decisions.dispatch.live.x", "", "c"},
		{"decisions.dispatch.live.x", "d", "d c"},
		{"decisions.dispatch.live.x", "1 2 3 4 5 6 7 8", "2 3 4 5 6 7 8 c"},
		{"exposures.x", "", ""},
		{"events.x.live.x", "", ""},
	} {
		m := &nats.Msg{Subject: x.subject, Header: nats.Header{}}
		if x.had != "" {
			m.Header.Set(schemas.HeaderPath, x.had)
		}
		if cameFrom(m, "c"); m.Header.Get(schemas.HeaderPath) != x.want {
			t.Errorf("%+v: %q", x, m.Header.Get(schemas.HeaderPath))
		}
	}
}
