package overflow

import (
	"fmt"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func wait(q *Queue, id, region string, since time.Time, room int, now time.Time) Place {
	return q.Wait(&Ticket{ID: id, Region: region, Since: since}, room, now)
}

// tell lets the routers hear of each other.
func tell(t *testing.T, now time.Time, qs ...*Queue) {
	t.Helper()
	for _, from := range qs {
		for _, to := range qs {
			if b := from.Say(now); b != nil {
				if err := to.Hear(b, now); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// TestOneOrderAtAllRouters: tickets taken at several routers have different
// places, in the order of their times, at whichever router they ask.
func TestOneOrderAtAllRouters(t *testing.T) {
	qs := []*Queue{New("x"), New("y"), New("z")}
	const n = 90
	since := func(i int) time.Time { return start.Add(time.Duration(i) * 100 * time.Millisecond) }
	now := start.Add(time.Minute)
	for i := range n {
		wait(qs[i%3], fmt.Sprint(i), "", since(i), 0, now)
	}
	now = now.Add(time.Second)
	tell(t, now, qs...)
	seen := map[int]int{}
	for i := range n {
		p := wait(qs[i%3], fmt.Sprint(i), "", since(i), 0, now)
		seen[p.Here]++
		if p.Here != i {
			t.Errorf("ticket %d has %d before it", i, p.Here)
		}
	}
	if len(seen) != n || qs[0].Waiting(now) != n {
		t.Errorf("%d places and %d waiting, want %d", len(seen), qs[0].Waiting(now), n)
	}
	// With room for ten, all routers together let in ten.
	in := 0
	for i := range n {
		if wait(qs[i%3], fmt.Sprint(i), "", since(i), 10, now).Here < 10 {
			in++
		}
	}
	if in != 10 {
		t.Errorf("%d were let in, want 10", in)
	}
}

func TestWhoDoesNotAskAnyMoreIsForgotten(t *testing.T) {
	q := New("x")
	wait(q, "gone", "", start, 0, start)
	now := start
	for range 10 {
		now = now.Add(5 * time.Second)
		p := wait(q, "patient", "", start.Add(time.Second), 0, now)
		if gone := now.Sub(start) > forgetAfter; gone != (p.Here == 0) {
			t.Errorf("after %v: %d before it", now.Sub(start), p.Here)
		}
	}
	q.Leave("patient")
	now = now.Add(time.Second)
	if n := q.Waiting(now); n != 0 || len(q.mine)+len(q.of) != 0 {
		t.Errorf("%d wait, %d are held", n, len(q.mine)+len(q.of))
	}
	// A router that has ended holds nobody up.
	other := New("y")
	wait(other, "there", "", start, 0, now)
	tell(t, now, q, other)
	if now = now.Add(time.Second); q.Waiting(now) != 1 {
		t.Error("the other router's is not counted")
	}
	if now = now.Add(hearFor); q.Waiting(now) != 0 {
		t.Error("a router that says nothing holds others up")
	}
}

// TestRegions: those of a region whose CDNs are full stand before nobody else.
func TestRegions(t *testing.T) {
	q := New("x")
	for i := range 50 {
		wait(q, fmt.Sprint("eu", i), "eu", start, 0, start)
	}
	now := start.Add(time.Second)
	if p := wait(q, "us", "us", now, 1, now); p.Here != 0 || p.Ahead != 0 {
		t.Errorf("behind a full region: %+v", p)
	}
	wait(q, "eu0", "eu", start, 3, now) // there is room again
	if p := wait(q, "us", "us", now, 1, now); p.Here != 0 || p.Ahead != 50 {
		t.Errorf("behind a region with room: %+v", p)
	}
}

// TestLongQueue: beyond maxFine tickets routers tell each other less exactly, and
// still let in about as many as there is room for.
func TestLongQueue(t *testing.T) {
	x, y := New("x"), New("y")
	now := start.Add(time.Minute)
	since := func(i int) time.Time { return start.Add(time.Duration(i) * time.Millisecond) }
	for i := range 2 * (maxFine + 1000) {
		wait([]*Queue{x, y}[i%2], fmt.Sprint(i), "", since(i), 0, now)
	}
	now = now.Add(time.Second)
	tell(t, now, x, y)
	in := 0
	for i := range 2 * (maxFine + 1000) {
		if wait([]*Queue{x, y}[i%2], fmt.Sprint(i), "", since(i), 500, now).Here < 500 {
			in++
		}
	}
	if in < 490 || in > 510 {
		t.Errorf("%d were let in, want about 500", in)
	}
}

func TestHearsNoNonsense(t *testing.T) {
	q := New("x")
	for _, s := range []string{"", "{", `{"spans":[]}`, `{"router":"y","length_ms":0,"spans":[]}`, `{"router":"y","length_ms":1,"spans":[{"ms":1,"n":-5}]}`, `{"router":"y","length_ms":1,"spans":[{"ms":1,"n":9999999999}]}`} {
		if err := q.Hear([]byte(s), start); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
	if n := q.Waiting(start); n != 0 {
		t.Errorf("%d wait", n)
	}
}

func FuzzHear(f *testing.F) {
	f.Add([]byte(`{"router":"y","length_ms":1,"spans":[{"ms":1,"r":"eu","n":5}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		q := New("x")
		_ = q.Hear(b, start)
		if p := wait(q, "a", "eu", start, 1, start); p.Here < 0 || p.Ahead < p.Here {
			t.Errorf("%+v", p)
		}
	})
}

// TestCapComesBackWithoutFlapping: what the cap saves looks like room, so it is
// tried for longer each time.
func TestCapComesBackWithoutFlapping(t *testing.T) {
	var c Caps
	at := Where{Region: "eu", From: 0.9}
	if c.On(at, 0.89, start) || !c.On(at, 0.9, start) {
		t.Error("it begins at 0.9")
	}
	if c.On(Where{Region: "us", From: 0.9}, 0.1, start) {
		t.Error("another region is held, too")
	}
	changes, was := 0, true
	now := start
	for range 2 * 3600 {
		now = now.Add(time.Second)
		load := 0.95 // demand without the cap
		if was {
			load = 0.6
		}
		if is := c.On(at, load, now); is != was {
			changes, was = changes+1, is
		}
	}
	if changes > 16 || changes < 4 {
		t.Errorf("%d changes in two hours", changes)
	}
	for range int(2 * maxHold / time.Second) {
		now = now.Add(time.Second)
		was = c.On(at, 0.8, now) // not far enough below
	}
	if !was {
		t.Error("ended inside of the band")
	}
}
