package health

import (
	"math"
	"time"
)

// Horizons are how far ahead [Ahead] forecasts, in order.
var Horizons = [...]time.Duration{time.Minute, 3 * time.Minute, 5 * time.Minute}

// Forecast is what a count is expected to be.
type Forecast struct {
	// Growth is the factor by which it is expected to change; 1 while little is known.
	Growth float64
	// Error is the root of the mean squared error of such forecasts of the last ten
	// minutes or so, as a share of what came.
	Error float64
}

// Ahead forecasts a count that is looked at about once a second some minutes ahead, and
// remembers how wrong it was: level and damped trend (Gardner and McKenzie 1985). The
// trend of [Trend], which is right for seconds, would be three times as wrong five minutes ahead
// of a steady count, and twice of a crowd that has come, as to say that all stays as it is.
type Ahead struct {
	level, trend float64 // trend a second
	last         float64
	at           time.Time
	seen         int
	asked        time.Time
	promises     [len(Horizons)][]promise
	squares      [len(Horizons)]float64 // of relative errors
}

// promise is what was expected for a moment.
type promise struct {
	due   time.Time
	value float64
}

const (
	// aheadTrend is the time constant of the trend, damping that with which it ends: of 60 to 240 s
	// and 60 to 600 s the pair that loses least on both a steady audience and one that rises for ten minutes.
	aheadTrend = time.Minute
	damping    = 2 * time.Minute
	// promiseEvery is how often a forecast is remembered, errorShare what the last one's error weighs.
	promiseEvery = 10 * time.Second
	errorShare   = 1.0 / 60
	// minAhead and fewAhead: before so many looks, and of fewer, nothing is forecast.
	minAhead = 30
	fewAhead = 20
	// minGrowth and maxGrowth bound what is told.
	minGrowth, maxGrowth = 0.01, 10
)

// unproven are the relative errors taken for granted before there are forecasts that came due.
var unproven = [len(Horizons)]float64{0.1, 0.2, 0.3}

// Add notes the count at a moment; earlier than the last is ignored.
func (a *Ahead) Add(value float64, now time.Time) {
	if a.seen == 0 {
		a.level = value
		for i, e := range unproven {
			a.squares[i] = e * e
		}
	} else {
		step := now.Sub(a.at).Seconds()
		if step <= 0 {
			return
		}
		before, expected := a.level, a.level+a.trend*step
		a.level = expected + (1-math.Pow(1-levelShare, step))*(value-expected)
		a.trend += (1 - math.Exp(-step/aheadTrend.Seconds())) * ((a.level-before)/step - a.trend)
	}
	a.last, a.at = value, now
	a.seen++
	a.settle(value, now)
	if a.seen < minAhead || value < fewAhead || now.Sub(a.asked) < promiseEvery {
		return
	}
	a.asked = now
	for i, h := range Horizons {
		a.promises[i] = append(a.promises[i], promise{now.Add(h), a.value(h)})
	}
}

// settle holds what was expected for now against what came.
func (a *Ahead) settle(value float64, now time.Time) {
	for i, list := range a.promises {
		n := 0
		for ; n < len(list) && !list[n].due.After(now); n++ {
			if now.Sub(list[n].due) > promiseEvery {
				continue // nobody looked when it was due
			}
			e := (list[n].value - value) / max(value, fewAhead)
			a.squares[i] += errorShare * (e*e - a.squares[i])
		}
		a.promises[i] = list[:copy(list, list[n:])]
	}
}

// value is what is expected a time ahead.
func (a *Ahead) value(ahead time.Duration) float64 {
	return max(a.level+a.trend*damping.Seconds()*(1-math.Exp(-float64(ahead)/float64(damping))), 0)
}

// Forecasts gives what is expected at each of [Horizons].
func (a *Ahead) Forecasts() (out [len(Horizons)]Forecast) {
	for i, h := range Horizons {
		out[i] = Forecast{1, math.Sqrt(a.squares[i])}
		if a.seen >= minAhead && a.last >= fewAhead {
			out[i].Growth = min(max(a.value(h)/a.last, minGrowth), maxGrowth)
		}
		if a.seen == 0 {
			out[i].Error = unproven[i]
		}
	}
	return out
}
