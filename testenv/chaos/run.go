package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spillway-live/spillway/ingest/cmcd"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/nap"
	"github.com/spillway-live/spillway/testenv/bus"
	"github.com/spillway-live/spillway/testenv/publisher"
	"github.com/spillway-live/spillway/testenv/viewer"
)

// rung is the rendition that some streams have.
var rung = schemas.Rung{Name: "low", Height: 90, BitrateBps: 100_000}

// run is one run.
type run struct {
	s     Settings
	log   *slog.Logger
	began time.Time
	stack stack
	found *findings

	truth   *truth
	readers []*reader
	replay  *publisher.Replay
	wg      sync.WaitGroup
	stop    context.CancelFunc // of publishers, readers and viewers

	mu     sync.Mutex
	where  []string // host that each publisher is at
	kills  []*kill
	stalls []*stall
	views  []view
	lag    time.Duration // most by which this process itself was late
	pauses []pause
}

// stall is one wait of a viewer.
type stall struct {
	viewer   int
	stream   string
	from, to time.Time // to is zero while it lasts
	jump     bool      // a jump towards the live edge, not a wait for data
}

// view is how one viewer's playback ended.
type view struct {
	stream string
	report viewer.Report
}

func streamName(i int) string { return fmt.Sprintf("s%d", i) }

// watch starts what publishes, reads and views, and waits until all of it goes.
func (r *run) watch(ctx context.Context) error {
	ctx, r.stop = context.WithCancel(ctx)
	nc, err := bus.Connect(r.stack.nats, "chaos", r.log)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, nc.Close)
	js, err := bus.JetStream(ctx, nc, schemas.BusSettings{})
	if err != nil {
		return err
	}
	apps, err := js.KeyValue(ctx, schemas.BucketApps)
	if err != nil {
		return err
	}
	settings, err := json.Marshal(schemas.AppSettings{Ladder: []schemas.Rung{rung}})
	if err != nil {
		return err
	}
	for i := range r.s.Renditions {
		if _, err := apps.Put(ctx, schemas.StreamKey{App: app, Stream: streamName(i)}.KVKey(), settings); err != nil {
			return err
		}
	}
	r.truth = newTruth()
	if err := r.truth.follow(ctx, js); err != nil {
		return err
	}
	r.publish(ctx)
	for i := range r.s.Publishers {
		lists := []string{"src/video", "src/audio"}
		if i < r.s.Renditions {
			lists = append(lists, rung.Name+"/video")
		}
		for _, l := range lists {
			for _, o := range r.stack.of(Origin) {
				rd := &reader{origin: o, list: streamName(i) + "/" + l, client: newClient(), found: r.found,
					gaps: strings.HasPrefix(l, rung.Name), parts: map[string]digest{}, segments: map[string]digest{}}
				r.readers = append(r.readers, rd)
				r.wg.Go(func() { rd.run(ctx) })
			}
		}
	}
	if err := r.await(ctx, "every playlist at every origin", func() string {
		for _, rd := range r.readers {
			rd.mu.Lock()
			n := len(rd.got)
			rd.mu.Unlock()
			if n < 20 {
				return fmt.Sprintf("%s at %s: %d parts", rd.list, rd.origin.name, n)
			}
		}
		return ""
	}); err != nil {
		return err
	}
	client := &http.Client{Transport: viewer.NewTransport()}
	for i := range r.s.Viewers {
		r.wg.Go(func() { r.view(ctx, i, client) })
	}
	r.wg.Go(func() { r.clock(ctx) })
	r.log.Info("players watch", "streams", r.s.Publishers, "viewers", r.s.Viewers, "readers", len(r.readers))
	_ = nap.For(ctx, 3*time.Second) // they start up
	return ctx.Err()
}

func newClient() *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4, DisableCompression: true}}
}

