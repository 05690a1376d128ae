package origin

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/nap"
)

// partID names a part of a track.
type partID struct {
	track schemas.Track
	epoch uint32
	msn   uint64
	part  uint32
}

// heard is what an announcement said of a part.
type heard struct {
	at, done time.Time
	// frames of the track up to and with this part; 0: not all were heard.
	frames int
}

// stream is what is known of one.
type stream struct {
	key    schemas.StreamKey
	parts  map[partID]heard
	order  map[schemas.Track][]partID
	after  map[schemas.Track]partID // the part to come
	frames map[schemas.Track]int
	seq    uint64
	gap    bool
	sent   []time.Time // pictures, by number
}

// follower listens to what the bus announces of the streams.
type follower struct {
	mu      sync.Mutex
	streams []*stream
	byName  map[string]*stream
}

func follow(nc *nats.Conn, names []string) (*follower, error) {
	f := &follower{byName: map[string]*stream{}}
	for _, n := range names {
		s := &stream{
			key: schemas.StreamKey{App: application, Stream: n}, parts: map[partID]heard{},
			order: map[schemas.Track][]partID{}, after: map[schemas.Track]partID{}, frames: map[schemas.Track]int{},
		}
		f.streams, f.byName[n] = append(f.streams, s), s
		if _, err := nc.Subscribe(schemas.ChunksFilter(s.key), f.hear); err != nil {
			return nil, err
		}
	}
	return f, nc.Flush()
}

func (f *follower) hear(m *nats.Msg) {
	at := time.Now()
	h := m.Header.Get(schemas.HeaderChunk)
	var c schemas.Chunk
	if h == "" || json.Unmarshal([]byte(h), &c) != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.byName[c.Stream]
	if s == nil {
		return
	}
	s.gap = s.gap || c.Seq != s.seq
	s.seq = c.Seq + 1
	for i := range c.Fragments {
		fr := &c.Fragments[i]
		s.frames[fr.Track] += fr.Samples
		id := partID{fr.Track, c.Epoch, fr.MSN, fr.Part}
		heard := heard{at: at, done: time.UnixMicro(fr.DoneUnixUs), frames: s.frames[fr.Track]}
		if s.gap {
			heard.frames = 0
		}
		s.parts[id] = heard
		s.order[fr.Track] = append(s.order[fr.Track], id)
		next := partID{fr.Track, c.Epoch, fr.MSN, fr.Part + 1}
		if fr.SegmentEnd {
			next = partID{fr.Track, c.Epoch, fr.MSN + 1, 0}
		}
		s.after[fr.Track] = next
	}
}

// sent takes publisher.Replay.Sent.
func (f *follower) sent(i int, picture bool, at time.Time) {
	if !picture {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.streams[i].sent = append(f.streams[i].sent, at)
}

// wasSent is when the publisher had sent picture number n, from 1.
func (f *follower) wasSent(i, n int) (time.Time, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.streams[i]; n > 0 && n <= len(s.sent) {
		return s.sent[n-1], true
	}
	return time.Time{}, false
}

// readyParts: a second of a stream, so that its rate is known.
const readyParts = 5

// ready waits until every stream has begun.
func (f *follower) ready(ctx context.Context, limit time.Duration) error {
	for end := time.Now().Add(limit); ; {
		missing := ""
		f.mu.Lock()
		for _, s := range f.streams {
			if len(s.order[schemas.Video]) < readyParts || len(s.order[schemas.Audio]) == 0 {
				missing = s.key.String()
			}
		}
		f.mu.Unlock()
		if missing == "" {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("after %s the bus has announced too little of stream %s", limit, missing)
		}
		if err := nap.For(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// newest is the last part announced of a track, and the one to come.
func (f *follower) newest(i int, track schemas.Track) (last, next partID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.streams[i].order[track]
	return o[len(o)-1], f.streams[i].after[track]
}

// latest are the last n parts of a track, oldest first, without the newest.
func (f *follower) latest(i int, track schemas.Track, n int) []partID {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.streams[i].order[track]
	o = o[:len(o)-1]
	return append([]partID(nil), o[max(0, len(o)-n):]...)
}

// heard is what was announced of a part. One that never came because its segment
// had ended before it stands for the first of the next.
func (f *follower) heard(i int, id partID) (heard, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h, ok := f.streams[i].parts[id]
	if !ok {
		h, ok = f.streams[i].parts[partID{id.track, id.epoch, id.msn + 1, 0}]
	}
	return h, ok
}

// path is the address of a part.
func (f *follower) path(i int, id partID) string {
	p := schemas.Part{Epoch: id.epoch, MSN: id.msn, Part: id.part}
	return f.folder(i, id.track) + p.FileName()
}

func (f *follower) folder(i int, track schemas.Track) string {
	k := f.streams[i].key
	return "/" + k.App + "/" + k.Stream + "/" + schemas.SourceRendition + "/" + string(track) + "/"
}
