package origin

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers"
	"github.com/spillway-live/spillway/workers/packager"
)

// maxCovering bounds the chunks of one stream that are packaged here at once.
const maxCovering = 64

// startPatience bounds how long reading the window may take before requests
// are answered with what is there.
const startPatience = 3 * time.Second

// tick looks for parts that have not come in time and for tracks held up.
func (f *feed) tick(ctx context.Context, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	covering, reading := 0, false
	keep := f.overdue[:0]
	for _, d := range f.overdue {
		if !f.missing(d) {
			continue
		}
		keep = append(keep, d)
		if d.busy {
			covering++
		}
		reading = reading || d.old
		if !f.live || now.Before(d.at) {
			continue
		}
		if !d.busy && covering < maxCovering {
			d.busy = true
			covering++
			f.o.fetches.Go(func() { f.cover(ctx, d) })
		}
	}
	clear(f.overdue[len(keep):])
	f.overdue = keep
	for _, t := range f.tracks {
		if len(t.pending) > 0 {
			f.moved(t, func() { t.advance(now) })
		}
	}
	settled := now.Sub(f.started) > startPatience
	f.live = f.live || settled
	if f.live && !reading || settled {
		select {
		case <-f.ready:
		default:
			close(f.ready)
		}
	}
}

// missing reports whether a part of d is still to come. The lock is held.
func (f *feed) missing(d *due) bool {
	for i := range d.frags {
		if t := f.tracks[trackName{d.rend, d.frags[i].Track}]; t != nil {
			if _, ok := t.waiting[partID{d.epoch, d.frags[i].MSN, int(d.frags[i].Part)}]; ok {
				return true
			}
		}
	}
	return false
}

// cover packages a chunk here: its parts did not come in time, so its packager
// is gone, slow or has none after it.
func (f *feed) cover(ctx context.Context, d *due) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	m, err := f.o.media.GetMsg(ctx, d.seq)
	var c *schemas.Chunk
	if err == nil {
		c, err = schemas.DecodeChunk([]byte(m.Header.Get(schemas.HeaderChunk)), m.Data)
		if err != nil || c.ContentID() != d.name || schemas.MediaSubject(c.Key(), c.Rendition) != m.Subject {
			f.giveUp(d, fmt.Errorf("chunk cannot be packaged: %w", err))
			return
		}
	} else if errors.Is(err, jetstream.ErrMsgNotFound) {
		f.giveUp(d, fmt.Errorf("chunk is gone from the bus: %w", err))
		return
	}
	var out []workers.Output
	if err == nil {
		out, err = packager.Package(c, m.Data)
	}
	if err != nil {
		f.mu.Lock()
		d.attempts++
		d.busy, d.at = false, time.Now().Add(min(time.Duration(d.attempts)*100*time.Millisecond, 2*time.Second))
		f.mu.Unlock()
		return
	}
	for i := range c.Fragments {
		p, data := packager.Part(c, m.Data, i)
		f.offer(&p, data, false)
	}
	f.o.m.covered.Inc()
	// The others profit too; the same ids keep anything from being stored twice.
	if err := workers.Publish(ctx, f.o.JetStream, out, 5*time.Second); err != nil {
		f.o.Logger.Debug("publish covered parts", "chunk", d.name, "err", err)
	}
	f.tell(ctx, d, m.Time)
}

// giveUp lists the parts of d as gaps, so that what follows can be shown.
func (f *feed) giveUp(d *due, why error) {
	f.o.m.lost.Inc()
	f.o.Logger.Warn("chunk lost; its parts are listed as gaps", "chunk", d.name, "err", why)
	for i := range d.frags {
		fr := &d.frags[i]
		us := int64(schemas.DefaultPartTargetUs)
		// The header could not be verified: a length that is no part's is not believed.
		if fr.Timescale > 0 && fr.Duration > 0 && fr.Duration < uint64(fr.Timescale) {
			us = fr.DurationUs()
		}
		f.mu.Lock()
		waits := false
		if t := f.tracks[trackName{d.rend, fr.Track}]; t != nil {
			_, waits = t.waiting[partID{d.epoch, fr.MSN, int(fr.Part)}]
			us = min(us, t.targetUs)
		}
		f.mu.Unlock()
		if !waits {
			continue
		}
		f.offer(&schemas.Part{
			App: f.key.App, Stream: f.key.Stream, Rendition: d.rend, Track: fr.Track, Epoch: d.epoch, MSN: fr.MSN, Part: fr.Part,
			InitID: fr.InitID, DurationUs: us, WallUnixUs: fr.WallUnixUs, Independent: false,
			SegmentStart: fr.SegmentStart, SegmentEnd: fr.SegmentEnd, Discontinuity: fr.Discontinuity,
		}, nil, true)
	}
}

// tell publishes the event, at most one for each stream in ten seconds: its id is
// made of both, so several origins say it once.
func (f *feed) tell(ctx context.Context, d *due, stored time.Time) {
	slot := stored.Unix() / 10
	e := schemas.Event{
		ID:     "packager_covered/" + f.key.String() + "/" + strconv.FormatInt(slot, 10),
		TimeUs: stored.UnixMicro(), Kind: schemas.EventWorkerLost, App: f.key.App, Stream: f.key.Stream,
		Reason: "a part was not there " + f.o.CoverAfter.String() + " after its chunk: an origin packaged it",
		Detail: map[string]string{"chunk": d.name},
	}
	b, err := schemas.EncodeRecord(&e)
	if err != nil {
		return
	}
	o := []workers.Output{{Subject: schemas.EventSubject(&e), Data: b, MsgID: e.ID}}
	if err := workers.Publish(ctx, f.o.JetStream, o, 5*time.Second); err != nil {
		f.o.Logger.Debug("publish event", "id", e.ID, "err", err)
	}
}
