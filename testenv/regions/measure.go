package regions

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/demand"
)

// Load is what [Chain.Measure] sends.
type Load struct {
	Streams int
	Kbps    int // of each stream
	Window  time.Duration
}

// Measured says what came over the chain.
type Measured struct {
	Streams  int     `json:"streams"`
	Kbps     int     `json:"kbps"`
	Seconds  float64 `json:"seconds"`
	Messages int     `json:"messages"` // published
	Missing  int     `json:"missing"`  // not in the last region
	Doubled  int     `json:"doubled"`
	Hops     []Hop   `json:"hops"`
	// CPUSec is the processor time of this process over the window: the buses and relays of all regions, the
	// sender and the listeners.
	CPUSec float64 `json:"cpu_sec"`
}

// Hop is the way from one region's MEDIA to the next one's: from a message's
// announcement there to its announcement here.
type Hop struct {
	From  string  `json:"from"`
	To    string  `json:"to"`
	P50Ms float64 `json:"p50_ms"`
	P99Ms float64 `json:"p99_ms"`
	MaxMs float64 `json:"max_ms"`
}

// chunkEvery is how long a chunk is.
const chunkEvery = 200 * time.Millisecond

// heard are the times at which a region's bus announced messages, by id.
type heard struct {
	mu      sync.Mutex
	at      map[string]time.Time
	doubled int
}

func (h *heard) take(m *nats.Msg) {
	now := time.Now()
	id := m.Header.Get(jetstream.MsgIDHeader)
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, there := h.at[id]; there {
		h.doubled++
	} else {
		h.at[id] = now
	}
}

// missing counts those of ids that were not heard.
func (h *heard) missing(ids []string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range ids {
		if _, there := h.at[id]; !there {
			n++
		}
	}
	return n
}

// Measure sends streams in the first region, which are watched in the last, and
// times their messages in each. Relays must run.
func (c *Chain) Measure(ctx context.Context, l Load) (*Measured, error) {
	if l.Streams < 1 || l.Streams > 1000 || l.Kbps < 1 || l.Kbps > 100_000 || l.Window <= 0 || l.Window > time.Hour {
		return nil, errors.New("measure regions: give 1 to 1000 streams of 1 to 100000 kbit/s and at most an hour")
	}
	s := &sender{js: c.Regions[0].JS, payload: make([]byte, l.Kbps*125*int(chunkEvery.Milliseconds())/1000)}
	for i := range l.Streams {
		s.keys = append(s.keys, schemas.StreamKey{App: "bench", Stream: fmt.Sprintf("s%d", i)})
	}
	if err := s.announce(ctx); err != nil {
		return nil, err
	}
	all := make([]*heard, len(c.Regions))
	for i, r := range c.Regions {
		all[i] = &heard{at: map[string]time.Time{}}
		sub, err := r.Conn.Subscribe("chunks.*.bench.>", all[i].take)
		if err != nil {
			return nil, err
		}
		defer func() { _ = sub.Unsubscribe() }()
		if err := sub.SetPendingLimits(-1, -1); err != nil {
			return nil, err
		}
	}
	bctx, stop := context.WithCancel(ctx)
	g, gctx := errgroup.WithContext(bctx)
	defer func() { stop(); _ = g.Wait() }()
	g.Go(func() error { return s.live(gctx) })
	last := c.Regions[len(c.Regions)-1]
	g.Go(func() error { return say(gctx, last.Conn, s.keys) })
	if err := s.warm(ctx, all[len(all)-1]); err != nil {
		return nil, err
	}
	cpu := cpuTime()
	ids, err := s.send(ctx, l.Window)
	if err != nil {
		return nil, err
	}
	m := &Measured{Streams: l.Streams, Kbps: l.Kbps, Seconds: l.Window.Seconds(), Messages: len(ids), CPUSec: (cpuTime() - cpu).Seconds()}
	for until := time.Now().Add(time.Minute); all[len(all)-1].missing(ids) > 0 && time.Now().Before(until) && ctx.Err() == nil; {
		time.Sleep(20 * time.Millisecond) // the pause between two looks; what is missing after the minute is in the report
	}
	c.report(m, ids, all)
	return m, ctx.Err()
}

