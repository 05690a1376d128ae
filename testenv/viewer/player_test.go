package viewer

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/ingest/cmcd"
)

// TestPlayer plays scripts; times are milliseconds.
func TestPlayer(t *testing.T) {
	t0 := time.UnixMilli(1_700_000_000_000)
	at := func(ms int) time.Time { return t0.Add(time.Duration(ms) * time.Millisecond) }
	ms := func(d time.Duration) int64 { return d.Milliseconds() }
	for _, c := range []struct {
		name   string
		script func(p *player)
		states string
		want   [6]int64 // startup, played, stalled, stalls, seeking, position
	}{
		{"starts when enough is there", func(p *player) {
			p.append(video, true, t0, 200*time.Millisecond, at(100))
			p.append(audio, false, t0, 900*time.Millisecond, at(100))
			p.append(video, true, t0.Add(200*time.Millisecond), 200*time.Millisecond, at(250))
			p.advance(at(350))
		}, "p@250", [6]int64{250, 100, 0, 0, 0, 100}},
		{"the shorter track counts", func(p *player) {
			p.append(video, true, t0, time.Hour, at(100))
			p.append(audio, false, t0, 299*time.Millisecond, at(100))
			p.advance(at(9999))
		}, "", [6]int64{}},
		{"a stall is found late and dated right", func(p *player) {
			p.append(video, true, t0, time.Second, at(100))
			p.append(audio, false, t0, time.Second, at(100))
			p.advance(at(5000)) // ran dry at 1100
			p.append(video, true, t0, 500*time.Millisecond, at(6000))
			p.append(audio, false, t0, 500*time.Millisecond, at(6100))
			p.advance(at(6200))
		}, "p@100 r@1100 p@6100", [6]int64{100, 1100, 5000, 1, 0, 1100}},
		{"faster playback eats the buffer faster", func(p *player) {
			p.append(video, true, t0, 1200*time.Millisecond, at(0))
			p.append(audio, false, t0, 1200*time.Millisecond, at(0))
			p.rate = 1.5
			p.advance(at(2000))
		}, "p@0 r@800", [6]int64{0, 800, 1200, 1, 0, 1200}},
		{"a jump is no stall", func(p *player) {
			p.append(video, true, t0, time.Second, at(0))
			p.append(audio, false, t0, time.Second, at(0))
			p.advance(at(1500))
			p.seek(at(2000))
			p.begin(video, p.pos-100*time.Millisecond)
			p.append(video, true, t0, 700*time.Millisecond, at(2500))
			p.append(audio, false, t0, 700*time.Millisecond, at(2600))
			p.advance(at(2800))
		}, "p@0 r@1000 k@2000 p@2600", [6]int64{0, 1200, 1000, 1, 600, 1200}},
		{"plays to the end", func(p *player) {
			p.append(video, true, t0, time.Second, at(0))
			p.append(audio, false, t0, 900*time.Millisecond, at(0))
			p.final = true
			p.advance(at(3000))
			p.stop(cmcd.StateQuit, at(4000))
		}, "p@0 e@900", [6]int64{0, 900, 0, 0, 0, 900}},
		{"quits while stalled", func(p *player) {
			p.append(video, true, t0, time.Second, at(0))
			p.append(audio, false, t0, time.Second, at(0))
			p.stop(cmcd.StateQuit, at(1500))
		}, "p@0 r@1000 q@1500", [6]int64{0, 1000, 500, 1, 0, 1000}},
		{"time that runs backwards changes nothing", func(p *player) {
			p.append(video, true, t0, time.Second, at(0))
			p.append(audio, false, t0, time.Second, at(0))
			p.advance(at(500))
			p.advance(at(400))
		}, "p@0", [6]int64{0, 500, 0, 0, 0, 500}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var states []string
			var p *player
			p = newPlayer(t0, 300*time.Millisecond, 500*time.Millisecond, func(when time.Time) {
				states = append(states, fmt.Sprintf("%s@%d", p.state, when.Sub(t0).Milliseconds()))
			})
			p.ends[video], p.ends[audio] = 0, 0
			c.script(p)
			if got := strings.Join(states, " "); got != c.states {
				t.Errorf("states %q, want %q", got, c.states)
			}
			got := [6]int64{ms(p.startup), ms(p.played), ms(p.stalledNow(p.at)), int64(p.stalls), ms(p.seeking), ms(p.pos)}
			if got != c.want {
				t.Errorf("startup, played, stalled, stalls, seeking, position %v, want %v", got, c.want)
			}
		})
	}
}

func TestWallClockAtThePlayhead(t *testing.T) {
	t0 := time.UnixMilli(1_700_000_000_000)
	p := newPlayer(t0, 0, 0, func(time.Time) {})
	p.ends[video] = 0
	p.append(video, true, t0.Add(-time.Hour), time.Second, t0)
	p.append(video, true, t0.Add(-time.Minute), time.Second, t0) // a discontinuity in wall time
	p.advance(t0.Add(1500 * time.Millisecond))
	if w, ok := p.wall(); !ok || !w.Equal(t0.Add(-time.Minute+500*time.Millisecond)) {
		t.Errorf("wall %v, %t", w, ok)
	}
}
