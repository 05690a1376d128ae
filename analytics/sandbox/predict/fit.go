package predict

import (
	"math"
	"slices"

	"github.com/spillway-live/spillway/analytics/sandbox"
)

// calibrateOn is how many of the recorded sessions the model is fitted on: the fit
// takes some twenty runs, and the error of so many sessions is far below the
// model's own. All sessions count in the prediction.
const calibrateOn = 1500

// fitRuns is how many runs calibrate takes.
const fitRuns = 22

// fitWork is what a fit of so many sessions takes, in sessions simulated, where no CDN has limits.
func fitWork(sessions int) int { return fitRuns * min(sessions, calibrateOn) }

// sample is the model with at most n of its viewers, evenly from all of the time.
// Where a CDN has limits they all stay: fewer would find it empty.
func (m *model) sample(n int) *model {
	out := *m
	out.cdns = slices.Clone(m.cdns)
	for i := range out.cdns {
		c := &out.cdns[i]
		c.Paths = slices.Clone(c.Paths)
		if c.CapacityBps > 0 || len(c.RegionCapacity) > 0 {
			n = len(m.viewers)
		}
	}
	if len(m.viewers) <= n {
		return &out
	}
	out.viewers, out.of = m.sampled(n), nil
	for i := range n {
		out.of = append(out.of, m.of[i*len(m.viewers)/n])
	}
	return &out
}

// sampled are n of the viewers, evenly.
func (m *model) sampled(n int) []sandbox.Viewer {
	out := make([]sandbox.Viewer, n)
	for i := range out {
		out[i] = m.viewers[i*len(m.viewers)/n]
	}
	return out
}

// measuringNoise is how much the logarithm of what a session measures varies around
// the rate its access has in the long run: variance = fixed + bySec/seconds.
type measuringNoise struct{ fixed, bySec float64 }

func (n measuringNoise) variance(sec float64) float64 { return n.fixed + n.bySec/max(sec, 1) }

// measuringNoise finds it in the simulator, whose accesses' rates are known.
func (m *model) measuringNoise() (n measuringNoise, err error) {
	x, res, err := m.run(m.asRecorded())
	if err != nil {
		return n, err
	}
	m.fitHours += res.Hours
	// Least squares of the squared deviation on 1/seconds.
	var off, secs []float64
	mean := 0.0
	for i := range x {
		if v := &m.viewers[i]; x[i].bps > 0 {
			off = append(off, math.Log(x[i].bps/(v.MedianBps*m.cdns[m.cdn[m.of[i].CDN]].Paths[v.Place].Factor)))
			secs = append(secs, 1/max(v.WatchSec, 1))
			mean += off[len(off)-1]
		}
	}
	k := float64(len(off))
	mean /= max(k, 1)
	var sx, sy, sxx, sxy float64
	for i := range off {
		y := (off[i] - mean) * (off[i] - mean)
		sx, sy, sxx, sxy = sx+secs[i], sy+y, sxx+secs[i]*secs[i], sxy+secs[i]*y
	}
	if d := k*sxx - sx*sx; d > 0 {
		n.bySec = max((k*sxy-sx*sy)/d, 0)
	}
	n.fixed = max((sy-n.bySec*sx)/max(k, 1), 0)
	return n, nil
}

// shrink draws each viewer's rate towards its place's mean by as much of its
// deviation as measuring explains (empirical Bayes). Without this a short session's
// luck counts twice: in the rate that it is given, and again when that rate varies;
// then too many viewers stall all the time, whatever the player does.
func (m *model) shrink() {
	noise := m.noise
	type sums struct{ n, log, square, noise float64 }
	by := make([]sums, len(m.places))
	for i := range m.viewers {
		v := &m.viewers[i]
		l, s := math.Log(v.MedianBps), &by[v.Place]
		s.n, s.log, s.square, s.noise = s.n+1, s.log+l, s.square+l*l, s.noise+noise.variance(v.WatchSec)
	}
	for i := range m.viewers {
		v := &m.viewers[i]
		s := &by[v.Place]
		mean := s.log / s.n
		all := s.square/s.n - mean*mean
		between := max(all-s.noise/s.n, all/50)
		v.MedianBps = math.Exp(mean + between/(between+noise.variance(v.WatchSec))*(math.Log(v.MedianBps)-mean))
	}
}

