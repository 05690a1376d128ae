// Package predict tells from recorded traffic what a routing policy or a player
// setting would do: it fits the simulator of package sandbox to a recording,
// runs the candidate on the recorded viewers, and says how sure it is.
//
// It promises: intervals that hold what sampling and the model's known error
// leave open; a refusal with its reason (Refusal) where the recording cannot
// support the question; the same answer for the same recording and seed; no I/O.
// It leaves out what no recording shows: CDNs nobody was sent to, and loads that
// never occurred.
package predict

import (
	"fmt"
	"math"
	"slices"

	"github.com/spillway-live/spillway/analytics/sandbox"
	"github.com/spillway-live/spillway/schemas"
)

// Session is one recorded playback, a line of sessions.ndjson.
type Session struct {
	ID     string `json:"session_id"`
	Viewer string `json:"viewer_id,omitempty"`
	// AtSec is when it began, WatchSec how long it lasted, from any common origin.
	AtSec    float64 `json:"at_s"`
	WatchSec float64 `json:"watch_s"`
	Region   string  `json:"region"`
	ISP      string  `json:"isp"`
	// CDN it was first sent to, and the probability of that choice; 0: not logged.
	CDN         string  `json:"cdn"`
	Probability float64 `json:"probability"`
	Started     bool    `json:"started"`
	// FirstScreenSec of those that started; LatencySec the mean while playing, 0: not known.
	FirstScreenSec float64 `json:"first_screen_s"`
	PlayedSec      float64 `json:"played_s"`
	StalledSec     float64 `json:"stalled_s"`
	Stalls         int     `json:"stalls"`
	LatencySec     float64 `json:"latency_s"`
	Bytes          float64 `json:"bytes"`
	// ThroughputBps is the mean that the player measured; 0: not known.
	ThroughputBps float64 `json:"throughput_bps"`
	// Requests for media, and how many of them failed, as edges log them; 0: not known.
	Requests      float64 `json:"requests,omitempty"`
	RequestErrors float64 `json:"request_errors,omitempty"`
}

// Recording is traffic as it was, with the CDNs and the player it ran on.
type Recording struct {
	CDNs   []schemas.CDN  `json:"cdns"`
	Player sandbox.Player `json:"player"`
	// SteeringTTLSec is how often players asked; 0: never.
	SteeringTTLSec float64   `json:"steering_ttl_s"`
	Sessions       []Session `json:"-"`
}

// Refusal says why a recording cannot answer a question.
type Refusal struct{ Reason string }

func (r *Refusal) Error() string { return "the recording cannot answer: " + r.Reason }

func refuse(format string, a ...any) error { return &Refusal{fmt.Sprintf(format, a...)} }

// What a recording must hold at least.
const (
	minSessions = 200 // that started
	minStalled  = 30  // that stalled: fewer say nothing about a stall ratio
	minCell     = 20  // sessions of a CDN in a place before it is taken to be known
	maxUnknown  = 0.05
)

// check names what is wrong with a recording.
func (r *Recording) check() error {
	if len(r.CDNs) == 0 {
		return refuse("it names no CDNs")
	}
	if !(r.Player.SegmentSec > 0) || len(r.Player.Levels) == 0 {
		return refuse("it does not say what the player was offered: player.SegmentSec and player.Levels")
	}
	started, stalled, measured := 0, 0, 0
	for i := range r.Sessions {
		s := &r.Sessions[i]
		for _, x := range []float64{s.AtSec, s.WatchSec, s.Probability, s.FirstScreenSec, s.PlayedSec, s.StalledSec, s.LatencySec, s.Bytes, s.ThroughputBps, s.Requests, s.RequestErrors} {
			if math.IsNaN(x) || math.IsInf(x, 0) || x < 0 {
				return fmt.Errorf("session %d, %.64q: a number is negative or none", i+1, s.ID)
			}
		}
		if s.Probability > 1 {
			return fmt.Errorf("session %d, %.64q: probability %v is above 1", i+1, s.ID, s.Probability)
		}
		if s.Started {
			started++
		}
		if s.StalledSec > 0 {
			stalled++
		}
		if s.ThroughputBps > 0 {
			measured++
		}
	}
	switch {
	case started < minSessions:
		return refuse("%d sessions started: at least %d are needed", started, minSessions)
	case stalled < minStalled:
		return refuse("%d sessions stalled: at least %d are needed to say anything about stalls", stalled, minStalled)
	case measured < len(r.Sessions)*8/10:
		return refuse("only %d of %d sessions say what throughput they measured", measured, len(r.Sessions))
	}
	return nil
}

// place is a region and provider.
type place struct{ region, isp string }

// model is a recording, fitted.
type model struct {
	rec    *Recording
	places []sandbox.Place
	index  map[place]int
	cdn    map[string]int
	cdns   []sandbox.CDN
	known  [][]int // sessions by CDN and place
	// viewers are the recorded sessions as the simulator wants them; of[i] is the session behind.
	viewers []sandbox.Viewer
	of      []*Session
	sigma   float64
	hold    float64
	seed    uint64
	seconds float64
	noise   measuringNoise
	// fitHours are session-hours simulated to fit it.
	fitHours float64
	meter    *meter
}

