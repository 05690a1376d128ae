package relay

import (
	"encoding/json"
	"hash/maphash"
	"math"
	"math/bits"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
)

const (
	// crowdBits bounds what a stream's count takes (two windows of 512 bytes) and
	// what can be counted: about 34,000 sessions, to a few percent up to 15,000.
	crowdBits = 4096
	// crowdWindow is longer than routers wait to repeat a decision that has not changed (a minute).
	crowdWindow = 75 * time.Second
)

// audience counts the sessions of this region's routers by stream, from their
// decisions. Sessions that do not steer are heard once, and counted for one to two
// windows: the count is what there is at least.
type audience struct {
	seed maphash.Seed

	mu    sync.Mutex
	since time.Time // when the present windows began
	now   map[schemas.StreamKey]*crowd
	past  map[schemas.StreamKey]*crowd
}

// crowd is a set of sessions of which the size can be told (linear counting;
// Whang, Vander-Zanden, Taylor 1990).
type crowd [crowdBits / 64]uint64

func newAudience() *audience {
	return &audience{seed: maphash.MakeSeed(), now: map[schemas.StreamKey]*crowd{}}
}

// heard takes decisions on decisions.<kind>.<app>.<stream>.
func (a *audience) heard(m *nats.Msg, now time.Time) {
	f := strings.Split(m.Subject, ".")
	if len(f) != 4 || f[1] == string(schemas.DecisionPublish) {
		return
	}
	k := schemas.StreamKey{App: f[2], Stream: f[3]}
	if told := m.Header[schemas.HeaderWhere]; len(told) > 0 {
		for _, v := range told {
			if w, err := schemas.ParseWhere(v); err == nil { // else it sends nobody
				a.watches(k, w.SessionID, now)
			}
		}
		return
	}
	var d struct { // of a router before that header
		SessionID string `json:"session_id"`
	}
	if json.Unmarshal(m.Data, &d) == nil && d.SessionID != "" {
		a.watches(k, d.SessionID, now)
	}
}

func (a *audience) watches(k schemas.StreamKey, session string, now time.Time) {
	h := maphash.String(a.seed, session)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.turn(now)
	c := a.now[k]
	if c == nil {
		if len(a.now) >= maxWants {
			return
		}
		c = &crowd{}
		a.now[k] = c
	}
	c[h%crowdBits/64] |= 1 << (h % 64)
}

// turn begins new windows when the present ones are full.
func (a *audience) turn(now time.Time) {
	switch age := now.Sub(a.since); {
	case age >= 2*crowdWindow:
		a.now, a.past, a.since = map[schemas.StreamKey]*crowd{}, nil, now
	case age >= crowdWindow:
		a.now, a.past, a.since = map[schemas.StreamKey]*crowd{}, a.now, now
	}
}

// of estimates how many sessions watch a stream.
func (a *audience) of(k schemas.StreamKey, now time.Time) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.turn(now)
	set := 0
	x, y := a.now[k], a.past[k]
	for i := range crowdBits / 64 {
		var w uint64
		if x != nil {
			w = x[i]
		}
		if y != nil {
			w |= y[i]
		}
		set += bits.OnesCount64(w)
	}
	return int(math.Round(crowdBits * math.Log(crowdBits/float64(max(crowdBits-set, 1)))))
}
