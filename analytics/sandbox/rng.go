package sandbox

import "math"

// rng is splitmix64 (Steele, Lea and Flood 2014): eight bytes of state, so that
// every session has its own and what one draws never depends on another.
type rng uint64

func (r *rng) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	return mix(uint64(*r))
}

func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// float is uniform in (0, 1).
func (r *rng) float() float64 { return (float64(r.next()>>11) + 0.5) / (1 << 53) }

// normal draws from the standard normal distribution (Box and Muller).
func (r *rng) normal() float64 {
	return math.Sqrt(-2*math.Log(r.float())) * math.Cos(2*math.Pi*r.float())
}

func (r *rng) exp(mean float64) float64 { return -mean * math.Log(r.float()) }

// fixed gives a standard normal number that belongs to two keys for good.
func fixed(a, b uint64) float64 {
	r := rng(mix(a ^ mix(b+0x51ed270b)))
	return r.normal()
}
