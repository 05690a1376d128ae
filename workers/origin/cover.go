package origin

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
	"github.com/spillway-live/spillway/workers/packager"
)

// startPatience bounds how long reading the window may take before requests
// are answered with what is there.
const startPatience = 3 * time.Second

// tick looks for parts that have not come in time and for tracks held up. It
// reports whether what the bus held at the start is here.
func (f *feed) tick(ctx context.Context, now time.Time) (ready bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	reading, late := f.marks > 0, false
	keep := f.overdue[:0]
	for _, d := range f.overdue {
		if !f.missing(d) {
			continue
		}
		keep = append(keep, d)
		reading = reading || d.old
		late = late || f.live && !now.Before(d.at)
	}
	clear(f.overdue[len(keep):])
	f.overdue = keep
	if late && !f.covering {
		f.covering = true
		f.o.fetches.Go(func() { f.coverAll(ctx) })
	}
	for _, t := range f.tracks {
		if len(t.pending) > 0 {
			f.moved(t, func() { t.advance(now) })
		}
		if now.Sub(t.unsaid) > liveTick {
			t.say() // its chunk's other part is late
		}
	}
	settled := now.Sub(f.started) > startPatience
	f.live = f.live || settled
	return f.live && !reading || settled
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

// coverAll packages what is late, in the order of the bus, so that every origin
// comes to the same playlists.
func (f *feed) coverAll(ctx context.Context) {
	publish := make(chan covered, 256)
	var published sync.WaitGroup
	published.Go(func() {
		for c := range publish {
			f.share(ctx, c)
		}
	})
	for ctx.Err() == nil {
		d := f.nextLate(time.Now())
		if d == nil {
			break
		}
		if out, stored, ok := f.cover(ctx, d); ok {
			select {
			case publish <- covered{d, out, stored}:
			default: // the bus is slow to take them; the other origins help themselves
			}
		}
	}
	close(publish)
	published.Wait()
}

// nextLate gives the oldest chunk that is late, or ends covering.
func (f *feed) nextLate(now time.Time) *due {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range f.overdue {
		if !now.Before(d.at) && f.missing(d) {
			return d
		}
	}
	f.covering = false
	return nil
}

// covered is a chunk that was packaged here.
type covered struct {
	d      *due
	out    []workers.Output
	stored time.Time
}

// cover packages a chunk here: its parts did not come in time, so its packager
// is gone, slow or has none after it.
func (f *feed) cover(ctx context.Context, d *due) (out []workers.Output, stored time.Time, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	m, err := f.o.media.GetMsg(ctx, d.seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		f.giveUp(d, fmt.Errorf("chunk is gone from the bus: %w", err))
		return nil, stored, false
	}
	if err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		d.attempts++
		d.at = time.Now().Add(min(time.Duration(d.attempts)*100*time.Millisecond, 2*time.Second))
		return nil, stored, false
	}
	c, err := schemas.DecodeChunk([]byte(m.Header.Get(schemas.HeaderChunk)), m.Data)
	if err == nil && schemas.MediaSubject(c.Key(), c.Rendition) != m.Subject {
		err = fmt.Errorf("it is for subject %s", schemas.MediaSubject(c.Key(), c.Rendition))
	}
	if err == nil {
		out, err = packager.Package(c, m.Data)
	}
	if err != nil {
		f.giveUp(d, fmt.Errorf("chunk cannot be packaged: %w", err))
		return nil, stored, false
	}
	for i := range c.Fragments {
		p, data := packager.Part(c, m.Data, i)
		f.offer(&p, data, false)
	}
	f.o.m.covered.Inc()
	return out, m.Time, true
}

// share publishes parts made here, from which the others profit too; the same
// ids keep anything from being stored twice.
func (f *feed) share(ctx context.Context, c covered) {
	if err := workers.Publish(ctx, f.o.JetStream, c.out, 5*time.Second); err != nil {
		f.o.Logger.Debug("publish covered parts", "chunk", c.d.name, "err", err)
		return
	}
	f.tell(ctx, c.d, c.stored)
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
		waits, initID := false, fr.InitID
		if t := f.tracks[trackName{d.rend, fr.Track}]; t != nil {
			_, waits = t.waiting[partID{d.epoch, fr.MSN, int(fr.Part)}]
			delete(t.waiting, partID{d.epoch, fr.MSN, int(fr.Part)})
			us = min(us, t.targetUs)
			if schemas.CheckInitID(initID) != nil && len(t.segs) > 0 {
				initID = t.segs[len(t.segs)-1].InitID
			}
		}
		f.mu.Unlock()
		if !waits || schemas.CheckInitID(initID) != nil {
			continue
		}
		f.offer(&schemas.Part{
			App: f.key.App, Stream: f.key.Stream, Rendition: d.rend, Track: fr.Track, Epoch: d.epoch, MSN: fr.MSN, Part: fr.Part,
			InitID: initID, DurationUs: us, WallUnixUs: fr.WallUnixUs, Independent: false,
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
