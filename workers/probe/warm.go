package probe

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/lease"
)

// WarmRole names the leases of those who warm caches.
const WarmRole = "warm"

const (
	// wishFor is how long one wish holds; routers say it again each second.
	wishFor = 4 * time.Second
	// maxWarm bounds the wishes that are followed at a time, warmAtOnce the streams
	// that are fetched from at the same time: the others wait for their turn.
	maxWarm    = 200
	warmAtOnce = 8
	// warmEvery is how often a stream's playlists are looked at: parts and segments
	// that are new are fetched, as a viewer would.
	warmEvery = time.Second
	// warmTracks bounds the tracks of a stream, those of the source first.
	warmTracks = 12
)

// warmer pulls streams through CDNs that they are about to spill to. One process a
// region does (a lease); that of no region does for all.
type warmer struct {
	p     *Prober
	limit *rate.Limiter

	mu     sync.Mutex
	wished map[schemas.Warm]time.Time // until when
	busy   map[schemas.Warm]bool
	have   map[schemas.Warm]map[string]bool // what was fetched, of what is listed now
	last   map[schemas.Warm]time.Time       // begin of the last look
}

func newWarmer(p *Prober) *warmer {
	return &warmer{p: p, limit: rate.NewLimiter(rate.Limit(p.WarmRequestsPerSec), max(int(p.WarmRequestsPerSec), 1)),
		wished: map[schemas.Warm]time.Time{}, busy: map[schemas.Warm]bool{}, have: map[schemas.Warm]map[string]bool{}, last: map[schemas.Warm]time.Time{}}
}

// run warms until ctx ends.
func (w *warmer) run(ctx context.Context, kv jetstream.KeyValue) error {
	nc := w.p.JetStream.Conn()
	sub, err := nc.Subscribe(schemas.SubjectWarm, func(m *nats.Msg) {
		all, err := schemas.DecodeWarm(m.Data)
		if err != nil {
			w.p.Logger.Debug("wishes to warm caches", "err", err)
			return
		}
		w.wish(all, time.Now())
	})
	if err != nil {
		return fmt.Errorf("listen to what spills: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	h := fnv.New32a()
	_, _ = h.Write([]byte(w.p.Region)) // any text; never fails
	return lease.Pool{KV: kv, Conn: nc, Role: WarmRole, Names: []string{fmt.Sprintf("%08x", h.Sum32())}, TTL: w.p.LeaseTTL, Logger: w.p.Logger,
		Work: func(ctx context.Context, _ string) error { return w.work(ctx) }}.Run(ctx)
}

// wish notes what routers say.
func (w *warmer) wish(all []schemas.Warm, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range all {
		if w.p.Region != "" && x.Region != w.p.Region {
			continue // another's
		}
		if _, have := w.wished[x]; have || len(w.wished) < maxWarm {
			w.wished[x] = now.Add(wishFor)
		}
	}
}

// work looks at what is wished while the lease is held.
func (w *warmer) work(ctx context.Context) error {
	t := time.NewTicker(warmEvery / 4)
	defer t.Stop()
	var g errgroup.Group
	g.SetLimit(warmAtOnce)
	defer func() { _ = g.Wait() }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-t.C:
			for _, x := range w.due(now) {
				if !g.TryGo(func() error { w.look(ctx, x); return nil }) {
					w.done(x)
				}
			}
		}
	}
}

// due gives what is to be looked at, longest ago first, and marks it busy.
func (w *warmer) due(now time.Time) []schemas.Warm {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []schemas.Warm
	for x, until := range w.wished {
		switch {
		case now.After(until):
			if !w.busy[x] {
				w.p.Logger.Info("cache is warmed no more: the stream spills, or will not", "stream", x.Key(), "cdn", x.CDN, "region", x.Region)
				delete(w.wished, x)
				delete(w.have, x)
				delete(w.last, x)
			}
		case !w.busy[x] && now.Sub(w.last[x]) >= warmEvery:
			out = append(out, x)
		}
	}
	slices.SortFunc(out, func(a, b schemas.Warm) int {
		return cmp.Or(w.last[a].Compare(w.last[b]), cmp.Compare(a.App+"/"+a.Stream+" "+a.CDN, b.App+"/"+b.Stream+" "+b.CDN))
	})
	out = out[:min(len(out), warmAtOnce)]
	for _, x := range out {
		w.busy[x] = true
	}
	return out
}

