package viewer_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/viewer"
)

// requestsAt reads what the origin counted, by object, and how far the stream
// is, in chunks of 200 ms.
func requestsAt(t testing.TB, s *stack) (byObject map[string]float64, chunks float64) {
	t.Helper()
	families, err := s.origin.Gather()
	s.must(err)
	byObject = map[string]float64{}
	for _, f := range families {
		if f.GetName() != "spillway_origin_requests_total" {
			continue
		}
		for _, m := range f.Metric {
			for _, l := range m.Label {
				if l.GetName() == "object" {
					byObject[l.GetValue()] += m.Counter.GetValue()
				}
			}
		}
	}
	// A thousand viewers who join at once may keep the bus from answering in time.
	await.True(t, "the bus says how far the stream is", func() bool {
		media, err := s.bus.JS.Stream(t.Context(), schemas.StreamMedia)
		if err == nil {
			chunks = float64(media.CachedInfo().State.LastSeq)
		}
		return err == nil
	})
	return byObject, chunks
}

// load is what the origin is asked for, by object, for each chunk of media: while
// viewers join, and then while all of them watch. edges counts what viewers asked
// edges for meanwhile.
type load struct {
	joining, watching map[string]float64
	edges             uint64
}

// originRequests lets viewers watch for a while.
func originRequests(t testing.TB, s *stack, viewers int) (l load) {
	t.Helper()
	const span = 30 // chunks, six seconds
	p := &viewer.Pool{
		Config: viewer.Config{Dispatch: s.r.URL(), App: "live", Stream: "demo", WholeSegments: true, ReportEvery: time.Hour},
		CDNs:   []string{"a", "b"}, PerCDN: viewers / 2, StayMin: time.Hour, StayMax: time.Hour, Seed: 1,
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	before, from := requestsAt(t, s)
	asked := func() uint64 { return s.edges["a"].Stats().Requests + s.edges["b"].Stats().Requests }
	edgesBefore := asked()
	go func() { done <- p.Run(ctx) }()
	await.True(t, "everyone watches", func() bool { return s.edges["a"].Stats().Viewers+s.edges["b"].Stats().Viewers >= viewers })
	joined, at := requestsAt(t, s)
	var after map[string]float64
	var to float64
	await.True(t, "six seconds of media", func() bool { after, to = requestsAt(t, s); return to-at >= span })
	l.edges = asked() - edgesBefore
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	l.joining, l.watching = map[string]float64{}, map[string]float64{}
	for k, n := range after {
		l.joining[k] = (joined[k] - before[k]) / max(at-from, 1)
		l.watching[k] = (n - joined[k]) / (to - at)
	}
	return l
}

// TestNobodyIsHarmed has the machine's cores to itself: many viewers cost the origin no more, a slow edge
// stalls its own viewers only.
func TestNobodyIsHarmed(t *testing.T) {
	s := newStack(t)
	t.Run("origin requests do not grow with viewers", func(t *testing.T) { s.on(t).originRequestsDoNotGrow() })
	t.Run("slow edge", func(t *testing.T) { s.on(t).slowEdge() })
}

// What an origin is asked for depends on the media, not on how many watch:
// edges join equal requests. The benchmark does it with a thousand.
func (s *stack) originRequestsDoNotGrow() {
	t := s.t
	few := originRequests(t, s, 10)
	many := originRequests(t, s, 200)
	t.Logf("10 viewers %+v; 200 viewers %+v", few, many)
	if many.edges < 5*few.edges {
		t.Errorf("the edges were asked %d times by 200 viewers, %d by 10", many.edges, few.edges)
	}
	for kind := range many.watching {
		// Each of two edges asks once for each version and object; more viewers are
		// spread over more versions of what few asked for, but no further.
		if limit := 2*few.watching[kind] + 1; many.watching[kind] > limit {
			t.Errorf("%s: %.2f requests for each chunk with 200 viewers, %.2f with 10", kind, many.watching[kind], few.watching[kind])
		}
	}
	if len(many.watching) == 0 || many.watching["other"]+many.joining["other"] > 0 {
		t.Errorf("asked for: %+v", many)
	}
}

// BenchmarkOriginRequests gives the requests to the origin for each chunk of
// media, 200 ms, once all have joined, with 10, 100 and 1,000 viewers of whole segments on two edges.
func BenchmarkOriginRequests(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := newStack(b)
			for b.Loop() {
				l := originRequests(b, s, n)
				all := 0.0
				for kind, x := range l.watching {
					b.ReportMetric(x, kind+"/chunk")
					all += x
				}
				b.ReportMetric(all, "requests/chunk")
				b.ReportMetric(l.joining["playlist"], "joining-playlist/chunk")
				b.ReportMetric(float64(l.edges), "edge-requests")
			}
		})
	}
}
