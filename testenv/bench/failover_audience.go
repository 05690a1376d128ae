package bench

import (
	"context"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spillway-live/spillway/ingest/cmcd"
	"github.com/spillway-live/spillway/schemas/nap"
	"github.com/spillway-live/spillway/testenv/viewer"
)

// pageReload is how long a page shows that playback failed before it begins anew, as ours does.
const pageReload = 3 * time.Second

// audience are the viewers of one run.
type audience struct {
	s      *FailoverSettings
	router string
	mode   string
	client *http.Client
	seats  []*seat
}

// seat is one viewer, who begins anew when playback fails.
type seat struct {
	mu     sync.Mutex
	served []sighting // changes of the CDN that served
	states []stateAt
}

type sighting struct {
	at  time.Time
	cdn string
}

type stateAt struct {
	at      time.Time
	playing bool
}

func newAudience(s *FailoverSettings, router, mode string) *audience {
	a := &audience{s: s, router: router, mode: mode, client: &http.Client{Transport: viewer.NewTransport()}}
	for range s.Viewers {
		a.seats = append(a.seats, &seat{})
	}
	return a
}

func (a *audience) run(ctx context.Context) {
	defer a.client.CloseIdleConnections()
	var wg sync.WaitGroup
	step := a.s.Join / time.Duration(len(a.seats))
	for i, x := range a.seats {
		wg.Go(func() {
			if nap.For(ctx, time.Duration(i)*step) == nil {
				a.sit(ctx, x, i)
			}
		})
	}
	wg.Wait()
}

// sit watches until ctx ends.
func (a *audience) sit(ctx context.Context, x *seat, n int) {
	cdns := strings.Split(failoverCDNs, ",")
	for visit := 0; ctx.Err() == nil; visit++ {
		c := viewer.Config{
			Dispatch: a.router, App: ownApplication, Stream: viewStream, HTTPClient: a.client, Seed: rand.Uint64() | 1,
			// Low-latency readers are spread over all CDNs.
			WholeSegments: n%(a.s.Viewers/max(a.s.LowLatency, 1)) != 0 || a.s.LowLatency == 0,
			ReportEvery:   5 * time.Second, NoSteering: a.mode == ModePlain,
			OnState:  func(state cmcd.State, at time.Time) { x.state(state == cmcd.StatePlaying, at) },
			OnServed: x.servedBy,
		}
		if a.mode == ModeStatic {
			c.CDN = cdns[(n+visit)%len(cdns)]
			c.GiveUp = 100 * time.Millisecond // hls.js gives up where it has no other pathway
		}
		r, _ := viewer.Run(ctx, c) // a view that failed begins anew
		x.left(time.Now(), r.Ahead)
		_ = nap.For(ctx, pageReload)
	}
}

func (x *seat) state(playing bool, at time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.states = append(x.states, stateAt{at, playing})
}

// left notes that a view has ended: what was loaded is still played while the page waits to begin anew.
func (x *seat) left(at time.Time, ahead time.Duration) {
	if ahead > 0 {
		x.state(true, at)
	}
	x.state(false, at.Add(min(ahead, pageReload)))
}

func (x *seat) servedBy(cdn string, at time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if n := len(x.served); n == 0 || x.served[n-1].cdn != cdn {
		x.served = append(x.served, sighting{at, cdn})
	}
}

// on is the CDN that served last at a moment; empty: none yet.
func (x *seat) on(at time.Time) string {
	i, _ := slices.BinarySearchFunc(x.served, at, func(s sighting, t time.Time) int { return s.at.Compare(t) })
	if i == 0 {
		return ""
	}
	return x.served[i-1].cdn
}

// stopped is how long nothing played from one moment to another. States may be
// told of after later ones, and are put in order first.
func (x *seat) stopped(from, to time.Time) time.Duration {
	var sum time.Duration
	at, playing := from, false
	for _, s := range x.states {
		if s.at.After(to) {
			break
		}
		if s.at.After(at) {
			if !playing {
				sum += s.at.Sub(at)
			}
			at = s.at
		}
		playing = s.playing
	}
	if !playing {
		sum += to.Sub(at)
	}
	return sum
}

func (x *seat) playsAt(t time.Time) bool {
	playing := false
	for _, s := range x.states {
		if s.at.After(t) {
			break
		}
		playing = s.playing
	}
	return playing
}
