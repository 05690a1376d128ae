package alerts

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/spillway-live/spillway/dashboards/queries"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/running"
)

// testRaisedBefore: what was raised before this process came, and still is, stays open: nothing is judged before it
// is known, and then it is there. Where nothing was raised, that is known at once.
func testRaisedBefore(t *testing.T, b *bustest.Bus) {
	follow := func() *raised {
		r := newRaised()
		if _, err := r.rows(time.Now()); !errors.Is(err, errNotRead) {
			t.Fatalf("before anything is read: %v", err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.follow(ctx, b.JS, time.Now) }()
		defer func() {
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}()
		select {
		case <-r.ready:
		case <-time.After(time.Minute):
			t.Fatal("what was raised before is not read after a minute")
		}
		return r
	}
	if rows, err := follow().rows(time.Now()); err != nil || len(rows) != 0 {
		t.Fatalf("nothing was raised: %v, %v", rows, err)
	}
	for _, e := range []schemas.Event{
		{ID: "1", Kind: schemas.EventAlertRaised, Detail: map[string]string{"rule": "review"}},
		{ID: "2", Kind: schemas.EventAlertRaised, Detail: map[string]string{"rule": "over"}},
		{ID: "3", Kind: schemas.EventAlertCleared, Detail: map[string]string{"rule": "over"}},
	} {
		e.TimeUs, e.App, e.Stream = time.Now().UnixMicro(), "live", "demo"
		data, err := schemas.EncodeRecord(&e)
		if err == nil {
			_, err = b.JS.Publish(t.Context(), schemas.EventSubject(&e), data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	rows, err := follow().rows(time.Now())
	if err != nil || len(rows) != 1 || rows[0].Subject != "review live/demo" {
		t.Fatalf("what was raised before: %+v, %v", rows, err)
	}
	open := &schemas.Alert{Rule: queries.AlertRaised, Subject: rows[0].Subject, State: schemas.AlertOpen, By: "review"}
	if next, _ := ruleOf(t, queries.AlertRaised).Next(open, &rows[0], time.Now()); next.State != schemas.AlertOpen {
		t.Errorf("the alert is %s after the second start", next.State)
	}
}

// testRaisedAndPurged: events that waited to be read and are purged before they are, are not waited for.
func testRaisedAndPurged(t *testing.T, b *bustest.Bus) {
	c, err := consumeRaised(t.Context(), b.JS, time.Now().Add(-raisedFor))
	if err != nil {
		t.Fatal(err)
	}
	if c.CachedInfo().NumPending == 0 {
		t.Fatal("nothing waits to be read")
	}
	events, err := b.JS.Stream(t.Context(), schemas.StreamEvents)
	if err == nil {
		err = events.Purge(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	r := newRaised()
	r.quiet = 100 * time.Millisecond
	running.Start(t, func(ctx context.Context) error { return r.read(ctx, c, time.Now) })
	select {
	case <-r.ready:
	case <-time.After(time.Minute):
		t.Fatal("what was purged is waited for")
	}
}
