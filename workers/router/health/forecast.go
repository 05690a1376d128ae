package health

import (
	"math"
	"time"
)

// Trend forecasts a count that is looked at about once a second: Holt's level
// and trend (Hyndman and Athanasopoulos, Forecasting, section 8.2), and a
// detector of flash crowds that lets the trend of the last seconds decide.
type Trend struct {
	level, trend float64 // trend a second
	// noise is the smoothed square of the one-step error.
	noise float64
	// rush sums errors above what is usual (CUSUM), in standard deviations.
	rush float64
	last float64
	at   time.Time
	seen int
}

const (
	levelShare = 0.3
	trendShare = 0.05
	rushShare  = 0.6 // of the trend while a crowd comes
	noiseShare = 0.05
	// rushSlack is what an error may be above usual each second without adding up,
	// rushLimit where the sum means a crowd, both in standard deviations.
	rushSlack = 1.0
	rushLimit = 6.0
	// minNoise keeps a standard deviation of one viewer in an empty house.
	minNoise = 1.0
)

// Add notes the count at a moment; earlier than the last is ignored.
func (t *Trend) Add(value float64, now time.Time) {
	if t.seen == 0 {
		*t = Trend{level: value, last: value, at: now, seen: 1, noise: max(value, minNoise)}
		return
	}
	step := now.Sub(t.at).Seconds()
	if step <= 0 {
		return
	}
	expected := t.level + t.trend*step
	err := value - expected
	sd := math.Sqrt(max(t.noise, max(value, minNoise))) // at least Poisson's
	t.rush = min(max(t.rush+err/sd-rushSlack, 0), 4*rushLimit)
	share := trendShare
	if t.Rush() {
		share = rushShare
	}
	before := t.level
	t.level = expected + (1-math.Pow(1-levelShare, step))*err
	t.trend += share * ((t.level-before)/step - t.trend)
	if t.Rush() {
		t.trend = max(t.trend, (value-t.last)/step*rushShare)
	} else {
		t.noise += noiseShare * (err*err - t.noise)
	}
	t.last, t.at = value, now
	t.seen++
}

// Rush says whether more come than trend and noise explain: a flash crowd.
func (t *Trend) Rush() bool { return t.rush > rushLimit }

// At forecasts the count a time ahead; never below 0.
func (t *Trend) At(ahead time.Duration) float64 {
	return max(t.level+t.trend*ahead.Seconds(), 0)
}

// Growth is the factor by which the count is forecast to change, 1 at least: a
// CDN that empties has room when it is empty, not before. Small counts say nothing.
func (t *Trend) Growth(ahead time.Duration) float64 {
	if t.seen < 5 || t.last < 20 {
		return 1
	}
	return min(max(t.At(ahead)/t.last, 1), 4)
}
