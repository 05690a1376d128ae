package predict

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/spillway-live/spillway/analytics/sandbox"
	"github.com/spillway-live/spillway/schemas"
)

// TestShrink: what measuring adds to the differences between viewers is taken out,
// from short sessions more than from long ones, and the mean stays.
func TestShrink(t *testing.T) {
	rnd := rand.New(rand.NewPCG(4, 4))
	m := &model{places: make([]sandbox.Place, 1), noise: measuringNoise{bySec: 10}}
	var truth []float64
	for i := range 4000 {
		sec := []float64{20, 2000}[i%2]
		l := 15 + 0.5*rnd.NormFloat64()
		truth = append(truth, l)
		m.viewers = append(m.viewers, sandbox.Viewer{WatchSec: sec, MedianBps: math.Exp(l + math.Sqrt(m.noise.variance(sec))*rnd.NormFloat64())})
	}
	off := func() (short, long, mean float64) {
		for i, v := range m.viewers {
			d := math.Log(v.MedianBps) - truth[i]
			mean += d / float64(len(truth))
			if i%2 == 0 {
				short += d * d
			} else {
				long += d * d
			}
		}
		return short, long, mean
	}
	short, long, _ := off()
	m.shrink()
	shortAfter, longAfter, mean := off()
	if !(shortAfter < short/2 && longAfter <= 1.05*long && math.Abs(mean) < 0.03) {
		t.Errorf("squares off: short sessions %v, were %v; long %v, were %v; mean %v", shortAfter, short, longAfter, long, mean)
	}
}

// TestErrorRatios: a path has its own share of failed requests, or where few were
// seen its CDN's.
func TestErrorRatios(t *testing.T) {
	m := &model{rec: &Recording{CDNs: []schemas.CDN{{Name: "a"}, {Name: "b"}}}, cdn: map[string]int{"a": 0, "b": 1},
		places: make([]sandbox.Place, 2), index: map[place]int{{"eu", "x"}: 0, {"us", "x"}: 1}}
	add := func(cdn, region string, requests, failed float64) {
		m.rec.Sessions = append(m.rec.Sessions, Session{CDN: cdn, Region: region, ISP: "x", Requests: requests, RequestErrors: failed})
	}
	add("a", "eu", 1e6, 20_000)
	add("b", "eu", 1e6, 0)
	add("b", "us", 10, 10)
	got := m.errorRatios()
	for _, x := range []struct{ got, want, within float64 }{{got[0][0], 0.02, 1e-3}, {got[0][1], 0.02, 1e-3}, {got[1][0], 0, 1e-3}, {got[1][1], 0.01, 2e-3}} {
		if math.Abs(x.got-x.want) > x.within {
			t.Errorf("%v: want about %v; all %v", x.got, x.want, got)
		}
	}
}

// TestSample: a part is taken evenly, and nothing is left out where a CDN has limits.
func TestSample(t *testing.T) {
	m := &model{cdns: []sandbox.CDN{{Paths: make([]sandbox.Path, 1)}}}
	for i := range 1000 {
		m.viewers, m.of = append(m.viewers, sandbox.Viewer{AtSec: float64(i)}), append(m.of, &Session{AtSec: float64(i)})
	}
	few := m.sample(10)
	if len(few.viewers) != 10 || few.viewers[9].AtSec != 900 || few.of[9].AtSec != 900 {
		t.Errorf("%+v", few.viewers)
	}
	few.cdns[0].Paths[0].RTTSec = 1
	if m.cdns[0].Paths[0].RTTSec != 0 {
		t.Error("fitting a part changes the whole")
	}
	m.cdns[0].CapacityBps = 1e9
	if n := len(m.sample(10).viewers); n != 1000 {
		t.Errorf("%d of 1000 viewers on a CDN with a limit", n)
	}
}