func (c *Chain) report(m *Measured, ids []string, all []*heard) {
	m.Missing = all[len(all)-1].missing(ids)
	for _, h := range all {
		h.mu.Lock()
		defer h.mu.Unlock()
	}
	for i := range all[1:] {
		var took []float64
		for _, id := range ids {
			from, ok1 := all[i].at[id]
			at, ok2 := all[i+1].at[id]
			if ok1 && ok2 {
				took = append(took, max(0, float64(at.Sub(from).Microseconds())/1000))
			}
		}
		m.Doubled += all[i+1].doubled
		slices.Sort(took)
		h := Hop{From: c.Regions[i].Name, To: c.Regions[i+1].Name}
		if n := len(took); n > 0 {
			h.P50Ms, h.P99Ms, h.MaxMs = took[n/2], took[n*99/100], took[n-1]
		}
		m.Hops = append(m.Hops, h)
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// say tells once a second that streams are watched.
func say(ctx context.Context, nc *nats.Conn, keys []schemas.StreamKey) error {
	t := time.NewTicker(demand.Every)
	defer t.Stop()
	for ctx.Err() == nil {
		for _, k := range keys {
			if err := demand.Say(nc, k); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
		case <-t.C:
		}
	}
	return nil
}

// sender publishes chunks as ingest does; their samples are nothing that can be shown.
type sender struct {
	js      jetstream.JetStream
	keys    []schemas.StreamKey
	payload []byte
	init    string
	seq     uint64
	last    map[schemas.StreamKey]uint64
}

func (s *sender) announce(ctx context.Context) error {
	s.last = map[schemas.StreamKey]uint64{}
	if _, err := rand.Read(s.payload); err != nil {
		return err
	}
	init := []byte("an init segment of a bench")
	s.init = schemas.InitID(init)
	kv, err := s.js.KeyValue(ctx, schemas.BucketInits)
	if err != nil {
		return err
	}
	_, err = kv.Put(ctx, s.init, init)
	return err
}

// live keeps the states of the streams.
func (s *sender) live(ctx context.Context) error {
	kv, err := s.js.KeyValue(ctx, schemas.BucketStreams)
	if err != nil {
		return err
	}
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for ctx.Err() == nil {
		for _, k := range s.keys {
			b := fmt.Appendf(nil, `{"app":%q,"stream":%q,"live":true,"updated_us":%d,"epoch":{"app":%q,"stream":%q,"epoch":1}}`, k.App, k.Stream, time.Now().UnixMicro(), k.App, k.Stream)
			if _, err := kv.Put(ctx, k.KVKey(), b); err != nil && ctx.Err() == nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
		case <-t.C:
		}
	}
	return nil
}

// warm sends until every stream comes out at the other end.
func (s *sender) warm(ctx context.Context, end *heard) error {
	for range 300 {
		if _, err := s.send(ctx, chunkEvery); err != nil {
			return err
		}
		streams := map[string]bool{}
		end.mu.Lock()
		for id := range end.at {
			streams[streamOf(id)] = true
		}
		end.mu.Unlock()
		if len(streams) == len(s.keys) {
			return nil
		}
	}
	return errors.New("measure regions: not every stream reached the last region within a minute: do relays run?")
}

// streamOf gives app/stream of c/app/stream/rendition/epoch/seq.
func streamOf(id string) string {
	n := 0
	for i := range id {
		if id[i] == '/' {
			if n++; n == 3 {
				return id[:i]
			}
		}
	}
	return id
}

// send publishes a chunk of each stream every chunkEvery, spread over it, for the window, and gives their ids.
func (s *sender) send(ctx context.Context, window time.Duration) (ids []string, err error) {
	begin := time.Now()
	step := chunkEvery / time.Duration(len(s.keys))
	for turn := range int(window / chunkEvery) {
		for i, k := range s.keys {
			at := begin.Add(time.Duration(turn)*chunkEvery + time.Duration(i)*step)
			select {
			case <-time.After(time.Until(at)):
			case <-ctx.Done():
				return ids, ctx.Err()
			}
			id, err := s.chunk(ctx, k)
			if err != nil {
				return ids, err
			}
			ids = append(ids, id)
		}
		s.seq++
	}
	select {
	case <-time.After(time.Until(begin.Add(window))):
	case <-ctx.Done():
	}
	return ids, ctx.Err()
}

func (s *sender) chunk(ctx context.Context, k schemas.StreamKey) (id string, err error) {
	now := time.Now().UnixMicro()
	c := &schemas.Chunk{
		App: k.App, Stream: k.Stream, Rendition: schemas.SourceRendition, Epoch: 1, Seq: s.seq, ReceivedUnixUs: now, Clock: schemas.ClockArrival,
		Fragments: []schemas.Fragment{{
			Track: schemas.Video, MSN: 1 + s.seq/10, Part: uint32(s.seq % 10), SegmentStart: s.seq%10 == 0, Size: len(s.payload), InitID: s.init,
			BaseTime: s.seq * 18000, Duration: 18000, Timescale: 90000, Samples: 6, WallUnixUs: now,
		}},
	}
	head, err := c.EncodeHeader(s.payload)
	if err != nil {
		return "", err
	}
	m := &nats.Msg{Subject: schemas.MediaSubject(k, schemas.SourceRendition), Data: s.payload, Header: nats.Header{
		schemas.HeaderKind: {schemas.KindChunk}, schemas.HeaderChunk: {string(head)},
	}}
	ack, err := s.js.PublishMsg(ctx, m, jetstream.WithMsgID(c.MsgID()), jetstream.WithExpectLastSequencePerSubject(s.last[k]))
	if err != nil {
		return "", fmt.Errorf("publish %s: %w", c.ContentID(), err)
	}
	s.last[k] = ack.Sequence
	return c.MsgID(), nil
}
