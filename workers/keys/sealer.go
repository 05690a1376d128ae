package keys

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers"
	"github.com/spillway-live/spillway/workers/cenc"
)

// Sealer prepares tracks for encryption: it brings together the init segment,
// the key of the period and the encrypted init segment, which it puts into the
// bucket inits before the first part that needs it is there. Make it with
// [NewSealer]; it may be used by several at once.
type Sealer struct {
	ring   *Ring
	js     jetstream.JetStream
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu     sync.Mutex
	tracks map[trackID]*sealing
	inits  jetstream.KeyValue
	latest time.Time // the last sweep
	told   map[schemas.StreamKey]time.Time
}

type trackID struct {
	init string
	period
}

// sealing is a track that is prepared or being prepared.
type sealing struct {
	track *cenc.Track
	err   error // why there is none
	busy  bool
	delay time.Duration
	next  time.Time // when it is tried again
	used  time.Time
}

// NewSealer makes a Sealer; call Stop when it is needed no more.
func NewSealer(js jetstream.JetStream, ring *Ring) *Sealer {
	ring.init()
	s := &Sealer{ring: ring, js: js, tracks: map[trackID]*sealing{}, told: map[schemas.StreamKey]time.Time{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Stop ends what is under way.
func (s *Sealer) Stop() {
	s.cancel()
	s.work.Wait()
}

const (
	prepareWithin = 5 * time.Second
	firstDelay    = 250 * time.Millisecond
	maxDelay      = 5 * time.Second
)

// Track gives what encrypts fragment i of a chunk whose Encryption is set, at
// once. An error says why there is none: one that wraps [cenc.ErrUnsupported]
// stays, others may pass, and calling again tries again.
func (s *Sealer) Track(c *schemas.Chunk, i int) (*cenc.Track, error) {
	f := &c.Fragments[i]
	n := c.Encryption.Period(f.MSN)
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep(now)
	t := s.prepare(c, f.InitID, n, now)
	if t.track == nil {
		err := t.err
		if err == nil {
			err = fmt.Errorf("%w of %s yet: it is being fetched", ErrNoKey, c.Key())
		} else {
			s.tell(c, err, now)
		}
		return nil, err
	}
	if c.Encryption.RotateSegments > 0 && f.SegmentStart {
		s.prepare(c, f.InitID, n+1, now) // ahead of its time
	}
	return t.track, nil
}

// prepare gives the track's state and begins, or tries again, to prepare it. The lock is held.
func (s *Sealer) prepare(c *schemas.Chunk, init string, n uint64, now time.Time) *sealing {
	id := trackID{init, period{c.Encryption.KeyURL, c.Key(), n}}
	t := s.tracks[id]
	if t == nil {
		t = &sealing{delay: firstDelay}
		s.tracks[id] = t
	}
	t.used = now
	if t.track == nil && !t.busy && !now.Before(t.next) && !errors.Is(t.err, cenc.ErrUnsupported) && s.ctx.Err() == nil {
		t.busy = true
		e := *c.Encryption
		s.work.Go(func() { s.run(id, t, &e) })
	}
	return t
}

func (s *Sealer) run(id trackID, t *sealing, e *schemas.Encryption) {
	ctx, cancel := context.WithTimeout(s.ctx, prepareWithin)
	defer cancel()
	track, err := s.make(ctx, id, e)
	s.mu.Lock()
	defer s.mu.Unlock()
	t.busy, t.track, t.err = false, track, err
	if err != nil {
		t.next = time.Now().Add(t.delay)
		t.delay = min(2*t.delay, maxDelay)
	}
}

func (s *Sealer) make(ctx context.Context, id trackID, e *schemas.Encryption) (*cenc.Track, error) {
	key, err := s.ring.Key(ctx, e, id.key, id.n)
	if err != nil {
		return nil, err
	}
	kv, err := s.bucket(ctx)
	if err != nil {
		return nil, err
	}
	clear, err := kv.Get(ctx, id.init)
	if err != nil {
		return nil, fmt.Errorf("read init segment %s of %s: %w", id.init, id.key, err)
	}
	if schemas.InitID(clear.Value()) != id.init {
		return nil, fmt.Errorf("init segment %s of %s is damaged", id.init, id.key)
	}
	t, err := cenc.New(clear.Value(), key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", id.key, err)
	}
	// Named by its content: whoever is first writes what all would. It lives as
	// long as the clear one: what is written again lives on.
	if _, err := kv.Put(ctx, t.InitID, t.Init); err != nil {
		return nil, fmt.Errorf("write encrypted init segment of %s: %w", id.key, err)
	}
	return t, nil
}

func (s *Sealer) bucket(ctx context.Context) (jetstream.KeyValue, error) {
	s.mu.Lock()
	kv := s.inits
	s.mu.Unlock()
	if kv != nil {
		return kv, nil
	}
	kv, err := s.js.KeyValue(ctx, schemas.BucketInits)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", schemas.BucketInits, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inits = kv
	return kv, nil
}

// sweep forgets what was not used for an hour. The lock is held.
func (s *Sealer) sweep(now time.Time) {
	if now.Sub(s.latest) < sweepEach {
		return
	}
	s.latest = now
	for id, t := range s.tracks {
		if !t.busy && now.Sub(t.used) > keepFor {
			delete(s.tracks, id)
		}
	}
	for k, at := range s.told {
		if now.Sub(at) > keepFor {
			delete(s.told, k)
		}
	}
}

// tellEach is how often it is said of a stream that it cannot be packaged.
const tellEach = 10 * time.Second

// tell logs and publishes why a stream cannot be packaged. The lock is held.
func (s *Sealer) tell(c *schemas.Chunk, why error, now time.Time) {
	k := c.Key()
	if now.Sub(s.told[k]) < tellEach || s.ctx.Err() != nil {
		return
	}
	s.told[k] = now
	s.ring.m.events.Inc()
	s.ring.Logger.Error("samples cannot be encrypted: nothing of the stream is packaged until they can", "stream", k.String(), "err", why)
	e := schemas.Event{
		ID:     "no_key/" + k.String() + "/" + strconv.FormatInt(now.Unix()/int64(tellEach.Seconds()), 10),
		TimeUs: now.UnixMicro(), Kind: schemas.EventNoKey, App: k.App, Stream: k.Stream, Reason: why.Error(),
		Detail: map[string]string{"chunk": c.ContentID()},
	}
	b, err := schemas.EncodeRecord(&e)
	if err != nil {
		return
	}
	s.work.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, prepareWithin)
		defer cancel()
		out := []workers.Output{{Subject: schemas.EventSubject(&e), Data: b, MsgID: e.ID}}
		if err := workers.Publish(ctx, s.js, out, prepareWithin); err != nil {
			s.ring.Logger.Debug("publish event", "id", e.ID, "err", err)
		}
	})
}

// Wait gives what encrypts fragment i of a chunk as soon as it can be had, or
// the last reason why not when ctx ends.
func (s *Sealer) Wait(ctx context.Context, c *schemas.Chunk, i int) (*cenc.Track, error) {
	for {
		t, err := s.Track(c, i)
		if err == nil || errors.Is(err, cenc.ErrUnsupported) {
			return t, err
		}
		timer := time.NewTimer(20 * time.Millisecond)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, err
		case <-timer.C:
		}
	}
}