// errorRatios gives the share of requests that fail on each path, drawn towards the
// CDN's where few were seen. A request that fails costs a second or more, which a
// short buffer does not have.
func (m *model) errorRatios() [][]float64 {
	const prior = 1000 // requests
	n, np := len(m.rec.CDNs), len(m.places)
	requests, failed := grid(n, np), grid(n, np)
	for i := range m.rec.Sessions {
		s := &m.rec.Sessions[i]
		c, p := m.cdn[s.CDN], m.index[place{s.Region, s.ISP}]
		requests[c][p] += s.Requests
		failed[c][p] += min(s.RequestErrors, s.Requests)
	}
	for c := range n {
		all, bad := 0.0, 0.0
		for p := range np {
			all, bad = all+requests[c][p], bad+failed[c][p]
		}
		for p := range np {
			failed[c][p] = (failed[c][p] + prior*bad/max(all, 1)) / (requests[c][p] + prior)
		}
	}
	return failed
}

// roundTripsToStart is how many round trips a start takes in the simulator: three
// for dispatch, manifest and playlist, one and a half for the first segment.
const roundTripsToStart = 4.5

// calibrateRTT finds the round trips of each path by how much earlier or later
// sessions on it started than they do in the simulator. The median counts: means
// are made by the few that wait for a stalled access.
func (m *model) calibrateRTT() error {
	x, res, err := m.run(m.asRecorded())
	if err != nil {
		return err
	}
	m.fitHours += res.Hours
	late := make([][][]float64, len(m.cdns))
	for c := range late {
		late[c] = make([][]float64, len(m.places))
	}
	for i, s := range m.of {
		if s.Started && x[i].started > 0 {
			c, p := m.cdn[s.CDN], m.viewers[i].Place
			late[c][p] = append(late[c][p], s.FirstScreenSec-x[i].first)
		}
	}
	for c := range m.cdns {
		for p := range m.places {
			if n := len(late[c][p]); n >= minCell {
				slices.Sort(late[c][p])
				rtt := &m.cdns[c].Paths[p].RTTSec
				*rtt = min(max(*rtt+late[c][p][n/2]/roundTripsToStart, 0.002), 0.5)
			}
		}
	}
	return nil
}

// calibrate finds how restless accesses are: the deviation of rates within a
// session and how long a rate holds, for which the simulator, everybody where they
// were, stalls as much as was recorded and as long at a time. Short holds are
// smoothed by the buffer, long ones are not.
func (m *model) calibrate(whole *model) error {
	if err := m.calibrateRTT(); err != nil {
		return err
	}
	if err := m.calibrateAccess(4, 2); err != nil {
		return err
	}
	noise, err := m.measuringNoise()
	if err != nil {
		return err
	}
	whole.noise = noise
	whole.shrink()
	m.viewers = whole.sampled(len(m.viewers))
	if err := m.calibrateAccess(5, 2, 2, 4); err != nil {
		return err
	}
	return m.calibrateRTT()
}

func (m *model) calibrateAccess(halvings ...int) error {
	seen := m.seen()
	duration := ratio(seen, stallSec)
	want := ratio(seen, stallRatio)
	lo, hi := math.Log(1.0), math.Log(30.0)
	from, to := 0.05, 1.6
	for _, steps := range halvings {
		m.hold = math.Exp((lo + hi) / 2)
		x, err := m.calibrateSigma(want, from, to, steps)
		if err != nil {
			return err
		}
		if duration <= 0 {
			return nil
		}
		if ratio(x, stallSec) < duration {
			lo = math.Log(m.hold)
		} else {
			hi = math.Log(m.hold)
		}
		from, to = max(m.sigma-0.25, 0.02), m.sigma+0.25 // another hold asks for another deviation, not far off
	}
	return nil
}

func (m *model) calibrateSigma(want, lo, hi float64, steps int) ([]totals, error) {
	var x []totals
	for range steps {
		m.sigma = (lo + hi) / 2
		var err error
		var res *sandbox.Result
		if x, res, err = m.run(m.asRecorded()); err != nil {
			return nil, err
		}
		m.fitHours += res.Hours
		if ratio(x, stallRatio) < want {
			lo = m.sigma
		} else {
			hi = m.sigma
		}
	}
	return x, nil
}
