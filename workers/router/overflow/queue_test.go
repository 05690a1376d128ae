package overflow

import (
	"fmt"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// ab is where most tickets wait.
var ab = Line{CDNs: []string{"a", "b"}}

func ticket(id string, l Line, since time.Time) *Ticket {
	return &Ticket{ID: id, Line: l, Since: since}
}

// wait asks as one for whom there is no room.
func wait(q *Queue, id string, l Line, since time.Time, room int, now time.Time) Place {
	t := ticket(id, l, since)
	p := q.Look(t, room, now)
	q.Hold(t, now)
	return p
}

// ask is one look at a router: it comes in where there is room for its place.
func ask(q *Queue, t *Ticket, room int, now time.Time) (in bool) {
	if p := q.Look(t, room, now); p.Here < room {
		return q.Enter(t, now)
	}
	t.Given = q.Hold(t, now)
	return false
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

func routers() []*Queue { return []*Queue{New("x"), New("y"), New("z")} }

// TestOneOrderAtAllRouters: tickets taken at several routers have different
// places, in the order of their times, at whichever router they ask.
func TestOneOrderAtAllRouters(t *testing.T) {
	qs := routers()
	const n = 90
	since := func(i int) time.Time { return start.Add(time.Duration(i) * 100 * time.Millisecond) }
	now := start.Add(time.Minute)
	for i := range n {
		wait(qs[i%3], fmt.Sprint(i), ab, since(i), 0, now)
	}
	now = now.Add(time.Second)
	tell(t, now, qs...)
	now = now.Add(time.Second)
	for i := range n {
		if p := wait(qs[(i/3)%3], fmt.Sprint(i), ab, since(i), 0, now); p.Here != i || p.Ahead != i {
			t.Errorf("ticket %d has %+v before it", i, p)
		}
	}
	// With room for ten, all routers together let in ten.
	in := 0
	for i := range n {
		if wait(qs[i%3], fmt.Sprint(i), ab, since(i), 10, now).Here < 10 {
			in++
		}
	}
	if in != 10 {
		t.Errorf("%d were let in, want 10", in)
	}
}

// TestTicketsThatRotate: a ticket that asks at one router after the other is one
// ticket, and one that has come in is nobody's ghost: places do not stay free.
func TestTicketsThatRotate(t *testing.T) {
	qs := routers()
	const n = 60
	tickets := make([]*Ticket, n)
	for i := range tickets {
		tickets[i] = ticket(fmt.Sprint(i), ab, start.Add(time.Duration(i)*time.Millisecond))
	}
	in, now := 0, start.Add(time.Second)
	for round := range 40 {
		free := 0
		if round >= 5 && in < n {
			free = 2
		}
		for i, x := range tickets {
			if x != nil && ask(qs[(i+round)%3], x, free, now) {
				if i != in {
					t.Fatalf("round %d: ticket %d comes in as number %d", round, i, in)
				}
				tickets[i], in, free = nil, in+1, free-1
				tell(t, now, qs...)
			}
		}
		now = now.Add(2 * time.Second)
		tell(t, now, qs...)
		now = now.Add(2 * time.Second)
		for _, q := range qs {
			if got := q.Waiting(now); got != n-in {
				t.Fatalf("round %d: %d wait at %s, want %d", round, got, q.id, n-in)
			}
		}
	}
	if in != n {
		t.Errorf("%d of %d came in", in, n)
	}
}

// TestUsedOnce: a ticket lets in once, at any router, until it has expired.
func TestUsedOnce(t *testing.T) {
	qs := routers()
	x := ticket("x", ab, start)
	now := start
	ask(qs[0], x, 0, now)
	if !ask(qs[1], x, 5, now) { // which has not heard of it
		t.Fatal("there is room")
	}
	tell(t, now, qs...)
	for now.Sub(start) < ForgetAfter {
		for _, q := range qs {
			if !q.Used("x") || q.Enter(x, now) {
				t.Fatalf("used again at %s after %v", q.id, now.Sub(start))
			}
		}
		now = now.Add(5 * time.Second)
		tell(t, now, qs...)
	}
	now = now.Add(rememberUsed)
	for _, q := range qs {
		q.Waiting(now)
		tell(t, now, qs...)
		if len(q.used)+len(q.all)+len(q.from) != 0 {
			t.Errorf("%s still holds %d used and %d waiting", q.id, len(q.used), len(q.all))
		}
	}
	// Who looks the same as one that has come in waits anew, at all routers.
	y := ticket("y", ab, now)
	ask(qs[0], y, 0, now)
	qs[0].Enter(y, now)
	now = now.Add(2 * sameUse)
	again := ticket("y", ab, now)
	ask(qs[0], again, 0, now)
	tell(t, now, qs...)
	if now = now.Add(time.Second); qs[2].Waiting(now) != 1 || qs[2].Used("y") {
		t.Error("the second is not there")
	}
}

func TestPlacesOfAPrefix(t *testing.T) {
	qs := routers()
	now := start
	for i := range MaxPlaces {
		x := Ticket{ID: fmt.Sprint(i), Line: ab, Since: now, From: 7}
		if !qs[i%2].Hold(&x, now) {
			t.Fatalf("place %d is refused", i)
		}
	}
	tell(t, now.Add(time.Second), qs...)
	for _, q := range qs {
		if q.Hold(&Ticket{ID: "more", Line: ab, Since: now, From: 7}, now) {
			t.Errorf("one more at %s", q.id)
		}
	}
	if !qs[2].Hold(&Ticket{ID: "more", Line: ab, Since: now, From: 8}, now) || !qs[2].Hold(&Ticket{ID: "1", Line: ab, Since: now, From: 7, Given: true}, now) {
		t.Error("others' places, or one that was given, are refused")
	}
}

func TestWhoDoesNotAskAnyMoreIsForgotten(t *testing.T) {
	q, other := New("x"), New("y")
	wait(q, "gone", ab, start, 0, start)
	wait(other, "ended", ab, start, 0, start)
	now := start
	tell(t, now.Add(time.Second), q, other)
	for range 10 {
		now = now.Add(5 * time.Second)
		p := wait(q, "patient", ab, start.Add(time.Second), 0, now)
		if gone := now.Sub(start) > ForgetAfter+time.Second; gone != (p.Here == 0) {
			t.Errorf("after %v: %d before it", now.Sub(start), p.Here)
		}
	}
	q.Enter(ticket("patient", ab, start), now)
	if now = now.Add(ForgetAfter + rememberUsed); q.Waiting(now) != 0 || len(q.all)+len(q.used)+len(q.lines)+len(q.from) != 0 {
		t.Errorf("%d are held, %d used, %d lines", len(q.all), len(q.used), len(q.lines))
	}
	if b := q.Say(now); b != nil {
		t.Errorf("nobody waits, and it says %s", b)
	}
}

// TestOnlyTheSameRoom: those for whom there is no room stand before nobody else,
// and those for whom there is a little before no more than that.
func TestOnlyTheSameRoom(t *testing.T) {
	for _, x := range []struct {
		name        string
		full, other Line
		room        int // of full
		want        Place
	}{
		{"another region's CDNs are full", Line{"eu", []string{"a"}}, Line{"us", []string{"a"}}, 0, Place{}},
		{"and have room again", Line{"eu", []string{"a"}}, Line{"us", []string{"a"}}, 3, Place{Ahead: 3}},
		{"an application's only CDN is full", Line{"eu", []string{"a"}}, Line{"eu", []string{"a", "b"}}, 0, Place{}},
		{"and has room again", Line{"eu", []string{"a"}}, Line{"eu", []string{"b", "a"}}, 2, Place{Ahead: 2, Here: 2}},
		{"there is room at other CDNs", Line{"eu", []string{"a"}}, Line{"eu", []string{"b"}}, 9, Place{}},
		{"more room than wait", Line{"eu", []string{"a", "b"}}, Line{"eu", []string{"a"}}, 99, Place{Ahead: 50, Here: 50}},
		{"the same, in another order", Line{"eu", []string{"a", "b"}}, Line{"eu", []string{"b", "a"}}, 1, Place{Ahead: 50, Here: 50}},
	} {
		q, heard := New("x"), New("y")
		now := start
		for i := range 50 {
			wait(q, fmt.Sprint(i), x.full, start, x.room, now)
		}
		now = now.Add(time.Second)
		tell(t, now, q, heard)
		for _, q := range []*Queue{q, heard} {
			if p := q.Look(ticket("new", x.other, now), 1, now.Add(time.Second)); p != x.want {
				t.Errorf("%s: at %s %+v, want %+v", x.name, q.id, p, x.want)
			}
		}
	}
}

// TestLinesAreBounded: beyond maxLines all others are one.
func TestLinesAreBounded(t *testing.T) {
	q, heard := New("x"), New("y")
	for i := range 3 * maxLines {
		wait(q, fmt.Sprint(i), Line{Region: fmt.Sprint(i), CDNs: []string{"a"}}, start, 0, start)
	}
	now := start.Add(time.Second)
	tell(t, now, q, heard)
	if now = now.Add(time.Second); len(q.lines) > maxLines+1 || heard.Waiting(now) != 3*maxLines {
		t.Errorf("%d lines, %d wait", len(q.lines), heard.Waiting(now))
	}
}

// TestLongQueue: beyond maxFine tickets routers tell each other counts, and
// still let in as many as there is room for.
func TestLongQueue(t *testing.T) {
	x, y := New("x"), New("y")
	now := start.Add(time.Minute)
	const n = 2 * (maxFine + 1000)
	since := func(i int) time.Time { return start.Add(time.Duration(i) * 3 * time.Millisecond) }
	for i := range n {
		wait([]*Queue{x, y}[i%2], fmt.Sprint(i), ab, since(i), 0, now)
	}
	now = now.Add(time.Second)
	tell(t, now, x, y)
	now = now.Add(time.Second)
	if got := x.Waiting(now); got != n {
		t.Errorf("%d wait, want %d", got, n)
	}
	for _, room := range []int{500, n - 500} {
		in := 0
		for i := range n {
			if x := []*Queue{x, y}[i%2]; x.Look(ticket(fmt.Sprint(i), ab, since(i)), room, now).Here < room {
				in++
			}
		}
		if room == 500 && in != room || in < room-400 || in > room+400 {
			t.Errorf("%d were let in, want about %d", in, room)
		}
	}
	if now = now.Add(hearFor + time.Second); x.Waiting(now) != n-1000 {
		t.Errorf("%d wait after the other says no more, want what it told singly: %d", x.Waiting(now), n-1000)
	}
}

func TestHearsNoNonsense(t *testing.T) {
	q := New("x")
	for _, s := range []string{
		"", "{", `{"wait":[]}`, `{"router":"y","wait":[{"i":1,"ms":1,"l":0,"a":0}]}`, `{"router":"y","lines":[{"n":-1}]}`,
		`{"router":"y","lines":[{}],"wait":[{"i":1,"ms":1,"l":0,"a":-1}]}`, `{"router":"y","lines":[{}],"wait":[{"i":1,"ms":1,"l":-1}]}`,
		`{"router":"y","lines":[{}],"length_ms":0,"spans":[{"ms":1,"n":5}]}`, `{"router":"y","lines":[{}],"length_ms":1,"spans":[{"ms":1,"n":-5}]}`,
		`{"router":"y","lines":[{}],"length_ms":1,"spans":[{"ms":1,"n":9999999999}]}`, `{"router":"y","used":[{"i":1,"a":999999999}]}`,
	} {
		if err := q.Hear([]byte(s), start); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
	if n := q.Waiting(start); n != 0 {
		t.Errorf("%d wait", n)
	}
}

func FuzzHear(f *testing.F) {
	f.Add([]byte(`{"router":"y","lines":[{"r":"eu","c":[1,2],"n":3}],"wait":[{"i":5,"ms":1,"l":0,"a":7,"f":9}],"used":[{"i":6,"a":1}],"length_ms":1000,"spans":[{"ms":1000,"l":0,"n":5}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		q := New("x")
		_ = q.Hear(b, start)
		if p := wait(q, "a", Line{Region: "eu"}, start, 1, start); p.Here < 0 || p.Ahead < p.Here {
			t.Errorf("%+v", p)
		}
		q.Say(start.Add(time.Second))
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
