package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/demand"
)

const (
	// lookEvery is how often ways and wants are looked at when nothing has changed.
	lookEvery = 250 * time.Millisecond
	// tellEvery is how often entries of the registry and states of streams are written again.
	tellEvery = 2 * time.Second
	// liveFor is how old a state of a live stream may be; endedFor is how long its end is told.
	liveFor  = 15 * time.Second
	endedFor = time.Minute
)

// told is what was last written of a stream.
type told struct {
	what  string // of the registry's entry, without what changes all the time
	at    time.Time
	epoch uint32 // of the state in the bucket streams
	live  bool
}

func parsePosition(_ string, value []byte) (*schemas.Position, error) {
	var p schemas.Position
	return &p, json.Unmarshal(value, &p)
}

func (n *node) loop(ctx context.Context) {
	for _, ready := range []<-chan struct{}{n.streams.Ready(), n.positions.Ready(), n.renditions.Ready(), n.settled} {
		select {
		case <-ready:
		case <-ctx.Done():
			return
		}
	}
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for ctx.Err() == nil {
		n.look(ctx, time.Now())
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-n.kick:
		}
	}
}

// look chooses ways, starts and ends pulls, and tells what it found.
func (n *node) look(ctx context.Context, now time.Time) {
	n.choose(now)
	wants := n.wantsNow(now)
	say := now.Sub(n.saidAt) >= demand.Every-lookEvery/2
	if say {
		n.saidAt = now
	}
	for k := range n.interesting(wants) {
		n.attend(ctx, k, wants[k], say, now)
	}
	n.measure()
	for k, r := range n.routes {
		n.tell(ctx, k, r, now)
	}
	n.forget(ctx)
}

// measure counts the streams taken from each neighbour, and what they lack together.
func (n *node) measure() {
	taken, behind := map[string]int{}, map[string]uint64{}
	for _, p := range n.pulls {
		taken[p.via]++
		behind[p.via] += p.behind.Load()
	}
	for region := range n.links {
		n.m.streams.WithLabelValues(region).Set(float64(taken[region]))
		n.m.behind.WithLabelValues(region).Set(float64(behind[region]))
	}
}

// choose finds the best way to each stream.
func (n *node) choose(now time.Time) {
	offers := map[schemas.StreamKey][]offer{}
	for _, l := range n.links {
		l.offered(now, func(k schemas.StreamKey, o offer) { offers[k] = append(offers[k], o) })
	}
	local := n.published(now)
	for k := range local {
		if offers[k] == nil {
			offers[k] = nil
		}
	}
	clear(n.routes)
	for k, of := range offers {
		current := ""
		if p := n.pulls[k]; p != nil {
			current = p.via
		}
		if loc, via := choose(n.Region, local[k], of, current); loc != nil {
			n.routes[k] = route{loc, via}
		}
	}
}

// published gives the streams that are published in this region, or were a moment ago.
func (n *node) published(now time.Time) map[schemas.StreamKey]*schemas.Location {
	out := map[schemas.StreamKey]*schemas.Location{}
	past := func(_ string, s *schemas.StreamState) bool {
		return s.Region != "" || now.Sub(time.UnixMicro(s.UpdatedUnixUs)) > endedFor
	}
	for _, s := range n.recent.All(past) {
		age := now.Sub(time.UnixMicro(s.UpdatedUnixUs))
		l := &schemas.Location{App: s.App, Stream: s.Stream, Path: []string{n.Region}, Held: true, State: *s}
		l.State.Live = s.Live && age < liveFor
		if p, ok := n.positions.Get(s.Key().KVKey() + "." + schemas.SourceRendition); ok {
			l.Position = p
		}
		out[s.Key()] = l
	}
	for _, x := range n.renditions.All() {
		l := out[schemas.StreamKey{App: x.App, Stream: x.Stream}]
		if l != nil && x.LiveIn(&l.State, now) && len(l.Renditions) < 32 {
			l.Renditions = append(l.Renditions, *x)
		}
	}
	return out
}

// interesting gives the streams somebody may want here.
func (n *node) interesting(wants map[schemas.StreamKey]map[string]want) map[schemas.StreamKey]bool {
	out := map[schemas.StreamKey]bool{}
	for k := range wants {
		out[k] = true
	}
	for _, k := range n.watched.All(time.Now()) {
		out[k] = true
	}
	for k := range n.pulls {
		out[k] = true
	}
	for k, r := range n.routes {
		if n.hot(r.loc) {
			out[k] = true
		}
	}
	return out
}

