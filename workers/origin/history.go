package origin

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
)

// open begins to listen and then reads what the bus holds of the stream, back to
// where the window starts. What is announced meanwhile waits.
func (f *feed) open(ctx context.Context) error {
	octx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	state, err := f.o.state(octx, f.key)
	if err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
		return err
	}
	f.reading.Lock()
	defer f.reading.Unlock()
	if err := f.listen(ctx); err != nil {
		return err
	}
	info, err := f.o.media.Info(octx, jetstream.WithSubjectFilter(schemas.MediaFilter(f.key)))
	if err != nil {
		return fmt.Errorf("find what the bus holds of %s: %w", f.key, err)
	}
	last, newest := map[string]uint64{}, time.Time{}
	for subject := range info.State.Subjects {
		m, err := f.o.media.GetLastMsgForSubject(octx, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("find the last message of %s: %w", subject, err)
		}
		last[subject] = m.Sequence
		if m.Time.After(newest) {
			newest = m.Time
		}
	}
	if len(last) == 0 && !alive(state, time.Now()) {
		return errUnknown
	}
	f.readTargets(octx, state)
	for subject, seq := range last {
		f.readBack(octx, subject, seq, newest.Add(-f.o.history))
	}
	f.mu.Lock()
	f.past = true
	f.mu.Unlock()
	f.heard.Store(time.Now().UnixNano())
	return nil
}

// listen subscribes to what the bus announces of the stream and, if packagers
// are used, to their parts.
func (f *feed) listen(ctx context.Context) error {
	handlers := map[string]nats.MsgHandler{schemas.ChunksFilter(f.key): func(m *nats.Msg) { f.hear(ctx, m) }}
	if f.o.UsePackagers {
		handlers[schemas.PartsFilter(f.key)] = f.part
	}
	for subject, handler := range handlers {
		s, err := f.o.JetStream.Conn().Subscribe(subject, handler)
		if err != nil {
			return fmt.Errorf("listen to %s: %w", subject, err)
		}
		f.subs = append(f.subs, s)
		if err := s.SetPendingLimits(maxWaitingMessages, maxWaitingBytes); err != nil {
			return fmt.Errorf("listen to %s: %w", subject, err)
		}
	}
	return nil
}

// readBack takes what MEDIA holds of a subject up to and including a sequence,
// from where the window starts and at most from a time on. Each message names
// the one before it, so this costs what the window holds, however many other
// streams are between. The reading lock is held.
func (f *feed) readBack(ctx context.Context, subject string, seq uint64, from time.Time) {
	var found []*message
	depths := map[schemas.Track]*depth{}
	for seq > 0 {
		m, err := f.o.media.GetMsg(ctx, seq)
		if err != nil || m.Subject != subject || m.Time.Before(from) {
			if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
				f.o.Logger.Warn("the past of a stream could not be read in full", "subject", subject, "seq", seq, "err", err)
			}
			break
		}
		found = append(found, stored(m))
		if deepEnough(depths, m, f.o.window) {
			break
		}
		at := seq
		if seq, err = strconv.ParseUint(m.Header.Get(jetstream.ExpectedLastSubjSeqHeader), 10, 64); err != nil {
			f.scan(ctx, subject, from, at) // its writer does not say
			break
		}
	}
	for i := len(found) - 1; i >= 0; i-- {
		f.take(found[i])
		found[i] = nil
	}
}

// scan takes what MEDIA holds of a subject from a time up to a sequence. The bus
// steps over the messages of all other streams for it, copying each.
func (f *feed) scan(ctx context.Context, subject string, from time.Time, before uint64) {
	c, err := f.o.media.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{subject}, DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &from,
	})
	if err != nil {
		f.o.Logger.Warn("the past of a stream could not be read", "subject", subject, "err", err)
		return
	}
	it, err := c.Messages(jetstream.PullMaxMessages(64))
	if err != nil {
		f.o.Logger.Warn("the past of a stream could not be read", "subject", subject, "err", err)
		return
	}
	defer it.Stop()
	for {
		m, err := it.Next(jetstream.NextContext(ctx))
		if err != nil {
			return
		}
		md, err := m.Metadata()
		if err != nil || md.Sequence.Stream >= before {
			return
		}
		f.take(&message{subject: m.Subject(), header: m.Headers(), data: m.Data(), seq: md.Sequence.Stream, at: md.Timestamp})
		if md.NumPending == 0 {
			return
		}
	}
}

// depth is how far back a track has been read.
type depth struct {
	segments int   // whole ones
	listed   int64 // microseconds that the playlist lists; 0 until it has enough
	us       int64 // microseconds read
}

// deepEnough counts a message read backwards and reports whether the window of
// every track is complete.
func deepEnough(depths map[schemas.Track]*depth, m *jetstream.RawStreamMsg, w window) bool {
	if m.Header.Get(schemas.HeaderKind) != schemas.KindChunk {
		return false
	}
	// What is damaged is found out when it is taken; here it only counts.
	c, err := schemas.PeekChunk([]byte(m.Header.Get(schemas.HeaderChunk)))
	if err != nil {
		return false
	}
	for i := len(c.Fragments) - 1; i >= 0; i-- {
		fr := &c.Fragments[i]
		d := depths[fr.Track]
		if d == nil {
			// The newest segment counts only when it is complete.
			d = &depth{segments: -1}
			if fr.SegmentEnd {
				d.segments = 0
			}
			depths[fr.Track] = d
		}
		d.us += fr.DurationUs()
		if !fr.SegmentStart {
			continue
		}
		d.segments++
		if d.listed == 0 && d.segments >= w.segments && d.us >= max(w.us, w.listUs) {
			d.listed = d.us
		}
	}
	for _, d := range depths {
		if d.listed == 0 || d.us-d.listed < w.keepUs {
			return false
		}
	}
	return true
}
