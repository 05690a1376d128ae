package router

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/policy"
)

const (
	// sayWarmEvery is how often routers say what is about to spill, once for each
	// stream, CDN and region; those that most sessions ask for come first.
	sayWarmEvery = time.Second
	// maxWishes bounds what is collected between two of them.
	maxWishes = 1000
	// warmedFor is how long a CDN counts as warm after it was said to be.
	warmedFor = 5 * time.Second
)

// warming knows what is about to spill, and where it is awaited.
type warming struct {
	mu     sync.Mutex
	wishes map[schemas.Warm]int // since the last were said: how many answers were about it
	warm   map[schemas.Warm]time.Time
	any    atomic.Bool // whether warm holds something
}

// wish notes, at a decision about a session, that its stream is about to spill from
// the CDN it is sent to: the next one's caches should have it by then.
func (w *warming) wish(in *policy.Input, a *policy.Answer) {
	if a.Eligible < 2 || a.Spills == "" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	x := schemas.Warm{App: in.App, Stream: in.Stream, CDN: a.Spills, Region: in.Region}
	if w.wishes == nil {
		w.wishes = map[schemas.Warm]int{}
	}
	if _, have := w.wishes[x]; have || len(w.wishes) < maxWishes {
		w.wishes[x]++
	}
}

// say gives the wishes to be said, those of most answers first.
func (w *warming) say() []schemas.Warm {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.wishes) == 0 {
		return nil
	}
	all := slices.SortedFunc(maps.Keys(w.wishes), func(x, y schemas.Warm) int {
		return cmp.Or(cmp.Compare(w.wishes[y], w.wishes[x]), cmp.Compare(x.App+"/"+x.Stream+" "+x.CDN+" "+x.Region, y.App+"/"+y.Stream+" "+y.CDN+" "+y.Region))
	})
	clear(w.wishes)
	return all[:min(len(all), schemas.MaxWarm)]
}

// heard notes which CDNs' caches hold a stream now.
func (w *warming) heard(all []schemas.Warm, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.warm == nil {
		w.warm = map[schemas.Warm]time.Time{}
	}
	maps.DeleteFunc(w.warm, func(_ schemas.Warm, at time.Time) bool { return now.Sub(at) > warmedFor })
	for _, x := range all {
		if len(w.warm) < maxWishes {
			w.warm[x] = now
		}
	}
	w.any.Store(len(w.warm) > 0)
}

// mark tells a decision which CDNs have the stream in their caches.
func (w *warming) mark(in *policy.Input, now time.Time) {
	if !w.any.Load() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range in.Facts {
		at, is := w.warm[schemas.Warm{App: in.App, Stream: in.Stream, CDN: in.CDNs[i].Name, Region: in.Region}]
		in.Facts[i].Warm = is && now.Sub(at) <= warmedFor
	}
}

// hearWarmed listens to who warms caches, until stop is called.
func (r *Router) hearWarmed() (stop func(), err error) {
	sub, err := r.s.JS.Conn().Subscribe(schemas.SubjectWarmed, func(m *nats.Msg) {
		all, err := schemas.DecodeWarm(m.Data)
		if err != nil {
			r.s.Logger.Debug("hear of warm caches", "err", err)
			return
		}
		r.warm.heard(all, r.now())
	})
	if err != nil {
		return nil, err
	}
	return func() { _ = sub.Unsubscribe() }, nil
}

// sayWarm says what is about to spill, until ctx ends.
func (r *Router) sayWarm(ctx context.Context) error {
	t := time.NewTicker(sayWarmEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		all := r.warm.say()
		if all == nil {
			continue
		}
		r.m.warmWishes.Add(float64(len(all)))
		if b, err := json.Marshal(all); err == nil {
			_ = r.s.JS.Conn().Publish(schemas.SubjectWarm, b) // said again soon
		}
	}
}