func (w *warmer) done(x schemas.Warm) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.busy, x)
}

// look fetches what a stream's playlists list at a CDN and was not fetched yet, and
// says that the caches hold it.
func (w *warmer) look(ctx context.Context, x schemas.Warm) {
	defer w.done(x)
	w.mu.Lock()
	first := w.have[x] == nil
	have := maps.Clone(w.have[x])
	w.last[x] = time.Now()
	w.mu.Unlock()
	if first {
		w.p.Logger.Info("cache is warmed: the stream is about to spill", "stream", x.Key(), "cdn", x.CDN, "region", x.Region)
	}
	now, playlists, failed := w.fetch(ctx, x, have)
	w.mu.Lock()
	w.have[x] = now
	w.mu.Unlock()
	if failed != nil && ctx.Err() == nil {
		w.p.Logger.Debug("cache is not warmed", "stream", x.Key(), "cdn", x.CDN, "err", failed)
	}
	if playlists == 0 || failed != nil {
		return // it is cold, or it fails: sessions go there all the same
	}
	if b, err := json.Marshal([]schemas.Warm{x}); err == nil {
		_ = w.p.JetStream.Conn().Publish(schemas.SubjectWarmed, b) // said again soon
	}
}

// fetch gets what is listed now and is not among have. It gives all that is listed
// and fetched, how many playlists were read, and the first failure.
func (w *warmer) fetch(ctx context.Context, x schemas.Warm, have map[string]bool) (now map[string]bool, playlists int, failed error) {
	now = map[string]bool{}
	c, ok := w.p.cdns.Get(x.CDN)
	s, live := w.p.streams.Get(x.Key().KVKey())
	if !ok || !live || c.State != schemas.CDNActive {
		return now, 0, errPlaylist
	}
	base, err := w.p.base(c, x.Key())
	if err != nil {
		return now, 0, err
	}
	get := func(u *url.URL, limit int64) (answer, error) {
		if err := w.limit.Wait(ctx); err != nil {
			return answer{}, err
		}
		a, err := w.p.get(ctx, u, limit)
		if err == nil && a.code != http.StatusOK {
			err = refusal("answer", a.code)
		}
		outcome := "ok"
		if err != nil {
			outcome, failed = "failed", cmp.Or(failed, err)
		}
		if ctx.Err() == nil {
			w.p.warmed.WithLabelValues(c.Name, outcome).Inc()
		}
		return a, err
	}
	for _, path := range w.tracks(s) {
		list, err := url.Parse(base + "/" + x.App + "/" + x.Stream + "/" + path + "/playlist.m3u8")
		if err != nil {
			return now, playlists, err
		}
		a, err := get(list, maxPlaylist)
		if err != nil {
			continue
		}
		playlists++
		for _, uri := range newestMedia(string(a.body)) {
			u, err := list.Parse(uri)
			if err != nil || u.Host != list.Host {
				continue
			}
			if name := path + " " + uri; have[name] {
				now[name] = true
			} else if _, err := get(u, maxPart); err == nil {
				now[name] = true
			}
			if ctx.Err() != nil {
				return now, playlists, ctx.Err()
			}
		}
	}
	return now, playlists, failed
}

// tracks are the folders of a stream's playlists, those of the source first, then
// of what is made of it from the highest picture down.
func (w *warmer) tracks(s *schemas.StreamState) []string {
	var out []string
	add := func(rendition string, tracks []schemas.TrackInfo) {
		for _, t := range tracks {
			out = append(out, rendition+"/"+string(t.Track))
		}
	}
	add(schemas.SourceRendition, s.Epoch.Tracks)
	for _, r := range w.p.made.Of(s, time.Now()) {
		add(r.Rendition, r.Epoch.Tracks)
	}
	return out[:min(len(out), warmTracks)]
}
