package health_test

import (
	"math"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/health"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// report is one session's slice of ten seconds.
func report(cdn, region, isp string, stalledMs int64) *schemas.Slice {
	return &schemas.Slice{CDN: cdn, Region: region, ISP: isp, PlayedMs: 10_000 - stalledMs, StalledMs: stalledMs}
}

// fill adds n reports of each second, from all groups.
func fill(t *health.Table, seconds, n int, at time.Time, f func(i int) *schemas.Slice) time.Time {
	for range seconds {
		at = at.Add(time.Second)
		for i := range n {
			t.Add(f(i), uint8(i), at)
		}
	}
	return at
}

func approx(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if math.IsNaN(got) || math.Abs(got-want) > tolerance {
		t.Errorf("%s: %v, want %v +- %v", what, got, want, tolerance)
	}
}

func TestEstimates(t *testing.T) {
	h := health.New()
	now := fill(h, 120, 32, start, func(int) *schemas.Slice {
		return &schemas.Slice{
			CDN: "a", Region: "eu", ISP: "x", PlayedMs: 9800, StalledMs: 200, Attempts: 1, Starts: 1, StartupMs: 700,
			Requests: 50, RequestErrors: 1, BitrateKbpsMsSum: 2000 * 9800, BitrateWeightMs: 9800, ThroughputKbpsSum: 3 * 7000, ThroughputReports: 3,
		}
	})
	e := h.Estimate("a", "eu", "x", now)
	approx(t, "stall ratio", e.StallRatio, 0.02, 1e-9)
	approx(t, "first screen", e.FirstScreenMs, 700, 1e-6)
	approx(t, "errors", e.ErrorRatio, 0.02, 1e-9)
	approx(t, "bitrate", e.BitrateBps, 2e6, 1)
	approx(t, "throughput", e.ThroughputBps, 7e6, 1)
	approx(t, "error of what is the same everywhere", e.SE.ThroughputBps+e.SE.BitrateBps+e.SE.FirstScreenMs, 0, 1e-3)
	if e.Cell != "isp" || e.AgeSec != 0 || e.StartFailRatio != 0 {
		t.Errorf("%+v", e)
	}
	if e := h.Estimate("b", "eu", "x", now); e.Cell != "" || e.Samples != 0 {
		t.Errorf("a CDN nobody reported on: %+v", e)
	}
	later := now.Add(5 * time.Minute)
	if e := h.Estimate("a", "eu", "x", later); e.Samples > 15 || e.AgeSec != 300 {
		t.Errorf("old reports should fade: %+v", e)
	}
	if h.Sweep(later.Add(time.Hour)); h.Estimate("a", "eu", "x", later).Cell != "" {
		t.Error("a place not heard of for an hour is still held")
	}
}

func TestThinCellsLeanOnCoarserOnes(t *testing.T) {
	h := health.New()
	now := fill(h, 60, 100, start, func(int) *schemas.Slice { return report("a", "eu", "big", 100) })
	h.Add(report("a", "eu", "small", 10_000), 3, now) // one session, stalled all the time
	thin, thick := h.Estimate("a", "eu", "small", now), h.Estimate("a", "eu", "big", now)
	if thin.StallRatio > 0.05 || thin.StallRatio <= thick.StallRatio {
		t.Errorf("one bad session of a provider: %v, the region has %v", thin.StallRatio, thick.StallRatio)
	}
	if thin.SE.StallRatio <= thick.SE.StallRatio {
		t.Errorf("standard error %v with one report, %v with many", thin.SE.StallRatio, thick.SE.StallRatio)
	}
	unknown := h.Estimate("a", "eu", "other", now)
	approx(t, "an unknown provider has the region's estimate", unknown.StallRatio, h.Estimate("a", "eu", "", now).StallRatio, 1e-12)
	now = fill(h, 60, 50, now, func(int) *schemas.Slice { return report("a", "eu", "small", 5000) })
	approx(t, "a provider with many reports speaks for itself", h.Estimate("a", "eu", "small", now).StallRatio, 0.5, 0.03)
}

func TestOneSessionCannotClaimMoreThanTimeAllows(t *testing.T) {
	h := health.New()
	now := fill(h, 60, 100, start, func(int) *schemas.Slice { return report("a", "eu", "", 0) })
	h.Add(&schemas.Slice{CDN: "a", Region: "eu", StalledMs: 1 << 50, StartupMs: 1 << 50, Starts: 1 << 40, Attempts: 1 << 40, StartFails: 1 << 40, Requests: 1 << 40, RequestErrors: 1 << 50, PlayedMs: -5}, 0, now)
	e := h.Estimate("a", "eu", "", now)
	if e.StallRatio > 0.001 || math.IsInf(e.FirstScreenMs, 0) || e.FirstScreenMs > 60_000 {
		t.Errorf("%+v", e)
	}
}

// TestLiars is the attack: a botnet in a quarter of the address groups says that
// a CDN stalls all the time, with more sessions than all honest ones together.
func TestLiars(t *testing.T) {
	h := health.New()
	r := rand.New(rand.NewPCG(4, 5))
	now := start
	for range 120 {
		now = now.Add(time.Second)
		for i := range 160 {
			for _, cdn := range []string{"a", "b"} {
				if group := uint8(i % health.Groups); group < 12 || cdn == "b" {
					h.Add(report(cdn, "eu", "x", int64(r.IntN(200))), group, now)
				}
			}
		}
		for i := range 400 {
			h.Add(report("a", "eu", "x", 10_000), uint8(12+i%4), now)
		}
		h.Judge([]string{"a", "b"}, now)
	}
	a, b := h.Estimate("a", "eu", "x", now), h.Estimate("b", "eu", "x", now)
	if a.StallRatio > b.StallRatio*1.5 {
		t.Errorf("a quarter of the groups moved the estimate from %v to %v", b.StallRatio, a.StallRatio)
	}
	if is, _, _ := h.Failing("a", now); is {
		t.Error("a CDN was taken out by liars")
	}
}

func TestFailingAndBack(t *testing.T) {
	h := health.New()
	cdns := []string{"a", "b"}
	state := func(now time.Time) bool { h.Judge(cdns, now); is, _, _ := h.Failing("a", now); return is }
	well := func(i int) *schemas.Slice { return report(cdns[i%2], "eu", "x", 50) }
	now := fill(h, 60, 64, start, well)
	if state(now) {
		t.Fatal("fails while all is well")
	}
	both := fill(h, 30, 64, now, func(i int) *schemas.Slice { return report(cdns[i%2], "eu", "x", 9000) })
	if state(both) {
		t.Fatal("what is bad everywhere is no CDN's fault")
	}
	now = fill(h, 120, 64, both, well)
	if state(now) {
		t.Fatal("fails after recovery of all")
	}
	broken := func(i int) *schemas.Slice {
		if i%2 == 0 {
			return report("a", "eu", "x", 9000)
		}
		return report("b", "eu", "x", 50)
	}
	seconds := 0
	for !state(now) {
		if seconds++; seconds > 10 {
			t.Fatal("a CDN that loses 0.9 of viewing time is not failing after ten seconds of reports")
		}
		now = fill(h, 1, 64, now, broken)
	}
	t.Logf("failing after %d s of reports", seconds)
	_, _, probe := h.Failing("a", now)
	if probe != 0 {
		t.Errorf("probes at once: %v", probe)
	}
	// Nobody is there any more: that is no sign of health.
	now = fill(h, 60, 64, now, func(int) *schemas.Slice { return report("b", "eu", "x", 50) })
	if !state(now) {
		t.Fatal("silence was taken for health")
	}
	if _, _, probe = h.Failing("a", now); probe <= 0 || probe > 0.05 {
		t.Fatalf("share of probes: %v", probe)
	}
	// Probes that fail keep it out; probes that play bring it back, be they one
	// session that reports each five seconds.
	probes := func(reports int, stalledMs int64) {
		for i := range reports {
			now = now.Add(5 * time.Second)
			h.Add(report("a", "eu", "x", stalledMs), uint8(i%3), now)
			h.Judge(cdns, now)
		}
	}
	if probes(12, 8000); !state(now) {
		t.Fatal("failing probes brought it back")
	}
	if probes(60, 20); state(now) {
		t.Fatal("good probes did not bring it back")
	}
}

func TestTrend(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	noisy := func(x float64) float64 { return x + r.NormFloat64()*math.Sqrt(x) }
	var steady health.Trend
	now := start
	rushes := 0
	for range 3600 {
		now = now.Add(time.Second)
		steady.Add(noisy(1000), now)
		if steady.Rush() {
			rushes++
		}
	}
	if rushes > 0 {
		t.Errorf("%d s of flash crowd in an hour of noise", rushes)
	}
	approx(t, "steady, a minute ahead", steady.At(time.Minute), 1000, 200)

	var ramp health.Trend
	for i := range 300 {
		now = now.Add(time.Second)
		ramp.Add(noisy(1000+10*float64(i)), now)
	}
	approx(t, "10 more each second, a minute ahead", ramp.At(time.Minute), 4590, 500)

	var crowd health.Trend
	for range 300 {
		now = now.Add(time.Second)
		crowd.Add(noisy(200), now)
	}
	noticed := 0
	value := 200.0
	for i := range 20 {
		now = now.Add(time.Second)
		value += 1667 // 100,000 in a minute
		crowd.Add(value, now)
		if crowd.Rush() && noticed == 0 {
			noticed = i + 1
		}
	}
	if noticed == 0 || noticed > 2 {
		t.Errorf("flash crowd noticed after %d s", noticed)
	}
	approx(t, "in a flash crowd, 5 s ahead", crowd.At(5*time.Second), value+5*1667, 0.2*value)
	if g := crowd.Growth(5 * time.Second); g < 1.1 || g > 1.6 {
		t.Errorf("growth %v", g)
	}
	crowd.Add(value, now.Add(-time.Second)) // a clock that went back changes nothing
	var few health.Trend
	for i := range 10 {
		few.Add(float64(i), start.Add(time.Duration(i)*time.Second))
	}
	if few.Growth(time.Minute) != 1 {
		t.Error("a handful of viewers forecast a crowd")
	}
}

func BenchmarkEstimate(b *testing.B) {
	h := health.New()
	now := fill(h, 60, 64, start, func(int) *schemas.Slice { return report("a", "eu", "x", 50) })
	for b.Loop() {
		h.Estimate("a", "eu", "x", now)
	}
}

func BenchmarkAdd(b *testing.B) {
	h := health.New()
	s, i := report("a", "eu", "x", 50), 0
	for b.Loop() {
		i++
		h.Add(s, uint8(i), start.Add(time.Duration(i)*time.Millisecond))
	}
}

// TestAReportCountsOnce: whatever is known of the viewer's place.
func TestAReportCountsOnce(t *testing.T) {
	for _, place := range [][2]string{{"", ""}, {"eu", ""}, {"", "x"}, {"eu", "x"}} {
		h := health.New()
		h.Add(report("a", place[0], place[1], 0), 0, start)
		for _, asked := range [][2]string{{"", ""}, {place[0], ""}, place} {
			if e := h.Estimate("a", asked[0], asked[1], start); e.Samples != 1 {
				t.Errorf("one report from %q is %v reports for %q", place, e.Samples, asked)
			}
		}
	}
}

func TestOneSessionCannotClaimAnyBitrate(t *testing.T) {
	h := health.New()
	honest := &schemas.Slice{CDN: "a", PlayedMs: 10_000, BitrateKbpsMsSum: 3000 * 10_000, BitrateWeightMs: 10_000}
	now := fill(h, 60, 100, start, func(int) *schemas.Slice { return honest })
	for group := range health.Groups { // not trimmed away
		h.Add(&schemas.Slice{CDN: "a", PlayedMs: 1, BitrateKbpsMsSum: 1 << 60, BitrateWeightMs: 1 << 40}, uint8(group), now)
	}
	approx(t, "bitrate", h.Estimate("a", "", "", now).BitrateBps, 3e6, 1.5e6)
}

func TestPlacesAreBounded(t *testing.T) {
	h := health.New()
	for i := range 30_000 {
		h.Add(report("a", "eu", strconv.Itoa(i), 0), uint8(i), start)
	}
	h.Add(report("b", "asia", "x", 0), 0, start)
	if e := h.Estimate("a", "eu", "29999", start); e.Cell != "region" {
		t.Errorf("the last of 30,000 providers has a cell of its own: %+v", e)
	}
	if e := h.Estimate("b", "asia", "x", start); e.Cell != "cdn" {
		t.Errorf("a CDN is unknown because there are many providers: %+v", e)
	}
}