// fit makes viewers and paths from a recording, and finds how restless accesses
// are by matching the stall ratio that was seen.
func fit(r *Recording, seed uint64, work *meter) (*model, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	m := &model{rec: r, index: map[place]int{}, cdn: map[string]int{}, seed: seed, meter: work}
	for i := range r.CDNs {
		m.cdn[r.CDNs[i].Name] = i
	}
	for i := range r.Sessions {
		s := &r.Sessions[i]
		if _, ok := m.cdn[s.CDN]; !ok {
			return nil, refuse("session %.64q was on CDN %.64q, which is not in its list of CDNs", s.ID, s.CDN)
		}
		p := place{s.Region, s.ISP}
		if _, ok := m.index[p]; !ok {
			m.index[p] = len(m.places)
			m.places = append(m.places, sandbox.Place{Region: s.Region, ISP: s.ISP})
		}
		m.places[m.index[p]].Share += 1 / float64(len(r.Sessions))
	}
	factors := m.paths()
	m.people(factors)
	few := m.sample(calibrateOn)
	if err := few.calibrate(m); err != nil {
		return nil, err
	}
	m.sigma, m.hold, m.cdns, m.fitHours = few.sigma, few.hold, few.cdns, few.fitHours
	return m, nil
}

// paths estimates how much of a viewer's rate each CDN lets through in each place:
// the mean logarithm of throughput there beside the best CDN's, drawn towards the
// CDN's mean over all places where few were seen.
func (m *model) paths() [][]float64 {
	n, np := len(m.rec.CDNs), len(m.places)
	sum, count := grid(n, np), grid(n, np)
	placeSum, placeCount := make([]float64, np), make([]float64, np)
	for i := range m.rec.Sessions {
		if s := &m.rec.Sessions[i]; s.ThroughputBps > 0 {
			c, p := m.cdn[s.CDN], m.index[place{s.Region, s.ISP}]
			l := math.Log(s.ThroughputBps)
			sum[c][p] += l
			count[c][p]++
			placeSum[p] += l
			placeCount[p]++
		}
	}
	const prior = 10
	factors := grid(n, np)
	m.known = make([][]int, n)
	for c := range n {
		m.known[c] = make([]int, np)
		off, all := 0.0, 0.0
		for p := range np {
			m.known[c][p] = int(count[c][p])
			if count[c][p] > 0 {
				off += sum[c][p] - count[c][p]*placeSum[p]/placeCount[p]
				all += count[c][p]
			}
		}
		if all > 0 {
			off /= all
		}
		for p := range np {
			factors[c][p] = prior * off
			if count[c][p] > 0 {
				factors[c][p] += sum[c][p] - count[c][p]*placeSum[p]/placeCount[p]
			}
			factors[c][p] /= prior + count[c][p]
		}
	}
	errs := m.errorRatios()
	for p := range np {
		best := math.Inf(-1)
		for c := range n {
			best = max(best, factors[c][p])
		}
		for c := range n {
			factors[c][p] = math.Exp(factors[c][p] - best)
		}
	}
	for c := range n {
		x := sandbox.CDN{CDN: m.rec.CDNs[c]}
		for p := range np {
			x.Paths = append(x.Paths, sandbox.Path{RTTSec: 0.04, Factor: factors[c][p], ErrorRatio: errs[c][p]})
		}
		m.cdns = append(m.cdns, x)
	}
	return factors
}

func grid(n, k int) [][]float64 {
	g := make([][]float64, n)
	for i := range g {
		g[i] = make([]float64, k)
	}
	return g
}

// people turns sessions into viewers, in order of time.
func (m *model) people(factors [][]float64) {
	order := make([]*Session, len(m.rec.Sessions))
	for i := range order {
		order[i] = &m.rec.Sessions[i]
	}
	slices.SortStableFunc(order, func(a, b *Session) int {
		switch {
		case a.AtSec < b.AtSec:
			return -1
		case a.AtSec > b.AtSec:
			return 1
		}
		return 0
	})
	first := order[0].AtSec
	medians := []float64{}
	for _, s := range order {
		if s.ThroughputBps > 0 {
			medians = append(medians, s.ThroughputBps)
		}
	}
	slices.Sort(medians)
	for i, s := range order {
		c, p := m.cdn[s.CDN], m.index[place{s.Region, s.ISP}]
		bps := s.ThroughputBps
		if bps <= 0 { // one that never got anything: as a slow one
			bps = medians[len(medians)/20]
		}
		v := sandbox.Viewer{
			AtSec: s.AtSec - first, WatchSec: max(s.WatchSec, 1), Place: p, MedianBps: bps / factors[c][p],
			Pin: c + 1, Group: uint8(i % 16), Seed: m.seed<<32 + uint64(i)*2654435761,
		}
		m.viewers = append(m.viewers, v)
		m.of = append(m.of, s)
		m.seconds = max(m.seconds, v.AtSec+v.WatchSec)
	}
	m.seconds++
}
