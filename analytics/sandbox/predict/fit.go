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
	out.viewers, out.of = nil, nil
	for i := range n {
		k := i * len(m.viewers) / n
		out.viewers, out.of = append(out.viewers, m.viewers[k]), append(out.of, m.of[k])
	}
	return &out
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
func (m *model) calibrate() error {
	if err := m.calibrateRTT(); err != nil {
		return err
	}
	if err := m.calibrateAccess(); err != nil {
		return err
	}
	return m.calibrateRTT()
}

func (m *model) calibrateAccess() error {
	seen := m.seen()
	duration := ratio(seen, stallSec)
	want := ratio(seen, stallRatio)
	lo, hi := math.Log(1.0), math.Log(30.0)
	from, to := 0.05, 1.6
	for _, steps := range []int{5, 3, 3, 5} {
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
