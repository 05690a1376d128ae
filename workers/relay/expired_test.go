package relay

import (
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
)

// After a silence in which the last message here has expired, what comes is written at
// once; what another relay has written meanwhile is not written behind.
func TestDecisionsAreWrittenAfterTheLastHasExpired(t *testing.T) {
	b := bustest.Start(t)
	stream, err := b.JS.Stream(t.Context(), schemas.StreamElsewhere)
	if err != nil {
		t.Fatal(err)
	}
	n := testNode(t)
	n.js = b.JS
	const subject = schemas.SubjectElsewhereBeyond
	put := func(last uint64) (uint64, error) {
		one := &batch{told: []decided{{schemas.Where{SessionID: "s", CDN: "x"}, time.Now(), "a b"}}, first: 1, last: 1}
		return n.putDecisions(t.Context(), subject, one, last)
	}
	long := time.Now().Add(-downReach - time.Second)
	last, err := put(0)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := n.stillLast(t.Context(), stream, subject, last, long); err != nil || got != last {
		t.Errorf("the last is there: %d, %v; want %d", got, err, last)
	}
	if _, err := n.stillLast(t.Context(), stream, subject, last+7, long); err == nil || !strings.Contains(err.Error(), "another relay") {
		t.Errorf("another's message is the last: %v", err)
	}
	if err := stream.Purge(t.Context()); err != nil { // as if it had expired
		t.Fatal(err)
	}
	if got, err := n.stillLast(t.Context(), stream, subject, last, time.Now()); err != nil || got != last {
		t.Errorf("written a moment ago: %d, %v; it is not asked for", got, err)
	}
	if _, err := put(last); err == nil {
		t.Error("the bus takes a message behind one that is gone: nobody need look")
	}
	got, err := n.stillLast(t.Context(), stream, subject, last, long)
	if err != nil || got != 0 {
		t.Errorf("the last is gone: %d, %v; want 0", got, err)
	}
	if _, err := put(got); err != nil {
		t.Error(err)
	}
}

// What was read and not worth writing is not read again, also when what was written has expired.
func TestWhereDecisionsAreReadOn(t *testing.T) {
	now := time.Unix(1_795_000_000, 0)
	read := readTo{downAt{seq: 9, via: 50, stored: now.Add(-time.Second)}, now.Add(-downReach - time.Second)}
	lately := read
	lately.wrote = now.Add(-time.Minute)
	for _, x := range []struct {
		read      readTo
		here      downAt
		seq, want uint64 // the last here, and that of the parent behind which is read on
	}{
		{read, downAt{seq: 9, via: 30}, 9, 50},
		{read, downAt{seq: 10, via: 60}, 10, 60}, // another relay was here
		{read, downAt{}, 0, 50},
		{lately, downAt{}, 0, 0}, // it was lost: all is read again
		{readTo{}, downAt{seq: 9, via: 30}, 9, 30},
		{readTo{}, downAt{}, 0, 0},
	} {
		if got := x.read.from(x.here, now); got.seq != x.seq || got.via != x.want {
			t.Errorf("%+v with %+v here: %+v", x.read, x.here, got)
		}
	}
}
