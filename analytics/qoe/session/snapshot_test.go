package session_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/spillway-live/spillway/analytics/qoe/session"
	"github.com/spillway-live/spillway/schemas"
)

// crowd are sessions that come, report, end, are forgotten and come back.
type crowd struct {
	rnd *rand.Rand
	sn  map[int]int64
}

func (c *crowd) tick(tab *session.Table, ms int64) []schemas.Slice {
	var rows []schemas.Telemetry
	for range c.rnd.IntN(30) {
		i := c.rnd.IntN(200)
		r := report(ms-t0, c.sn[i], "ps", []string{"s", "p", "r", "p", "e", "q"}[c.rnd.IntN(6)])
		c.sn[i]++
		r.SessionID, r.Stream, r.CDN = fmt.Sprint("session", i), fmt.Sprint("stream", c.rnd.IntN(40)), string(rune('a'+c.rnd.IntN(4)))
		rows = append(rows, r)
	}
	tab.Add(rows, ms)
	return tab.Tick(ms)
}

// A whole snapshot and the parts written after it make the very table they are of.
func TestPartsOfASnapshot(t *testing.T) {
	c := session.Config{MinSilenceMs: 8000, MaxSilenceMs: 9000, GraceMs: 500, KeepMs: 4000, MaxSessions: 150}
	tab := session.New(c)
	if _, ok := tab.AppendPart(nil); ok {
		t.Fatal("a part of nothing")
	}
	cr := &crowd{rand.New(rand.NewPCG(1, 2)), map[int]int64{}}
	ms := t0
	var copied *session.Table
	var err error
	forgotten := 0
	for step := range 300 {
		ms += 1000
		before := tab.Remembered()
		cr.tick(tab, ms)
		if tab.Remembered() < before {
			forgotten++
		}
		switch {
		case step%97 == 10:
			if copied, err = session.Restore(tab.AppendSnapshot([]byte("head"))[4:], c); err != nil {
				t.Fatal(err)
			}
		case copied != nil && cr.rnd.IntN(3) == 0:
			part, ok := tab.AppendPart(nil)
			if !ok {
				t.Fatal("no part after a snapshot")
			}
			for _, cut := range []int{0, 3, len(part) / 2, len(part) - 1} {
				other, err := session.Restore(copied.AppendSnapshot(nil), c)
				if err != nil {
					t.Fatal(err)
				}
				if other.Apply(part[:cut]) == nil {
					t.Fatalf("%d of %d bytes were taken", cut, len(part))
				}
			}
			if err := copied.Apply(part); err != nil {
				t.Fatal(err)
			}
			if tab.Open() != copied.Open() || tab.Remembered() != copied.Remembered() {
				t.Fatalf("%d of %d open, restored %d of %d", tab.Open(), tab.Remembered(), copied.Open(), copied.Remembered())
			}
		}
	}
	part, _ := tab.AppendPart(nil)
	if err := copied.Apply(part); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(tab.AppendSnapshot(nil), copied.AppendSnapshot(nil)) {
		t.Fatal("the restored table is another")
	}
	if forgotten == 0 {
		t.Error("no session was forgotten: the test shows nothing")
	}
}

func TestSnapshotOfAnotherKind(t *testing.T) {
	tab := session.New(session.Config{})
	tab.Add(watch(3), t0+3600)
	tab.Tick(t0 + 4000)
	whole := tab.AppendSnapshot(nil)
	part, ok := tab.AppendPart(nil)
	if !ok {
		t.Fatal("no part after a snapshot")
	}
	if _, err := session.Restore(part, session.Config{}); !errors.Is(err, session.ErrVersion) {
		t.Errorf("a part taken for a whole: %v", err)
	}
	if err := tab.Apply(whole); !errors.Is(err, session.ErrVersion) {
		t.Errorf("a whole taken for a part: %v", err)
	}
	whole[len(whole)/2] ^= 1
	if _, err := session.Restore(whole, session.Config{}); err == nil {
		t.Error("damage went unnoticed")
	}
}
