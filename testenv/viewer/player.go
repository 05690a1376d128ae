package viewer

import (
	"time"

	"github.com/spillway-live/spillway/ingest/cmcd"
)

// player is a playback buffer in media time. It is moved on lazily: advance
// computes what happened until now, at the exact moments at which it happened,
// so nothing depends on how often or how late it is called. Not safe for
// concurrent use.
type player struct {
	startAhead, resumeAhead time.Duration
	changed                 func(at time.Time) // told of every new state, with p.state set

	state cmcd.State
	at    time.Time     // until when the rest is true
	pos   time.Duration // playhead in media time
	rate  float64
	ends  map[track]time.Duration // buffered end of each track in media time
	spans []span                  // program date time over media time, of the leading track
	final bool                    // nothing more will be appended

	began    time.Time // when playing was asked for
	first    time.Time // first frame
	waiting  time.Time // when the running wait began
	startup  time.Duration
	played   time.Duration
	stalled  time.Duration
	seeking  time.Duration
	stalls   int
	seeks    int
	lastWall time.Time // program date time at the playhead when last known
}

type track int

const (
	video track = iota
	audio
)

// span maps a piece of media time to program date time.
type span struct {
	start, end time.Duration
	wall       time.Time
}

// newPlayer starts at now, without tracks: put them into ends before anything is appended.
func newPlayer(now time.Time, start, resume time.Duration, changed func(time.Time)) *player {
	return &player{
		startAhead: start, resumeAhead: resume, changed: changed, state: cmcd.StateStarting,
		at: now, began: now, waiting: now, rate: 1, ends: map[track]time.Duration{},
	}
}

// ahead is how much can be played without more data.
func (p *player) ahead() time.Duration { return max(p.end()-p.pos, 0) }

// end is where the first track runs out.
func (p *player) end() time.Duration {
	first := true
	var e time.Duration
	for _, x := range p.ends {
		if first || x < e {
			e, first = x, false
		}
	}
	return e
}

// reset empties the buffer: every track ends at the playhead.
func (p *player) reset() {
	for t := range p.ends {
		p.ends[t] = p.pos
	}
	p.spans = nil
}

// begin says where the first append of a track after a reset starts.
func (p *player) begin(t track, at time.Duration) { p.ends[t] = at }

// append adds media to a track; wall is its program date time, kept for the leading track.
func (p *player) append(t track, leading bool, wall time.Time, d time.Duration, now time.Time) {
	p.advance(now)
	start := p.ends[t]
	p.ends[t] = start + d
	if leading {
		p.spans = append(p.spans, span{start, start + d, wall})
		for len(p.spans) > 1 && p.spans[0].end < p.pos {
			p.spans = p.spans[1:]
		}
	}
	p.advance(now)
}

// advance moves on to now.
func (p *player) advance(now time.Time) {
	if now.Before(p.at) {
		return
	}
	for {
		switch p.state {
		case cmcd.StatePlaying:
			d := now.Sub(p.at)
			left := time.Duration(float64(p.ahead()) / p.rate)
			if d < left {
				p.pos += time.Duration(float64(d) * p.rate)
				p.played += d
				p.at = now
				return
			}
			p.pos, p.at = p.end(), p.at.Add(left)
			p.played += left
			if p.final {
				p.change(cmcd.StateEnded)
				continue
			}
			p.stalls++
			p.change(cmcd.StateRebuffering)
		case cmcd.StateStarting, cmcd.StateRebuffering, cmcd.StateSeeking:
			need := p.resumeAhead
			if p.state == cmcd.StateStarting {
				need = p.startAhead
			}
			// Nothing ahead is never enough, or an empty buffer would play and stall for ever.
			if p.ahead() == 0 || p.ahead() < need && !p.final {
				if p.final && p.state != cmcd.StateStarting {
					p.at = now
					p.change(cmcd.StateEnded)
					continue
				}
				p.at = now
				return
			}
			// Data comes by append, which advances first: it is there since now.
			p.at = now
			p.change(cmcd.StatePlaying)
		default:
			p.at = now
			return
		}
	}
}

// change enters a state at p.at and accounts for the wait that ends.
func (p *player) change(to cmcd.State) {
	waited := p.at.Sub(p.waiting)
	switch p.state {
	case cmcd.StateRebuffering:
		p.stalled += waited
	case cmcd.StateSeeking:
		p.seeking += waited
	case cmcd.StateStarting:
		if to == cmcd.StatePlaying {
			p.startup, p.first = p.at.Sub(p.began), p.at
		}
	}
	p.state, p.waiting = to, p.at
	p.changed(p.at)
}

// seek throws the buffer away and waits for data at pos.
func (p *player) seek(now time.Time) {
	p.advance(now)
	p.seeks++
	p.reset()
	if p.state != cmcd.StateSeeking && p.state != cmcd.StateStarting {
		p.change(cmcd.StateSeeking)
	}
}

// stop enters a last state: quit, fatal error.
func (p *player) stop(to cmcd.State, now time.Time) {
	p.advance(now)
	if p.state != cmcd.StateEnded {
		p.change(to)
	}
}

// wall is the program date time at the playhead.
func (p *player) wall() (time.Time, bool) {
	for i := range p.spans {
		if s := &p.spans[i]; p.pos <= s.end && !s.wall.IsZero() {
			p.lastWall = s.wall.Add(p.pos - s.start)
			return p.lastWall, true
		}
	}
	return p.lastWall, !p.lastWall.IsZero() && p.state != cmcd.StateSeeking
}

// stalledNow and playedNow include what is running.
func (p *player) stalledNow(now time.Time) time.Duration {
	if p.state == cmcd.StateRebuffering && now.After(p.waiting) {
		return p.stalled + now.Sub(p.waiting)
	}
	return p.stalled
}