// publish starts the publishers, spread over the ingests.
func (r *run) publish(ctx context.Context) {
	r.where = make([]string, r.s.Publishers)
	var hosts []string
	for _, p := range r.stack.of(Ingest) {
		hosts = append(hosts, p.addr)
	}
	r.replay = &publisher.Replay{File: r.s.Clip, Hosts: hosts, Logger: slog.New(slog.DiscardHandler), OnConnect: func(i int, host string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.where[i] = host
	}}
	for i := range r.s.Publishers {
		r.replay.URLs = append(r.replay.URLs, fmt.Sprintf("rtmp://%s/%s/%s?cdn=a", hosts[i%len(hosts)], app, streamName(i)))
	}
	r.wg.Go(func() {
		if err := r.replay.Run(ctx); err != nil {
			r.found.add("publisher", "%v", err)
		}
	})
}

// holdBack is the origins' PART-HOLD-BACK. Viewers keep this distance again once they have stalled, as players do.
const holdBack = time.Second

// view watches one stream through the edge; what ends is begun again.
func (r *run) view(ctx context.Context, i int, client *http.Client) {
	name := streamName(i % r.s.Publishers)
	var now *stall
	for ctx.Err() == nil {
		rep, err := viewer.Run(ctx, viewer.Config{
			Multivariant: r.stack.multi + "/" + app + "/" + name + "/multivariant.m3u8", App: app, Stream: name, CDN: "a",
			Seed: r.s.Seed + uint64(i) + 1, HTTPClient: client, ResumeAhead: holdBack,
			OnState: func(st cmcd.State, at time.Time) {
				r.mu.Lock()
				defer r.mu.Unlock()
				if now != nil {
					now.to, now = at, nil
				}
				if st == cmcd.StateRebuffering || st == cmcd.StateSeeking {
					now = &stall{viewer: i, stream: name, from: at, jump: st == cmcd.StateSeeking}
					r.stalls = append(r.stalls, now)
				}
			},
		})
		r.mu.Lock()
		now = nil
		r.views = append(r.views, view{name, rep})
		r.mu.Unlock()
		if ctx.Err() == nil {
			r.found.add("viewer", "a viewer of %s ended: %s, %v", name, rep.End, err)
			_ = nap.For(ctx, time.Second)
		}
	}
}

// pause is a time in which this process, which is publishers and viewers, got no processor time.
type pause struct{ from, to time.Time }

// pauseLeast is the shortest time that counts as one. Viewers play 1 s behind the live edge and wake up every 200 ms.
// Shorter ones are kept to be told beside a stall that counts.
const (
	pauseLeast = 200 * time.Millisecond
	pauseNoted = 50 * time.Millisecond
)

// clock finds pauses: a machine that stands still stalls players, whatever the servers do.
func (r *run) clock(ctx context.Context) {
	for {
		due := time.Now().Add(10 * time.Millisecond)
		if nap.For(ctx, 10*time.Millisecond) != nil {
			return
		}
		now := time.Now()
		r.mu.Lock()
		r.lag = max(r.lag, now.Sub(due))
		if now.Sub(due) >= pauseNoted {
			r.pauses = append(r.pauses, pause{due, now})
		}
		r.mu.Unlock()
	}
}

// await waits until ok says nothing.
func (r *run) await(ctx context.Context, what string, ok func() string) error {
	for deadline := time.Now().Add(startWait); ; {
		text := ok()
		if text == "" {
			return nil
		}
		if time.Now().After(deadline) {
			r.found.mu.Lock()
			defer r.found.mu.Unlock()
			return fmt.Errorf("not after %s: %s: %s\n%s", startWait, what, text, strings.Join(r.found.list, "\n"))
		}
		if nap.For(ctx, 50*time.Millisecond) != nil {
			return ctx.Err()
		}
	}
}

// at gives the streams whose publishers are at a host.
func (r *run) at(host string) (streams []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, h := range r.where {
		if h == host {
			streams = append(streams, streamName(i))
		}
	}
	slices.Sort(streams)
	return streams
}
