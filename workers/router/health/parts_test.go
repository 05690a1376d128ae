package health_test

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/spillway-live/spillway/workers/router/health"
)

// crowd is who tells of a CDN in a place.
type crowd struct {
	cdn, region, isp string
	reports          int     // a second; negative: one in so many seconds
	lost             float64 // from the moment on when it breaks
	liars            int     // address groups that lie from then on: they lose everything, with ten times the reports
}

// tellFor has crowds tell for some seconds, which are judged.
func tellFor(h *health.Table, now time.Time, seconds int, broken bool, all []crowd) time.Time {
	cdns := []string{"a", "b", "c"}
	n := now.Second()
	for second := range seconds {
		now = now.Add(time.Second)
		for _, x := range all {
			reports := x.reports
			if reports < 0 {
				reports = 0
				if second%-x.reports == 0 {
					reports = 1
				}
			}
			for range reports {
				n++
				stalled := 0.0
				if broken {
					stalled = 10_000 * x.lost
				}
				h.Add(report(x.cdn, x.region, x.isp, int64(stalled)), uint8(n), now)
			}
			for i := range x.liars * x.reports {
				if broken {
					h.Add(report(x.cdn, x.region, x.isp, 10_000), uint8(i%x.liars), now)
				}
			}
		}
		h.Judge(cdns, now)
	}
	return now
}

// failsIn is what of a CDN fails for viewers of a place.
func failsIn(h *health.Table, cdn, region, isp string, now time.Time) string {
	in, _, _ := h.FailingIn(cdn, region, isp, now)
	return in
}

// TestPartsFail: what does not serve fails: a region or a provider of a CDN, or the whole.
func TestPartsFail(t *testing.T) {
	for _, x := range []struct {
		name string
		all  []crowd
		// What of a fails for viewers in us with x and y, and in eu; where some are to try another.
		usX, usY, eu, alone string
	}{
		{"all serve", []crowd{{"a", "us", "x", 8, 0, 0}, {"a", "eu", "x", 36, 0, 0}, {"b", "us", "x", 8, 0, 0}}, "", "", "", ""},
		{"a region with a tenth of its viewers", []crowd{{"a", "us", "x", 4, 0.9, 0}, {"a", "eu", "x", 36, 0, 0}, {"b", "us", "x", 6, 0, 0}, {"c", "us", "x", 6, 0, 0}}, "region", "region", "", ""},
		{"a region with most of its viewers", []crowd{{"a", "us", "x", 30, 0.9, 0}, {"a", "eu", "x", 16, 0, 0}, {"b", "us", "x", 6, 0, 0}}, "region", "region", "", ""},
		{"a provider", []crowd{{"a", "us", "x", 6, 0.9, 0}, {"a", "us", "y", 6, 0, 0}, {"a", "eu", "x", 36, 0, 0}, {"b", "us", "x", 6, 0, 0}}, "isp", "", "", ""},
		{"the whole", []crowd{{"a", "us", "x", 6, 0.9, 0}, {"a", "us", "y", 6, 0.9, 0}, {"a", "eu", "x", 6, 0.9, 0}, {"b", "us", "x", 12, 0, 0}, {"b", "eu", "x", 6, 0, 0}}, "cdn", "cdn", "cdn", ""},
		{"the region, at all", []crowd{{"a", "us", "x", 6, 0.9, 0}, {"a", "eu", "x", 36, 0, 0}, {"b", "us", "x", 6, 0.9, 0}, {"c", "us", "x", 6, 0.6, 0}, {"b", "eu", "x", 36, 0, 0}}, "", "", "", ""},
		{"the region, at two of three", []crowd{{"a", "us", "x", 6, 0.9, 0}, {"a", "eu", "x", 36, 0, 0}, {"b", "us", "x", 6, 0.9, 0}, {"c", "us", "x", 6, 0, 0}}, "region", "region", "", ""},
		{"a region where nobody is on another", []crowd{{"a", "us", "x", 6, 0.9, 0}, {"a", "eu", "x", 36, 0, 0}, {"b", "eu", "x", 6, 0, 0}}, "", "", "", "region"},
		{"a region where one is on another and stalls", []crowd{{"a", "us", "x", 6, 0.9, 0}, {"a", "eu", "x", 36, 0, 0}, {"b", "us", "x", -4, 0.5, 0}}, "", "", "", "region"},
		{"a region of which a few lose some", []crowd{{"a", "us", "x", 6, 0.2, 0}, {"a", "eu", "x", 36, 0, 0}, {"b", "us", "x", 6, 0, 0}}, "", "", "", ""},
		{"liars in four groups", []crowd{{"a", "us", "x", 4, 0, 4}, {"a", "eu", "x", 36, 0, 0}, {"b", "us", "x", 6, 0, 0}}, "", "", "", ""},
		{"liars in four groups of a region with few", []crowd{{"a", "us", "x", 1, 0, 4}, {"a", "eu", "x", 36, 0, 0}, {"b", "us", "x", 6, 0, 0}}, "", "", "", ""},
	} {
		h := health.New()
		now := tellFor(h, start, 30, false, x.all)
		now = tellFor(h, now, 25, true, x.all)
		usX, usY, eu := failsIn(h, "a", "us", "x", now), failsIn(h, "a", "us", "y", now), failsIn(h, "a", "eu", "x", now)
		if alone := h.AloneIn("a", "us", ""); usX != x.usX || usY != x.usY || eu != x.eu || alone != x.alone || h.AloneIn("a", "eu", "") != "" {
			t.Errorf("%s: %q for us x, %q for us y, %q for eu, alone %q; want %q, %q, %q, %q", x.name, usX, usY, eu, alone, x.usX, x.usY, x.eu, x.alone)
		}
	}
}

