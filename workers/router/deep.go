package router

import (
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/spillway-live/spillway/ingest/cmcd"
)

const (
	// deepBufferMs is the buffer, milliseconds, with which a session can try a
	// failing CDN: a player needs about half of it to see that nothing comes and to go back.
	deepBufferMs = 6000
	// testers is how many sessions try a failing CDN in each round of steering
	// answers, of those that ask this router.
	testers = 6
	// maxTest is the largest share of them.
	maxTest = 0.5
	// deepRound is the time over which they are counted.
	deepRound = 10 * time.Second
)

// deepBuffers counts the steering requests of sessions with deep buffers.
type deepBuffers struct {
	mu        sync.Mutex
	from      time.Time
	now, last int // requests since from, and in the round before
}

// share gives what share of the sessions with such a buffer may try a failing
// CDN; 0 for one whose buffer is thin or not known.
func (d *deepBuffers) share(bufferMs int64, now time.Time) float64 {
	if bufferMs < deepBufferMs {
		return 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn(now)
	d.now++
	return min(testers/float64(max(d.now, d.last)), maxTest)
}

// any says whether such sessions have asked lately: new ones are spared then.
func (d *deepBuffers) any(now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn(now)
	return d.now+d.last > 0
}

func (d *deepBuffers) turn(now time.Time) {
	switch age := now.Sub(d.from); {
	case age < deepRound && age >= 0:
		return
	case age < 2*deepRound && age >= 0:
		d.last = d.now
	default:
		d.last = 0
	}
	d.now, d.from = 0, now
}

// bufferOf reads the buffer that a steering request tells of, milliseconds: CMCD
// (dash.js, where steering is among its includeInRequests), or a parameter bl
// (our page and viewers). 0: not told.
func bufferOf(v url.Values) int64 {
	if text := v.Get("CMCD"); text != "" {
		var rec cmcd.Record
		rec.ParseText(cmcd.ModeRequest, text)
		if ms, ok := rec.BufferMs.Min(); ok && rec.Has.Has(cmcd.BL) {
			return ms
		}
	}
	ms, err := strconv.ParseInt(v.Get("bl"), 10, 32)
	if err != nil || ms < 0 {
		return 0
	}
	return ms
}