// attend starts, goes on with or ends the pull of a stream, and tells those
// concerned that it is wanted.
func (n *node) attend(ctx context.Context, k schemas.StreamKey, wants map[string]want, say bool, now time.Time) {
	r := n.routes[k]
	here := n.watched.Is(k, now)
	yes, who := wanted(r.via, here, n.audience.of(k, now), wants, now)
	yes = yes || r.loc != nil && n.hot(r.loc)
	if r.loc != nil && r.via == "" {
		r.loc.Watching, r.loc.Viewers = who.regions, who.viewers
		if say && who.regions > 0 && !here {
			if err := demand.SayElsewhere(n.Conn, k); err != nil { // renditions and cameras are made on demand
				n.Logger.Debug("say that a stream is watched elsewhere", "stream", k.String(), "err", err)
			}
		}
	}
	p := n.pulls[k]
	switch {
	case r.loc != nil && r.via == "": // published here
		if p != nil {
			n.end(k, p)
		}
		return
	case p == nil && (!yes || r.loc == nil):
		return
	case p == nil:
		p = n.start(ctx, k, r.via, nil)
	case r.loc != nil && p.via != r.via: // elsewhere is nearer, or the way is gone
		p.cancel()
		p = n.start(ctx, k, r.via, p)
	}
	if yes {
		p.wanted = now
	} else if now.Sub(p.wanted) > n.Linger {
		n.end(k, p)
		return
	}
	if say || p.said.IsZero() {
		p.said = now
		n.sayWant(p.via, k, who)
	}
	p.live.Store(r.loc != nil && r.loc.State.Live)
	if r.loc != nil {
		r.loc.Held = p.flows.Load()
		if r.loc.Held {
			r.loc.NearestUs = 0
		}
	}
}

func (n *node) sayWant(to string, k schemas.StreamKey, who watchers) {
	b, err := json.Marshal(schemas.RegionWanted{Watching: who.regions, Viewers: who.viewers})
	if err == nil {
		err = n.Conn.Publish(schemas.RegionWant(to, n.Region, k), b)
	}
	if err != nil {
		n.Logger.Debug("say what is wanted", "stream", k.String(), "neighbour", to, "err", err)
	}
}

// tell writes the registry's entry of a stream and, of one that is published
// elsewhere, what this region's roles need to know of it.
func (n *node) tell(ctx context.Context, k schemas.StreamKey, r route, now time.Time) {
	t, l := n.told[k], r.loc
	what := fmt.Sprint(l.Path, l.Held, l.Watching, l.State.Epoch.Epoch, l.State.Live, len(l.Renditions))
	if what == t.what && now.Sub(t.at) < tellEvery {
		return
	}
	if r.via != "" {
		n.tellState(ctx, k, l, &t, now)
	}
	b, err := json.Marshal(l)
	if err == nil {
		_, err = n.locations.Put(ctx, k.KVKey(), b)
	}
	if err != nil {
		n.Logger.Warn("the registry cannot be written; trying again", "stream", k.String(), "err", err)
		return
	}
	t.what, t.at = what, now
	n.told[k] = t
}

// tellState writes state, numbering and renditions of a stream of another region.
func (n *node) tellState(ctx context.Context, k schemas.StreamKey, l *schemas.Location, t *told, now time.Time) {
	s := l.State
	if !s.Live && t.epoch == s.Epoch.Epoch && !t.live {
		return // its end was told
	}
	s.UpdatedUnixUs = now.UnixMicro()
	n.put(ctx, n.streamsKV.Put, k.KVKey(), &s)
	t.epoch, t.live = s.Epoch.Epoch, s.Live
	if l.Position != nil {
		key := k.KVKey() + "." + schemas.SourceRendition
		if have, ok := n.positions.Get(key); !ok || newer(l.Position, have) {
			n.put(ctx, n.posKV.Put, key, l.Position)
		}
	}
	if !l.Held {
		return
	}
	for i := range l.Renditions {
		x := l.Renditions[i]
		x.UpdatedUnixUs = now.UnixMicro()
		n.put(ctx, n.rendsKV.Put, k.KVKey()+"."+x.Rendition, &x)
	}
}

func (n *node) put(ctx context.Context, put func(ctx context.Context, key string, value []byte) (uint64, error), key string, v any) {
	b, err := json.Marshal(v)
	if err == nil {
		_, err = put(ctx, key, b)
	}
	if err != nil && ctx.Err() == nil {
		n.Logger.Warn("what is known of a stream cannot be written; trying again", "key", key, "err", err)
	}
}

// newer tells whether a position is behind no other in anything and ahead in something.
func newer(p, have *schemas.Position) bool {
	if p.Epoch != have.Epoch {
		return p.Epoch > have.Epoch
	}
	for t, v := range p.NextMSN {
		if v > have.NextMSN[t] {
			return true
		}
	}
	return p.HadContent && !have.HadContent
}

// forget takes back what was told of streams to which there is no way any more.
func (n *node) forget(ctx context.Context) {
	for k := range n.told {
		if _, ok := n.routes[k]; ok {
			continue
		}
		if err := n.locations.Delete(ctx, k.KVKey()); err != nil {
			n.Logger.Debug("an entry of the registry ends by itself", "stream", k.String(), "err", err)
		}
		delete(n.told, k)
	}
}
