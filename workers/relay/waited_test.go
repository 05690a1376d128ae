package relay

import (
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/workers/router/load"
)

// A decision that goes up says how long it waited in this region, over all regions
// it came through; what else goes up is as it was.
func TestDecisionsGoUpWithTheirAge(t *testing.T) {
	for _, x := range []struct {
		stream, had, want string
		stored            time.Duration
	}{
		{schemas.StreamDecisions, "40", "3600040", time.Hour},
		{schemas.StreamDecisions, "", "604800000", 7 * 24 * time.Hour},
		{schemas.StreamDecisions, "40", "40", -time.Second}, // the bus's clock is ahead
		{schemas.StreamDecisions, "-9", "1000", time.Second},
		{schemas.StreamDecisions, "99999999999999999999", strconv.FormatInt((schemas.MaxWaited + time.Second).Milliseconds(), 10), time.Second},
		{schemas.StreamEvents, "40", "40", time.Hour},
	} {
		from := nats.Header{jetstream.MsgIDHeader: {"1"}, jetstream.ExpectedLastSeqHeader: {"7"}, schemas.HeaderWhere: {"w"}}
		if x.had != "" {
			from.Set(schemas.HeaderWaitedMs, x.had)
		}
		for range 2 { // a repeat adds to what the router wrote, not to the try before
			h := headerUp(from)
			lane{stream: x.stream}.age(h, x.stored)
			if got := h.Get(schemas.HeaderWaitedMs); got != x.want || h.Get(jetstream.MsgIDHeader) != "1" || h.Get(schemas.HeaderWhere) != "w" || h.Get(jetstream.ExpectedLastSeqHeader) != "" {
				t.Errorf("%+v: %v", x, h)
			}
		}
	}
}

// Slices are read on from when the last one that is here was stored at the parent,
// which over a link that lags is long before it was stored here.
func TestSlicesAreReadOnFromTheParentsTime(t *testing.T) {
	now := time.Unix(1_795_000_000, 0)
	last := func(via, waited string) *downAt {
		at := &downAt{seq: 9}
		at.passed(&jetstream.RawStreamMsg{Time: now.Add(-time.Second), Header: nats.Header{schemas.HeaderVia: {via}, schemas.HeaderWaitedMs: {waited}}}, "a")
		return at
	}
	for _, x := range []struct {
		via, waited string
		want        time.Duration // before now
	}{
		{"a/12", "0", time.Second + overlap},
		{"a/12", "60000", time.Minute + time.Second + overlap},
		{"a/12", "86400000", downReach},
		{"b/12", "0", downReach}, // of another parent
	} {
		at := last(x.via, x.waited)
		if got := now.Sub(at.since(now)); got != x.want {
			t.Errorf("%+v: read from %v ago on", x, got)
		}
		if x.via == "a/12" && (at.via != 12 || !at.stored.Equal(now.Add(-time.Second))) {
			t.Errorf("%+v", at)
		}
	}
	// What is here is known by its number, however clocks are compared by then; a parent that counts anew is, too.
	at := last("a/12", "0")
	for _, x := range []struct {
		seq    uint64
		stored time.Duration // after the last one was stored here
		want   bool
	}{{12, -time.Millisecond, true}, {12, 100 * time.Millisecond, true}, {13, -time.Millisecond, false}, {1, 2 * time.Second, false}} {
		if got := at.has(x.seq, at.stored.Add(x.stored)); got != x.want {
			t.Errorf("%+v: here %v", x, got)
		}
	}
}

// A relay that has just started deletes what the one before it left when it is much or
// old, and whatever there is when the bus takes nothing more.
func TestSlicesOfBeforeAreDeleted(t *testing.T) {
	now := time.Unix(1_795_000_000, 0)
	for _, x := range []struct {
		have  jetstream.StreamState
		known bool
		want  bool
	}{
		{have: jetstream.StreamState{Msgs: 9, Bytes: 1000, LastTime: now}},
		{have: jetstream.StreamState{Msgs: 9, Bytes: maxSlicesKept, LastTime: now}, want: true},
		{have: jetstream.StreamState{Msgs: 9, Bytes: maxSlicesKept, LastTime: now}, known: true},
		{have: jetstream.StreamState{Msgs: 9, Bytes: 1000, LastTime: now.Add(-2 * load.HoldFor)}}, // routers that start read these
		{have: jetstream.StreamState{Msgs: 9, Bytes: 1000, LastTime: now.Add(-slicesHeld - time.Second)}, want: true},
		{have: jetstream.StreamState{Msgs: 1, Bytes: 1000, LastTime: now.Add(-time.Hour)}}, // where it stands is in the last one
		{},
	} {
		var k marks
		if x.known {
			k.passed(7, 100, now)
		}
		if got := k.forgot(&x.have, now); got != x.want {
			t.Errorf("%+v: %v", x, got)
		}
	}
	b := bustest.Start(t)
	s, err := b.JS.UpdateStream(t.Context(), jetstream.StreamConfig{Name: schemas.StreamSlices, Subjects: []string{"slices.*"}, MaxBytes: 2000, Discard: jetstream.DiscardNew, AllowDirect: true})
	if err != nil {
		t.Fatal(err)
	}
	n := testNode(t)
	put := func(last uint64) error {
		_, err := b.JS.PublishMsg(t.Context(), &nats.Msg{Subject: "slices.0", Data: make([]byte, 700)}, jetstream.WithExpectLastSequence(last), jetstream.WithRetryAttempts(0))
		return err
	}
	for seq := range uint64(2) {
		if err := put(seq); err != nil {
			t.Fatal(err)
		}
	}
	if err := put(0); err == nil || refusedByFull(err) {
		t.Errorf("behind another's message: %v", err)
	}
	if err := put(2); !refusedByFull(err) {
		t.Errorf("into a full stream: %v", err)
	}
	n.purgeSlices(t.Context(), s, 2)
	if err := put(2); err != nil {
		t.Errorf("after old ones are deleted: %v", err)
	}
}
