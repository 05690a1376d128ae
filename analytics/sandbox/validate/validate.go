// Package validate measures how far predictions of package predict can be
// trusted: it makes up worlds that the predictor does not know, records them
// under one policy, asks for a prediction of another, and looks at what then
// happens to other viewers.
//
// It promises: worlds that are richer than the predictor's model (real traces or
// accesses of any restlessness, segments of uneven size, paths that differ from
// session to session, requests that fail, brown-outs); the same cases for the same
// seed. They are made by the same players and CDNs as the predictor simulates,
// so what these get wrong about the real world is not in the figures.
package validate

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"

	"github.com/spillway-live/spillway/analytics/sandbox"
	"github.com/spillway-live/spillway/analytics/sandbox/predict"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// Settings of a validation.
type Settings struct {
	Cases    int // default 200
	Sessions int // in each recording and each held-out arm; default 8000
	Seed     uint64
	Jobs     int // at once; default 1
	// Traces are rates of whole seconds in any unit; half of the cases use them, if there are any.
	Traces [][]float64
	// ModelError overrides predict.ModelError.
	ModelError float64
	Progress   func(part float64) bool
}

// Case is one prediction beside what happened.
type Case struct {
	Number    int              `json:"number"`
	World     string           `json:"world"`
	Candidate string           `json:"candidate"`
	Predicted predict.Interval `json:"stall_ratio"`
	Happened  float64          `json:"happened"`
	// FirstScreen and Latency likewise, s.
	FirstScreen, Latency                 predict.Interval
	FirstScreenHappened, LatencyHappened float64
	Refused                              string `json:"refused,omitempty"`
	// Hours are session-hours simulated for the case: worlds, fit and prediction.
	Hours float64 `json:"simulated_session_hours"`
}

// Covered says whether what happened lies in the interval.
func (c *Case) Covered() bool { return inside(c.Predicted, c.Happened) }

func inside(i predict.Interval, x float64) bool { return x >= i.Low && x <= i.High }

// MaxHalfWidth is how wide an interval of the stall ratio may be to say something.
const MaxHalfWidth = 0.30

// Report sums the cases up.
type Report struct {
	Cases []Case `json:"cases"`
	// Asked cases; Refused for want of data; Wide: the interval is wider than
	// MaxHalfWidth to either side; Answered: the rest, of which Covered lie in it.
	Asked, Refused, Wide, Answered, Covered int
	CoveredWide                             int
	FirstScreenCovered, LatencyCovered      float64 // shares of all predictions
	// MedianHalfWidth of the answered, MedianError the median |ln predicted/happened|.
	MedianHalfWidth, MedianError float64
	// Hours are session-hours simulated, in all.
	Hours float64
	// ModelError is what is left of the errors beyond sampling, as a standard error of the logarithm.
	ModelError float64
}

// Run makes the cases.
func Run(s Settings) (*Report, error) {
	if s.Cases == 0 {
		s.Cases = 200
	}
	if s.Sessions == 0 {
		s.Sessions = 8000
	}
	if s.ModelError == 0 {
		s.ModelError = predict.ModelError
	}
	cases := make([]Case, s.Cases)
	var mu sync.Mutex
	var first error
	done := 0
	slots := make(chan struct{}, max(s.Jobs, 1))
	var wg sync.WaitGroup
	for i := range cases {
		slots <- struct{}{}
		mu.Lock()
		stop := first != nil
		mu.Unlock()
		if stop {
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			c, err := one(i, &s)
			mu.Lock()
			defer mu.Unlock()
			cases[i] = c
			done++
			if err == nil && s.Progress != nil && !s.Progress(float64(done)/float64(s.Cases)) {
				err = sandbox.ErrStopped
			}
			if err != nil && first == nil {
				first = fmt.Errorf("case %d: %w", i, err)
			}
		})
	}
	wg.Wait()
	if first != nil {
		return nil, first
	}
	return summary(cases, s.ModelError), nil
}

