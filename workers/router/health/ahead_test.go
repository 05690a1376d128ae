package health_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/spillway-live/spillway/workers/router/health"
)

// TestMinutesAhead: what forecasts of 1, 3 and 5 minutes are off by, of audiences of Poisson
// arrivals whose sessions last five minutes, and that they tell so themselves.
func TestMinutesAhead(t *testing.T) {
	for _, x := range []struct {
		name     string
		seconds  int
		audience func(s float64) float64
		most     [3]float64 // root mean square errors, as a share of the mean
		within   float64    // share of truths within twice the error that is told
	}{
		{"1000 all the time", 7200, func(float64) float64 { return 1000 }, [3]float64{0.03, 0.06, 0.07}, 0.9},
		{"an evening to 11,500", 6 * 3600, func(s float64) float64 { h := s/3600 - 3; return 2500 + 9000*math.Exp(-h*h/4) }, [3]float64{0.02, 0.03, 0.04}, 0.9},
		{"1000 to 10,000 in ten minutes", 3600, func(s float64) float64 { return 1000 + 9000*min(max((s-1200)/600, 0), 1) }, [3]float64{0.05, 0.15, 0.25}, 0.7},
		// Nobody knows when it comes or ends: this is what is promised of a flash crowd, which is not much.
		{"200 to 100,000 in a minute", 1800, func(s float64) float64 { return 200 + 99_800*min(max((s-900)/60, 0), 1) }, [3]float64{0.4, 0.8, 1}, 0.3},
	} {
		r := rand.New(rand.NewPCG(1, 2))
		var a health.Ahead
		n, now := x.audience(0), start
		counts := make([]float64, x.seconds)
		told := make([][3]health.Forecast, x.seconds)
		for i := range counts {
			s := float64(i)
			come := max(x.audience(s)/300+x.audience(s+1)-x.audience(s), 0)
			n = max(n+come-n/300+math.Sqrt(come+n/300)*r.NormFloat64(), 0)
			counts[i], now = math.Round(n), now.Add(time.Second)
			a.Add(counts[i], now)
			told[i] = a.Forecasts()
		}
		for k, h := range health.Horizons {
			ahead := int(h.Seconds())
			var squares, sum, stays, in, looked float64
			for i := 600; i+ahead < x.seconds; i++ {
				is, expected := counts[i+ahead], told[i][k].Growth*counts[i]
				squares, stays = squares+(expected-is)*(expected-is), stays+(counts[i]-is)*(counts[i]-is)
				sum, looked = sum+is, looked+1
				if math.Abs(expected-is) <= 2*told[i][k].Error*expected {
					in++
				}
			}
			rms := math.Sqrt(squares/looked) / (sum / looked)
			t.Logf("%s, %v ahead: error %.3f, if all stayed as it is %.3f; in %.2f within twice the error told", x.name, h, rms, math.Sqrt(stays/looked)/(sum/looked), in/looked)
			if rms > x.most[k] || in/looked < x.within {
				t.Errorf("%s, %v ahead: error %.3f, want at most %.3f; %.2f within twice the error told, want %.2f", x.name, h, rms, x.most[k], in/looked, x.within)
			}
		}
	}
}

// TestAheadOfLittle: of few, of a count not looked at for long, and of looks backwards nothing is made.
func TestAheadOfLittle(t *testing.T) {
	var a health.Ahead
	is := func(what string, growth bool) {
		t.Helper()
		for i, f := range a.Forecasts() {
			if (f.Growth != 1) != growth || f.Growth < 0 || f.Growth > 10 || f.Error <= 0 || math.IsNaN(f.Growth+f.Error) {
				t.Errorf("%s, horizon %d: %+v", what, i, f)
			}
		}
	}
	is("nothing seen", false)
	now := start
	for i := range 40 {
		now = now.Add(time.Second)
		a.Add(float64(i%15), now)
	}
	is("few viewers", false)
	for i := range 100 {
		now = now.Add(time.Second)
		a.Add(float64(20+i), now)
	}
	is("more and more", true)
	before := a.Forecasts()
	a.Add(1e9, now)
	a.Add(1e9, now.Add(-time.Hour))
	if a.Forecasts() != before {
		t.Error("a look that is no later changes the forecast")
	}
	a.Add(1e6, now.Add(time.Hour)) // what was expected an hour ago is held against nobody
	if after := a.Forecasts(); after[2].Error != before[2].Error {
		t.Errorf("error %v after an hour in which nobody looked, %v before", after[2].Error, before[2].Error)
	}
}
