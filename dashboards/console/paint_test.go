package console

import (
	"slices"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/spillway-live/spillway/testenv/browser"
)

// BenchmarkFirstPaint opens every page in Chromium without a cache and reads from the browser's own performance
// timeline when it first showed content, in ms since the navigation began; and what the page weighs.
//
//	go test ./dashboards/console -run xxx -bench FirstPaint -benchtime 10x
func BenchmarkFirstPaint(b *testing.B) {
	s := newStage(b)
	weight := s.weigh()
	s.run("no cache", chromedp.EmulateViewport(1280, 800), network.SetCacheDisabled(true))
	s.open("/walls")
	s.admit()
	for _, p := range s.drawnPages() {
		b.Run(p.name, func(b *testing.B) {
			on := s.on(b)
			var painted, heaviest []float64
			for b.Loop() {
				weight()
				on.open(p.path)
				on.until("what belongs on page "+p.name, p.drawn)
				_, bytes := weight()
				painted, heaviest = append(painted, on.firstPaint()), append(heaviest, bytes)
			}
			slices.Sort(painted)
			b.ReportMetric(painted[len(painted)/2], "first-paint-ms")
			b.ReportMetric(painted[len(painted)-1], "slowest-ms")
			b.ReportMetric(slices.Max(heaviest)/1000, "kB")
		})
	}
}

// firstPaint is when the browser first showed content of the page, ms since its navigation began; 0: it does not tell.
func (s *stage) firstPaint() float64 {
	s.t.Helper()
	ms, err := browser.Evaluate[float64](s.tab, `performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0`)
	if err != nil {
		s.t.Fatal(err)
	}
	return ms
}
