package cut

import "math"

// Limits on what timestamps may do before a new epoch is needed, microseconds.
const (
	maxForwardUs  = 10_000_000 // a longer gap is a jump
	maxBackwardUs = 500_000    // a longer step back is a jump; shorter ones are repaired
)

const (
	lockFrames  = 4    // intervals that must fit the declared rate before it is trusted
	findFrames  = 16   // intervals from which a rate that was not declared is found
	lockTol     = 2.0  // how far from the line they may lie, in grains
	leaveTol    = 4.0  // ... before a later frame is taken to be off it
	driftTol    = 1.25 // mean distance that starts a correction
	leastGrain  = 500  // finer timestamps are still made by clocks that jitter, microseconds
	misfitLimit = 3    // frames off the line, in misfitSpan frames, before the line is given up
	misfitSpan  = 32
)

// pacer turns a video track's timestamps into decode times and
// durations. On the line (locked) a frame's duration is known at once; off it,
// only when the next frame has come.
type pacer struct {
	scale    float64 // timescale units in a second
	grain    float64 // resolution of the timestamps, units
	declared float64 // frame interval as declared, units; 0: not known

	locked   bool
	interval uint64  // of the line, units
	mean     float64 // smoothed distance of the publisher's clock from the line, units
	misfits  int
	since    int // frames since the first misfit

	ring [findFrames + 1]int64 // timestamps off the line, microseconds
	n    int
}

func newPacer(scale uint64, interval float64, grainUs int64) pacer {
	p := pacer{scale: float64(scale), declared: interval}
	p.grain = p.units(max(grainUs, leastGrain))
	return p
}

// unitsOf gives a time in units of 1/scale s; exact where the result is whole, and
// within a unit for the life of any stream.
func unitsOf(us int64, scale float64) float64 {
	s, rest := us/1_000_000, us%1_000_000
	return float64(s)*scale + float64(rest)*scale/1e6
}

func (p *pacer) units(us int64) float64 { return unitsOf(us, p.scale) }

// correction is how far the next part should start after the line, to follow the publisher's clock; units.
func (p *pacer) correction() uint64 {
	if !p.locked || p.mean < driftTol*p.grain {
		return 0
	}
	return uint64(p.mean)
}

// shifted tells that a part was started n units later, as correction asked.
func (p *pacer) shifted(n uint64) { p.mean -= float64(n) }

// onLine places a frame of timestamp us on the line that goes on at end. It
// answers false, and gives the line up, if the frame does not lie there.
func (p *pacer) onLine(us int64, end uint64) (at, dur uint64, ok bool) {
	tol := leaveTol * p.grain
	e := p.units(us) - float64(end)
	at = end
	if e < -tol { // the next frame came too early: the rate has changed
		p.unlock()
		return 0, 0, false
	}
	if e > tol { // frames are missing
		if p.misfits == 0 {
			p.since = 0
		}
		if p.misfits++; p.misfits > misfitLimit {
			p.unlock()
			return 0, 0, false
		}
		at = end + uint64(math.Round(e/float64(p.interval)))*p.interval
		if rest := p.units(us) - float64(at); math.Abs(rest) > tol || at == end {
			at = uint64(math.Round(p.units(us)))
		}
		e = p.units(us) - float64(at)
	}
	if p.misfits > 0 {
		if p.since++; p.since > misfitSpan {
			p.misfits = 0
		}
	}
	p.mean += (e - p.mean) / 16
	dur = p.interval
	if p.mean < -driftTol*p.grain {
		cut := max(1, dur/1000)
		dur -= cut
		p.mean += float64(cut)
	}
	return at, dur, true
}

// unlock gives the line up.
func (p *pacer) unlock() { *p = pacer{scale: p.scale, grain: p.grain, declared: p.declared} }

// offLine takes a timestamp off the line and gives its decode time. It locks if
// the latest timestamps lie on a line, which begins at the first of them.
func (p *pacer) offLine(us int64) uint64 {
	if p.n == len(p.ring) {
		copy(p.ring[:], p.ring[1:])
		p.n--
	}
	p.ring[p.n] = us
	p.n++
	intervals := p.n - 1
	if p.declared > 0 && intervals >= lockFrames && p.fits(p.ring[p.n-1-lockFrames:p.n], p.declared) {
		return p.lock(p.ring[p.n-1-lockFrames:p.n], p.declared)
	} else if intervals == findFrames {
		d := p.units(p.ring[p.n-1]-p.ring[0]) / float64(intervals)
		for _, fps := range [...]float64{24000. / 1001, 24, 25, 30000. / 1001, 30, 50, 60000. / 1001, 60} {
			if r := p.scale / fps; math.Abs(d-r) < r/250 {
				d = r
			}
		}
		if d >= p.scale/1000 && p.fits(p.ring[:p.n], d) {
			return p.lock(p.ring[:p.n], d)
		}
	}
	return uint64(max(0, math.Round(p.units(us))))
}

func (p *pacer) lock(ts []int64, d float64) uint64 {
	p.locked, p.interval, p.mean, p.misfits, p.n = true, uint64(math.Round(d)), 0, 0, 0
	return uint64(max(0, math.Round(p.units(ts[0])+float64(len(ts)-1)*d)))
}

func (p *pacer) fits(ts []int64, d float64) bool {
	for i, us := range ts {
		if math.Abs(p.units(us-ts[0])-float64(i)*d) > lockTol*p.grain {
			return false
		}
	}
	return true
}

// compositionOffset gives presentation minus decode time in units for a frame on
// the line, where the timestamps are the rounding of a whole number of intervals.
func (p *pacer) compositionOffset(us int64) int32 {
	if us <= 0 {
		return 0
	}
	x := min(p.units(us), math.MaxInt32)
	if k := math.Round(x / float64(p.interval)); math.Abs(x-k*float64(p.interval)) <= lockTol*p.grain {
		return int32(min(k*float64(p.interval), math.MaxInt32))
	}
	return int32(x)
}

// sampler counts AAC frames: decode times come from the number of samples, and
// the publisher's timestamps only tell when frames are missing or the clock drifts.
type sampler struct {
	scale float64 // samples in a second
	frame uint64  // samples in a frame
	mean  float64
}

const (
	audioGapMs   = 40.0 // frames are missing when the clock is this far ahead of the count
	audioDriftMs = 6.0
)

type verdict int

const (
	take verdict = iota
	drop         // overlaps what is there
)

// next places a frame of timestamp us after end.
func (s *sampler) next(us int64, end uint64) (at, dur uint64, v verdict) {
	e := unitsOf(us, s.scale) - float64(end)
	if e > audioGapMs*s.scale/1000 {
		s.mean = 0
		return uint64(unitsOf(us, s.scale)), s.frame, take
	}
	if e < -audioGapMs*s.scale/1000 {
		return 0, 0, drop
	}
	s.mean += (e - s.mean) / 64
	dur = s.frame
	if s.mean < -audioDriftMs*s.scale/1000 {
		cut := max(1, dur/200)
		dur -= cut
		s.mean += float64(cut)
	}
	return end, dur, take
}

func (s *sampler) correction() uint64 {
	if s.mean < audioDriftMs*s.scale/1000 {
		return 0
	}
	return uint64(s.mean)
}

func (s *sampler) shifted(n uint64) { s.mean -= float64(n) }
