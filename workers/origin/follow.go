package origin

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/nap"
)

// message is one message of MEDIA, announced by the bus or read back from it.
type message struct {
	subject string
	header  nats.Header
	data    []byte
	seq     uint64
	// prev is the sequence of the message before it on its subject, 0 if there is none.
	prev uint64
	at   time.Time
}

// Headers with which the bus announces what it has stored.
const (
	headerSubject  = "Nats-Subject"
	headerSequence = "Nats-Sequence"
	headerPrevious = "Nats-Last-Sequence"
	headerTime     = "Nats-Time-Stamp"
)

// announced reads a message that the bus announced.
func announced(m *nats.Msg) (*message, error) {
	seq, err1 := strconv.ParseUint(m.Header.Get(headerSequence), 10, 64)
	prev, err2 := strconv.ParseUint(m.Header.Get(headerPrevious), 10, 64)
	at, err3 := time.Parse(time.RFC3339Nano, m.Header.Get(headerTime))
	return &message{subject: m.Header.Get(headerSubject), header: m.Header, data: m.Data, seq: seq, prev: prev, at: at}, errors.Join(err1, err2, err3)
}

// stored is a message that was read from MEDIA.
func stored(m *jetstream.RawStreamMsg) *message {
	return &message{subject: m.Subject, header: m.Header, data: m.Data, seq: m.Sequence, at: m.Time}
}

// hear takes what the bus announces.
func (f *feed) hear(ctx context.Context, m *nats.Msg) {
	msg, err := announced(m)
	if err == nil {
		var k schemas.StreamKey
		if k, _, err = schemas.ParseMediaSubject(msg.subject); err == nil && k != f.key {
			err = errors.New("it is of another stream")
		}
	}
	if err != nil {
		f.o.m.corrupt.Inc()
		f.o.Logger.Warn("announcement passed over", "subject", m.Subject, "err", err)
		return
	}
	f.heard.Store(time.Now().UnixNano())
	f.reading.Lock()
	defer f.reading.Unlock()
	f.follow(ctx, msg)
}

// follow takes a message in its turn: what is missing before it is read first,
// what was taken before is passed over. The reading lock is held.
func (f *feed) follow(ctx context.Context, m *message) {
	last, known := f.at[m.subject]
	if known && m.seq <= last.seq {
		if m.prev != 0 || !m.at.After(last.at) {
			return
		}
		last = place{} // the stream was made anew and counts from 1 again
	}
	switch {
	case !known && m.prev > 0: // a rendition that was not there, or nothing of it could be read
		f.readBack(ctx, m.subject, m.prev, m.at.Add(-f.o.history))
	case m.prev > last.seq:
		f.fill(ctx, m.subject, last.seq, m.seq)
	}
	f.take(m)
}

// take takes the next message of its subject. The reading lock is held.
func (f *feed) take(m *message) {
	f.at[m.subject] = place{m.seq, m.at}
	switch m.header.Get(schemas.HeaderKind) {
	case schemas.KindChunk:
		f.chunk(m)
	case schemas.KindEpoch, schemas.KindEnd:
		f.mark(m)
	}
}

// epochMark is what epoch and end messages have in common, and what an epoch
// message says of its tracks.
type epochMark struct {
	Epoch  uint32              `json:"epoch"`
	Tracks []schemas.TrackInfo `json:"tracks"`
}

// targetUs is the part target of a track of a new epoch; 0: not said.
func (e *epochMark) targetUs(kind schemas.Track) int64 {
	for i := range e.Tracks {
		if us := e.Tracks[i].PartTargetUs; e.Tracks[i].Track == kind && us <= maxTargetUs {
			return us
		}
	}
	return 0
}

func (f *feed) mark(m *message) {
	var e epochMark
	_, rendition, err := schemas.ParseMediaSubject(m.subject)
	if err != nil || json.Unmarshal(m.data, &e) != nil || e.Epoch == 0 {
		return // the next chunk says it too, and impatience does the rest
	}
	end := m.header.Get(schemas.HeaderKind) == schemas.KindEnd
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range e.Tracks {
		f.targets[trackName{rendition, e.Tracks[i].Track}] = e.Tracks[i].PartTargetUs
	}
	for name, t := range f.tracks {
		if name.rendition != rendition {
			continue
		}
		f.moved(t, func() {
			// After a rest a stream may have longer parts; shorter ones are within
			// what its playlist has promised.
			t.targetUs = max(t.targetUs, e.targetUs(name.kind))
			if end {
				t.sawEnd(e.Epoch, time.Now())
			} else {
				t.sawEpoch(e.Epoch, time.Now())
			}
		})
	}
}

// fillPatience bounds how long a gap is read for before what came behind it is taken.
const fillPatience = 5 * time.Second

// fill takes what lies between two messages of a subject and was not heard: the
// connection was away, or too much waited. The reading lock is held.
func (f *feed) fill(ctx context.Context, subject string, from, to uint64) {
	ctx, cancel := context.WithTimeout(ctx, fillPatience)
	defer cancel()
	n := 0
	for next := from + 1; next < to; {
		m, err := f.o.media.GetMsg(ctx, next, jetstream.WithGetMsgSubject(subject))
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			next = to
			continue
		case ctx.Err() != nil:
			f.o.Logger.Warn("messages missed and not readable", "subject", subject, "from", next, "to", to, "err", err)
			next = to
			continue
		case err != nil:
			_ = nap.For(ctx, 50*time.Millisecond)
			continue
		}
		if m.Sequence < to {
			f.take(stored(m))
			n++
		}
		next = m.Sequence + 1
	}
	f.o.m.refetched.Add(float64(n))
}

// catchUp looks whether anything was stored that was not heard.
func (f *feed) catchUp(ctx context.Context) {
	f.heard.Store(time.Now().UnixNano())
	f.reading.Lock()
	defer f.reading.Unlock()
	for subject, last := range f.at {
		m, err := f.o.media.GetLastMsgForSubject(ctx, subject)
		if err != nil || m.Sequence == last.seq {
			continue // expired, or the bus is away: the next look finds it
		}
		f.fill(ctx, subject, last.seq, m.Sequence)
		f.take(stored(m))
	}
}