// one records, asks, and looks.
func one(number int, s *Settings) (Case, error) {
	rnd := rand.New(rand.NewPCG(s.Seed, uint64(number)+1000))
	w, what := truth(rnd, s)
	c := Case{Number: number, World: what}
	logging := weights(rnd, w.CDNs, 0.15)
	rec, was, err := record(w, logging, rnd.Uint64(), s.Sessions)
	if err != nil {
		return c, err
	}
	c.Hours = was.Hours
	rec.Player, rec.SteeringTTLSec = w.Players[0], w.Control.SteeringTTLSec
	for i := range w.CDNs {
		rec.CDNs = append(rec.CDNs, w.CDNs[i].CDN)
	}
	cand := predict.Candidate{}
	held := w
	p := logging
	if rnd.IntN(2) == 0 {
		p, c.Candidate = otherPolicy(rnd, w.CDNs)
		cand.Policy = p
	} else {
		player, what := otherPlayer(rnd, w.Players[0])
		c.Candidate = what
		cand.Player, held.Players = &player, []sandbox.Player{player}
	}
	got, err := predict.Predict(rec, cand, predict.Settings{Seed: uint64(number) + 1, ModelError: s.ModelError})
	var refused *predict.Refusal
	if errors.As(err, &refused) {
		c.Refused = refused.Reason
		return c, nil
	}
	if err != nil {
		return c, err
	}
	c.Predicted, c.FirstScreen, c.Latency = got.StallRatio, got.FirstScreenSec, got.LatencySec
	_, res, err := record(held, p, rnd.Uint64(), s.Sessions)
	if err != nil {
		return c, err
	}
	c.Hours += got.Hours + res.Hours
	c.Happened, c.LatencyHappened = res.StallRatio, res.LatencySec
	c.FirstScreenHappened = res.FirstScreenMeanSec
	return c, nil
}

// record lets other viewers of a world come and writes down what a player would report.
func record(w sandbox.World, p *policy.Policy, seed uint64, sessions int) (*predict.Recording, *sandbox.Result, error) {
	rec := &predict.Recording{}
	w.Seed = seed
	w.Control.Policy = p
	rnd := rand.New(rand.NewPCG(seed, 1))
	template, _ := w.Viewers()
	n, at := 0, 0.0
	w.Viewers = func() (sandbox.Viewer, bool) {
		if n++; n > sessions {
			return sandbox.Viewer{}, false
		}
		at += rnd.ExpFloat64() * recordSec / float64(sessions)
		v := template
		v.AtSec, v.WatchSec, v.Seed, v.Group = at, 30+rnd.ExpFloat64()*210, rnd.Uint64(), uint8(rnd.IntN(16))
		v.MedianBps *= math.Exp(template.TraceSec * rnd.NormFloat64())
		v.TraceSec = float64(rnd.IntN(3600))
		if v.Trace > 0 {
			v.Trace = 1 + rnd.IntN(len(w.Traces))
		}
		v.Place = rnd.IntN(len(w.Places)) // of equal shares
		return v, true
	}
	w.Each = func(o *sandbox.Outcome) {
		place := w.Places[o.Viewer.Place]
		rec.Sessions = append(rec.Sessions, predict.Session{
			ID: o.ID, AtSec: o.Viewer.AtSec, WatchSec: min(o.Viewer.WatchSec, w.Seconds-o.Viewer.AtSec), Region: place.Region, ISP: place.ISP,
			CDN: w.CDNs[o.CDN].Name, Probability: o.Probability, Started: o.Started, FirstScreenSec: o.FirstScreenSec,
			PlayedSec: o.PlayedSec, StalledSec: o.StalledSec, Stalls: o.Stalls, LatencySec: o.LatencySec, Bytes: o.Bytes, ThroughputBps: o.ThroughputBps,
			Requests: float64(o.Requests), RequestErrors: float64(o.Errors),
		})
	}
	res, err := sandbox.Run(w)
	return rec, res, err
}

// recordSec is how long a recording lasts.
const recordSec = 1800.0

func summary(cases []Case, model float64) *Report {
	r := &Report{Cases: cases, Asked: len(cases)}
	var widths, errs []float64
	var first, lat, square, n float64
	for i := range cases {
		c := &cases[i]
		r.Hours += c.Hours
		if c.Refused != "" {
			r.Refused++
			continue
		}
		n++
		if inside(c.FirstScreen, c.FirstScreenHappened) {
			first++
		}
		if inside(c.Latency, c.LatencyHappened) {
			lat++
		}
		if !c.Predicted.Bounded() {
			r.Wide++
			r.CoveredWide++ // whatever happened is inside
			continue
		}
		e := math.Log(c.Predicted.Value / math.Max(c.Happened, 1e-6))
		se := math.Log(c.Predicted.High/c.Predicted.Value) / 1.96
		square += e*e - (se*se - model*model)
		if c.Predicted.HalfWidth() > MaxHalfWidth {
			r.Wide++
			if c.Covered() {
				r.CoveredWide++
			}
			continue
		}
		r.Answered++
		if c.Covered() {
			r.Covered++
		}
		widths, errs = append(widths, c.Predicted.HalfWidth()), append(errs, math.Abs(e))
	}
	if n > 0 {
		r.FirstScreenCovered, r.LatencyCovered = first/n, lat/n
		r.ModelError = math.Sqrt(max(square/n, 0))
	}
	r.MedianHalfWidth, r.MedianError = median(widths), median(errs)
	return r
}