// TestAPartIsTriedAndBack: by those of the place alone, while all is well elsewhere.
func TestAPartIsTriedAndBack(t *testing.T) {
	h := health.New()
	eu := []crowd{{"a", "eu", "x", 20, 0, 0}, {"b", "eu", "x", 6, 0, 0}, {"b", "us", "x", 6, 0, 0}}
	all := append(slices.Clone(eu), crowd{"a", "us", "x", 4, 0.9, 0})
	now := tellFor(h, tellFor(h, start, 30, false, all), 15, true, all)
	if in, since, probe := h.FailingIn("a", "us", "x", now); in != "region" || since.IsZero() || probe != 0 {
		t.Fatalf("%q since %s, tried by %v", in, since, probe)
	}
	if got := h.FailingParts("a", ""); !slices.Equal(got, []string{"us"}) || h.FailingParts("a", "us") != nil || h.FailingParts("b", "") != nil {
		t.Errorf("parts that fail: %v", got)
	}
	now = tellFor(h, now, 60, false, eu)
	if in, _, probe := h.FailingIn("a", "us", "x", now); in != "region" || probe <= 0 || probe > 0.05 {
		t.Fatalf("a minute without anybody there: %q, tried by %v", in, probe)
	}
	try := func(stalledMs int64) {
		for i := range 30 {
			h.Add(report("a", "us", "x", stalledMs), uint8(i%3), now)
			now = tellFor(h, now, 1, false, eu)
		}
	}
	if try(8000); failsIn(h, "a", "us", "x", now) != "region" {
		t.Fatal("it is back though it does not serve those who try it")
	}
	now = tellFor(h, now, 90, false, eu)
	if try(0); failsIn(h, "a", "us", "x", now) != "" {
		t.Fatal("it is not back though it serves those who try it")
	}
}

// TestTheWholeStandsForItsParts: a region that fails before the rest does is tried, and back, with the rest.
func TestTheWholeStandsForItsParts(t *testing.T) {
	h := health.New()
	us, eu := crowd{"a", "us", "x", 4, 0.9, 0}, crowd{"a", "eu", "x", 20, 0.9, 0}
	others := []crowd{{"b", "eu", "x", 20, 0, 0}, {"b", "us", "x", 6, 0, 0}}
	now := tellFor(h, start, 30, false, append(slices.Clone(others), us, eu))
	well := eu
	well.lost = 0
	now = tellFor(h, now, 15, true, append(slices.Clone(others), us, well))
	if failsIn(h, "a", "us", "x", now) != "region" || failsIn(h, "a", "eu", "x", now) != "" {
		t.Fatal("the region does not fail alone")
	}
	now = tellFor(h, now, 15, true, append(slices.Clone(others), us, eu))
	if in := failsIn(h, "a", "us", "x", now); in != "cdn" || failsIn(h, "a", "eu", "x", now) != "cdn" || h.FailingParts("a", "") != nil {
		t.Fatalf("the whole fails, and in us %q", in)
	}
	now = tellFor(h, now, 60, false, others)
	now = tellFor(h, now, 30, false, append(slices.Clone(others), crowd{"a", "eu", "x", 1, 0, 0}))
	if in := failsIn(h, "a", "us", "x", now); in != "" {
		t.Fatalf("the whole is back, and in us %q fails", in)
	}
}

// TestPartsAreForgotten: places that nobody tells of any more, and CDNs that are gone.
func TestPartsAreForgotten(t *testing.T) {
	for _, gone := range []bool{false, true} {
		h := health.New()
		all := []crowd{{"a", "us", "x", 4, 0.9, 0}, {"a", "eu", "x", 20, 0, 0}, {"b", "us", "x", 6, 0, 0}}
		now := tellFor(h, tellFor(h, start, 10, false, all), 15, true, all)
		if failsIn(h, "a", "us", "x", now) != "region" {
			t.Fatal("the region does not fail")
		}
		if gone {
			h.Judge([]string{"b"}, now)
		} else {
			h.Sweep(now.Add(time.Hour))
		}
		if in := failsIn(h, "a", "us", "x", now); in != "" {
			t.Errorf("CDN removed: %v; %q fails still", gone, in)
		}
	}
}

func BenchmarkJudge(b *testing.B) {
	h := health.New()
	var cdns []string
	now := start
	for c := range 20 {
		cdns = append(cdns, "cdn"+strconv.Itoa(c))
		for p := range 200 {
			for g := range health.Groups {
				h.Add(report(cdns[c], "region"+strconv.Itoa(p/10), "isp"+strconv.Itoa(p), 100), uint8(g), now)
			}
		}
	}
	for b.Loop() {
		now = now.Add(time.Millisecond)
		h.Judge(cdns, now)
	}
}
