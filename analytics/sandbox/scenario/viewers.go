package scenario

import (
	"math"
	"math/rand/v2"

	"github.com/spillway-live/spillway/analytics/sandbox"
)

func lognormal(r *rand.Rand, median, sigma float64) float64 {
	return median * math.Exp(sigma*r.NormFloat64())
}

// crowd makes viewers as a Poisson process whose rate follows the audience wanted,
// so that about audience(t) watch at t when the mean session lasts watchSec.
type crowd struct {
	rnd      *rand.Rand
	seconds  float64
	watchSec float64
	audience func(t float64) float64 // viewers at once
	most     float64                 // of audience
	places   []sandbox.Place
	// medianBps of the accesses and its deviation.
	medianBps, sigma float64
	at               float64
}

// next gives the next viewer (thinning, Lewis and Shedler 1979).
func (c *crowd) next() (sandbox.Viewer, bool) {
	for {
		c.at += c.rnd.ExpFloat64() * c.watchSec / c.most
		if c.at >= c.seconds {
			return sandbox.Viewer{}, false
		}
		if c.rnd.Float64()*c.most < c.audience(c.at) {
			break
		}
	}
	v := sandbox.Viewer{
		AtSec: c.at, WatchSec: 20 + c.rnd.ExpFloat64()*(c.watchSec-20), MedianBps: lognormal(c.rnd, c.medianBps, c.sigma),
		Group: uint8(c.rnd.IntN(16)), Seed: c.rnd.Uint64(),
	}
	share := c.rnd.Float64()
	for i := range c.places {
		if share -= c.places[i].Share; share < 0 || i == len(c.places)-1 {
			v.Place = i
			break
		}
	}
	return v, true
}
