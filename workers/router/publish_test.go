package router

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
)

// Decisions of one subject travel together, in their order and with what routers
// read of each; exposures travel alone, since a repeat is known by its own id.
func TestTogether(t *testing.T) {
	now := time.Now()
	var records []*record
	for i := range 250 {
		r := &record{subject: "decisions.dispatch.live.a", id: fmt.Sprint(i), where: fmt.Sprint("w", i), data: fmt.Appendf(nil, "{%d}", i), made: now.Add(-time.Second)}
		if i%10 == 9 {
			r.subject, r.where = "exposures.x", ""
		}
		if i == 100 {
			r.subject = "decisions.steering.live.a"
		}
		records = append(records, r)
	}
	records[248].made = now.Add(-20 * time.Millisecond)
	got := together(records)
	if n := count(got); n != 250 || len(got) != 25+3+1 {
		t.Fatalf("%d records in %d messages", n, len(got))
	}
	var ids []string
	for _, m := range got {
		if len(m) > maxTogether {
			t.Errorf("%d records in one message", len(m))
		}
		if m[0].subject == "decisions.dispatch.live.a" {
			for _, r := range m {
				ids = append(ids, r.id)
			}
		} else if len(m) != 1 {
			t.Errorf("%d records of %s in one message", len(m), m[0].subject)
		}
	}
	if len(ids) != 224 || !slices.IsSortedFunc(ids, func(a, b string) int { return len(a) - len(b) }) {
		t.Errorf("%d dispatch decisions: %v", len(ids), ids)
	}
	three := message{records[246], records[247], records[248]}.msg(now)
	if string(three.Data) != "[{246},{247},{248}]" || three.Header.Get(jetstream.MsgIDHeader) != "246" ||
		!slices.Equal(three.Header[schemas.HeaderWhere], []string{"w246", "w247", "w248"}) || three.Header.Get(schemas.HeaderWaitedMs) != "20" {
		t.Errorf("%s %v", three.Data, three.Header)
	}
	big := func() *record {
		return &record{subject: "decisions.dispatch.live.a", where: "w", data: make([]byte, maxTogetherBytes/2)}
	}
	if got := together([]*record{big(), big(), big()}); len(got) != 2 || len(got[0]) != 2 {
		t.Errorf("three halves of what a message may have are in %d messages", len(got))
	}
	alone := message{records[9]}.msg(now)
	if _, has := alone.Header[schemas.HeaderWhere]; has || string(alone.Data) != "{9}" || alone.Header.Get(schemas.HeaderWaitedMs) != "1000" {
		t.Errorf("%s %v", alone.Data, alone.Header)
	}
}

// Routers order the decisions of one message as their router made them, counted
// back from when the bus stored it.
func TestWheresOfOneMessage(t *testing.T) {
	l := newFollower(nil, time.Minute, nil, nil)
	stored := time.Now()
	where := func(session, cdn string, agoMs int64) string {
		return schemas.Where{TimeUs: stored.UnixMicro() - agoMs*1000, SessionID: session, CDN: cdn}.String()
	}
	l.onWheres([]string{where("s1", "a", 40), schemas.WhereNowhere, where("s2", "b", 30), where("s1", "c", 0)}, schemas.StreamKey{}, stored.Add(-time.Second), false)
	if at := l.Where("s1"); at.CDN != "c" {
		t.Errorf("s1 is on %q", at.CDN)
	}
	// A slice between the two: it is newer than what s2 was told, and older than what s1 was.
	between := stored.Add(-time.Second - 10*time.Millisecond)
	l.CDNs = func() []schemas.CDN { return []schemas.CDN{{Name: "d"}} }
	for _, s := range []string{"s1", "s2"} {
		l.Served(&schemas.Slice{SessionID: s, CDN: "d", PlayedMs: 1000}, between)
	}
	if s1, s2 := l.Where("s1").CDN, l.Where("s2").CDN; s1 != "c" || s2 != "d" {
		t.Errorf("s1 is on %q, s2 on %q", s1, s2)
	}
}
