package health_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/health"
)

// TestIntervalsHold: the truth is within twice the standard error nearly as often as
// it should be, for each estimate, of a thin cell and of a thick one.
func TestIntervalsHold(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	for _, sessions := range []int{24, 200} {
		const worlds = 200
		in := map[string]int{}
		for range worlds {
			h := health.New()
			for range sessions {
				stalled := int64(0)
				if r.IntN(10) == 0 {
					stalled = 1000
				}
				fails := int64(r.IntN(20) / 19)
				h.Add(&schemas.Slice{CDN: "a", PlayedMs: 10_000 - stalled, StalledMs: stalled, Attempts: 1, Starts: 1 - fails, StartFails: fails, StartupMs: (1 - fails) * int64(500+r.IntN(1000)),
					BitrateKbpsMsSum: int64(1000+r.IntN(3)*1000) * 10_000, BitrateWeightMs: 10_000, ThroughputKbpsSum: int64(8000 * math.Exp(0.5*r.NormFloat64())), ThroughputReports: 1}, uint8(r.IntN(health.Groups)), start)
			}
			e := h.Estimate("a", "", "", start)
			for name, x := range map[string][3]float64{
				"stall ratio":   {e.StallRatio, e.SE.StallRatio, 0.01},
				"failed starts": {e.StartFailRatio, e.SE.StartFailRatio, 0.05},
				"first screen":  {e.FirstScreenMs, e.SE.FirstScreenMs, 999.5},
				"bitrate":       {e.BitrateBps, e.SE.BitrateBps, 2e6},
				"throughput":    {e.ThroughputBps, e.SE.ThroughputBps, 8e6 * math.Exp(0.125)},
			} {
				if math.Abs(x[0]-x[2]) <= 2*x[1] {
					in[name]++
				}
			}
		}
		for name, n := range in {
			// Groups are trimmed by what they lost, which biases what is lost downwards a little.
			if n < worlds*7/10 {
				t.Errorf("%d sessions: the truth of %s is in %d of %d intervals", sessions, name, n, worlds)
			}
		}
		if len(in) != 5 {
			t.Errorf("intervals of %d estimates", len(in))
		}
		t.Log(sessions, in)
	}
}

// TestSlowerThanBefore: players who load more slowly than before on one CDN alone
// put it in doubt before they stall.
func TestSlowerThanBefore(t *testing.T) {
	for _, x := range []struct {
		name    string
		a, b    int64 // kbit/s at the end
		doubted bool
	}{{"as before", 8000, 8000, false}, {"one is slow", 800, 8000, true}, {"all are: the hour of the day", 800, 900, false}} {
		h := health.New()
		run := func(seconds int, at time.Time, a, b int64) time.Time {
			return fill(h, seconds, 32, at, func(i int) *schemas.Slice {
				s := report("a", "eu", "x", 0)
				s.ThroughputKbpsSum, s.ThroughputReports = a, 1
				if i%2 == 1 {
					s.CDN, s.ThroughputKbpsSum = "b", b
				}
				return s
			})
		}
		now := run(4, run(60, start, 8000, 8000), x.a, x.b)
		h.Judge([]string{"a", "b"}, now)
		if is, _, _ := h.Failing("a", now); is || h.DoubtedUntil("a").After(now) != x.doubted || h.DoubtedUntil("b").After(now) {
			t.Errorf("%s: in doubt %v, failing %v", x.name, h.DoubtedUntil("a").After(now), is)
		}
	}
}
