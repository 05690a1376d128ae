package policy

import (
	"math"

	"github.com/spillway-live/spillway/schemas"
)

// Unlimited is the room of a CDN without limits.
const Unlimited = math.MaxInt32

// unknownBps is what a session is taken to need before anything is known.
const unknownBps = 3e6

// squeeze says how full the CDNs are that may take the session. One that fails
// has room for nobody. What one stream may have counts not: a CDN that is over it can
// serve more, and nobody waits for a place because of it.
func (a *Answer) squeeze(open []*candidate) {
	first := true
	for i := range open {
		c := open[i]
		if c.facts.Failing || c.cdn.State != schemas.CDNActive {
			continue
		}
		all, here := used(c.cdn, c.facts, c.here, c.cdn.CapacityViewers)
		now, ahead := max(all, here), max(all*factor(c.facts.Growth), here*factor(c.facts.RegionGrowth))
		if first {
			a.Full, a.Ahead, first = now, ahead, false
		}
		a.Full, a.Ahead = min(a.Full, now), min(a.Ahead, ahead)
		room, roomHere := room(c.cdn, c.facts, c.here)
		a.RoomAll = min(a.RoomAll+room, Unlimited)
		a.Room = min(a.Room+min(room, roomHere), Unlimited)
	}
	a.NoneHealthy = first && len(open) > 0
}

// room is how many more sessions a CDN can serve, in all and in a region.
func room(c *schemas.CDN, f *Facts, r schemas.Capacity) (all, here int) {
	each := mean(f.BandwidthBps, f.Viewers, f.BitrateBps)
	eachHere := mean(f.RegionBandwidthBps, f.RegionViewers, f.BitrateBps)
	all = min(left(float64(c.CapacityViewers), float64(f.Viewers), 1), left(float64(c.CapacityBps), f.BandwidthBps, each))
	here = min(left(float64(r.Viewers), float64(f.RegionViewers), 1), left(float64(r.Bps), f.RegionBandwidthBps, eachHere))
	return all, min(here, left(float64(c.CapacityBps), f.BandwidthBps, eachHere)) // of the whole, as many as are like those here
}

// mean is what each of a CDN's viewers takes, bit/s; without any, what is likely.
func mean(bps float64, viewers int, likelyBps float64) float64 {
	if viewers > 0 && bps > 0 {
		return bps / float64(viewers)
	}
	if likelyBps > 0 {
		return likelyBps
	}
	return unknownBps
}

// left is how many of a size fit below a limit; 0 is no limit.
func left(limit, used, each float64) int {
	if limit <= 0 {
		return Unlimited
	}
	return int(min(max((limit-used)/each, 0), Unlimited))
}
