package load_test

import (
	"fmt"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/load"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// crowd simulates routers that hear of each other's decisions a control
// interval later, and viewers who ask for steering once a round.
type crowd struct {
	t       testing.TB
	now     time.Time
	cdns    []schemas.CDN
	routers []*load.Table
	policy  *policy.Policy
	late    []load.Fact // not on the bus yet
	on      map[string]string
	ids     []string
	moves   map[string]int
	turned  int
}

const (
	interval = 250 * time.Millisecond
	round    = 10 * time.Second
)

func newCrowd(t testing.TB, routers int, p *policy.Policy, cdns ...schemas.CDN) *crowd {
	c := &crowd{t: t, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), cdns: cdns, policy: p, on: map[string]string{}, moves: map[string]int{}}
	for range routers {
		l := load.New(time.Hour, slog.New(slog.DiscardHandler))
		l.Now, l.CDNs = func() time.Time { return c.now }, func() []schemas.CDN { return c.cdns }
		c.routers = append(c.routers, l)
	}
	return c
}

// step lets a control interval pass in which n viewers come; every session asks once a round.
func (c *crowd) step(n int) {
	c.now = c.now.Add(interval)
	heard := c.late
	c.late = nil
	for _, x := range heard {
		for _, r := range c.routers {
			r.Decided(&x, c.now)
		}
	}
	if c.now.Truncate(time.Second).Equal(c.now) || c.now.Nanosecond() < int(interval) {
		for _, r := range c.routers {
			r.Tick(c.now)
		}
	}
	per := int(round / interval)
	slot := int(c.now.UnixNano()/int64(interval)) % per
	for i := slot; i < len(c.ids); i += per {
		c.ask(c.ids[i], i)
	}
	for range n {
		id := "s" + strconv.Itoa(len(c.ids))
		c.ids = append(c.ids, id)
		c.ask(id, len(c.ids))
	}
}

func (c *crowd) ask(id string, i int) {
	r := c.routers[(i*7+int(c.now.UnixNano()/int64(interval)))%len(c.routers)]
	at := r.Where(id)
	in := policy.Input{
		Session: id, PublishCDN: "a", Current: c.on[id], CDNs: c.cdns, SinceMoveSec: 1e9, Round: c.now.UnixNano() / int64(round),
		Facts: r.Facts(c.cdns, load.Place{}, 1e6, c.now),
	}
	if !at.Moved.IsZero() {
		in.SinceMoveSec = c.now.Sub(at.Moved).Seconds()
	}
	a, err := c.policy.Decide(&in)
	if err != nil {
		c.turned++
		return
	}
	f := load.Fact{ID: id, CDN: a.Chosen, At: c.now}
	if was := c.on[id]; was == a.Chosen {
		return
	} else if was != "" {
		c.moves[id]++
	}
	c.on[id] = a.Chosen
	r.Answered(&f)
	c.late = append(c.late, f)
}

func (c *crowd) viewers() map[string]int {
	n := map[string]int{}
	for _, cdn := range c.on {
		n[cdn]++
	}
	return n
}

// TestFlashCrowd: a star goes live, from nothing to the capacity of all CDNs
// nearly, in a minute, over ten routers. No CDN is past its capacity for longer
// than a second.
func TestFlashCrowd(t *testing.T) {
	const crowdSize, seconds = 4800, 60
	var cdns []schemas.CDN
	for i, capacity := range []int{1500, 1500, 2200} {
		cdns = append(cdns, schemas.CDN{Name: string(rune('a' + i)), BaseURL: "http://x", State: schemas.CDNActive, Order: i, CapacityViewers: capacity})
	}
	for _, name := range []string{policy.Affinity, policy.Quality} {
		t.Run(name, func(t *testing.T) {
			c := newCrowd(t, 10, policy.Builtin(name), cdns...)
			over, worst := map[string]int{}, 0.0
			for range seconds * int(time.Second/interval) {
				c.step(crowdSize / seconds / int(time.Second/interval))
				n := c.viewers()
				for _, cdn := range cdns {
					worst = max(worst, float64(n[cdn.Name])/float64(cdn.CapacityViewers))
					if over[cdn.Name]++; n[cdn.Name] <= cdn.CapacityViewers {
						over[cdn.Name] = 0
					}
					if over[cdn.Name] > int(time.Second/interval) {
						t.Fatalf("%s is past its capacity for more than a second: %v", cdn.Name, n)
					}
				}
			}
			n := c.viewers()
			if c.turned > 0 || n["a"]+n["b"]+n["c"] != len(c.ids) {
				t.Errorf("%d viewers turned away, %v of %d play", c.turned, n, len(c.ids))
			}
			t.Logf("%v, worst load %.3f, %d sessions moved", n, worst, len(c.moves))
		})
	}
}

// TestNoFlapping: load held at the threshold by viewers who come and go with
// noise: no session moves twice in ten minutes.
func TestNoFlapping(t *testing.T) {
	cdns := []schemas.CDN{
		{Name: "a", State: schemas.CDNActive, CapacityViewers: 500}, {Name: "b", State: schemas.CDNActive, Order: 1},
	}
	c := newCrowd(t, 3, policy.Builtin(policy.Affinity), cdns...)
	for range 4 {
		c.step(120)
	}
	for i := range 10 * 60 * 4 {
		// Capacity goes up and down around what is used: the threshold is crossed again and again.
		cdns[0].CapacityViewers = 475 + 50*(i/40%2)
		c.step(i % 2)
	}
	for id, n := range c.moves {
		if n > 1 {
			t.Errorf("session %s moved %d times in ten minutes", id, n)
		}
	}
	if len(c.moves) == 0 {
		t.Error("nobody was moved: the threshold was not crossed")
	}
	t.Logf("%d of %d sessions moved once: %v", len(c.moves), len(c.ids), c.viewers())
}

func BenchmarkDecision(b *testing.B) {
	for _, n := range []int{3, 20} {
		b.Run(fmt.Sprintf("%d CDNs", n), func(b *testing.B) {
			var cdns []schemas.CDN
			for i := range n {
				cdns = append(cdns, schemas.CDN{Name: "cdn" + strconv.Itoa(i), State: schemas.CDNActive, CapacityViewers: 1000, Order: i})
			}
			c := newCrowd(b, 1, policy.Builtin(policy.Quality), cdns...)
			c.step(100)
			for b.Loop() {
				_, err := c.policy.Decide(&policy.Input{Session: "s", CDNs: cdns, Facts: c.routers[0].Facts(cdns, load.Place{Region: "eu", ISP: "x"}, 1e6, c.now)})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
