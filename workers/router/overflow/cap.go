package overflow

import (
	"sync"
	"time"
)

const (
	// A cap ends when load has been this far below where it began for its hold,
	// which doubles each time the cap comes back within backSoon, up to maxHold:
	// what is saved by the cap looks like room.
	capBand  = 0.15
	minHold  = time.Minute
	maxHold  = 30 * time.Minute
	backSoon = 30 * time.Minute
	// maxRegions bounds the regions remembered.
	maxRegions = 10_000
)

// Caps remembers in which regions renditions are held to a bitrate. Safe for concurrent use.
type Caps struct {
	mu sync.Mutex
	by map[Where]*capped
}

// Where a cap holds: a region, and the share of all capacity in use from which on it begins there.
type Where struct {
	Region string
	From   float64
}

type capped struct {
	on    bool
	below time.Time // since when load has been low; zero: it is not
	ended time.Time
	hold  time.Duration
}

// On says whether the cap holds. load is the share of all capacity in use there, as forecast.
func (c *Caps) On(at Where, load float64, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	from := at.From
	x := c.by[at]
	if x == nil {
		if load < from || len(c.by) >= maxRegions {
			return load >= from
		}
		if c.by == nil {
			c.by = map[Where]*capped{}
		}
		x = &capped{hold: minHold}
		c.by[at] = x
	}
	switch {
	case load >= from && !x.on:
		if !x.ended.IsZero() {
			if x.hold = min(2*x.hold, maxHold); now.Sub(x.ended) > backSoon {
				x.hold = minHold
			}
		}
		x.on, x.below = true, time.Time{}
	case load >= from-capBand:
		x.below = time.Time{}
	case x.on && x.below.IsZero():
		x.below = now
	case x.on && now.Sub(x.below) >= x.hold:
		x.on, x.ended = false, now
	}
	return x.on
}
