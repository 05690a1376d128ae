package origin

import (
	"context"
	"strconv"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers"
)

// look finds parts that have not come in time and tracks that are held up.
func (f *feed) look(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.past {
		return
	}
	f.coverLate(now)
	f.unlock()
	for _, t := range f.tracks {
		if len(t.pending) > 0 {
			f.moved(t, func() { t.advance(now) })
		}
	}
}

// coverLate packages the chunks whose parts did not come in time, because their
// packager is gone, slow or has none after it. The lock is held.
func (f *feed) coverLate(now time.Time) {
	keep := f.overdue[:0]
	for _, d := range f.overdue {
		switch {
		case !f.missing(d.c):
		case now.Before(d.at):
			keep = append(keep, d)
		default:
			f.cut(d.c, d.data)
			f.o.m.covered.Inc()
			f.o.fetches.Go(func() { f.tell(d) })
		}
	}
	clear(f.overdue[len(keep):])
	f.overdue = keep
}

// missing reports whether a part of c is still to come. The lock is held.
func (f *feed) missing(c *schemas.Chunk) bool {
	for i := range c.Fragments {
		if t := f.tracks[trackName{c.Rendition, c.Fragments[i].Track}]; t != nil {
			if _, ok := t.waiting[partID{c.Epoch, c.Fragments[i].MSN, int(c.Fragments[i].Part)}]; ok {
				return true
			}
		}
	}
	return false
}

// giveUp lists the parts of a damaged chunk as gaps, so that what follows can
// be shown. Its header cannot be verified: nothing is served on its word, and
// what no chunk can say is not believed. The lock is held.
func (f *feed) giveUp(m *message, why error) {
	f.o.m.lost.Inc()
	f.o.Logger.Warn("chunk lost; its parts are listed as gaps", "subject", m.subject, "seq", m.seq, "err", why)
	_, rendition, err := schemas.ParseMediaSubject(m.subject)
	if err != nil {
		return
	}
	c, err := schemas.PeekChunk([]byte(m.header.Get(schemas.HeaderChunk)))
	if err != nil || c.Key() != f.key || c.Rendition != rendition {
		return
	}
	for i := range c.Fragments {
		if c.Fragments[i].Track.Check() != nil {
			return
		}
	}
	if !f.expect(c, m.seq) {
		return
	}
	for i := range c.Fragments {
		f.gap(c, &c.Fragments[i])
	}
}

// gap lists a part that will never come. The lock is held.
func (f *feed) gap(c *schemas.Chunk, fr *schemas.Fragment) {
	t := f.tracks[trackName{c.Rendition, fr.Track}]
	if t == nil {
		return
	}
	id := partID{c.Epoch, fr.MSN, int(fr.Part)}
	if _, waits := t.waiting[id]; !waits {
		return
	}
	delete(t.waiting, id)
	us := int64(schemas.DefaultPartTargetUs)
	if fr.Timescale > 0 && fr.Duration > 0 && fr.Duration < uint64(fr.Timescale) {
		us = fr.DurationUs()
	}
	us = min(us, t.targetUs)
	initID, kid := fr.InitID, ""
	if n := len(t.segs) - 1; n >= 0 && (schemas.CheckInitID(initID) != nil || c.Encryption != nil) {
		initID, kid = t.segs[n].InitID, t.segs[n].KID
	} else if c.Encryption != nil {
		return // nothing is listed yet that it would be missing from
	}
	if schemas.CheckInitID(initID) != nil {
		return
	}
	f.offer(&schemas.Part{
		KID: kid,
		App: f.key.App, Stream: f.key.Stream, Rendition: c.Rendition, Track: fr.Track, Epoch: c.Epoch, MSN: fr.MSN, Part: fr.Part,
		InitID: initID, DurationUs: us, WallUnixUs: fr.WallUnixUs, Independent: false,
		SegmentStart: fr.SegmentStart, SegmentEnd: fr.SegmentEnd, Discontinuity: fr.Discontinuity,
	}, nil, true)
}

// tell publishes the event, at most one for each stream in ten seconds: its id is
// made of both, so several origins say it once.
func (f *feed) tell(d *due) {
	slot := d.kept.Unix() / 10
	e := schemas.Event{
		ID:     "packager_covered/" + f.key.String() + "/" + strconv.FormatInt(slot, 10),
		TimeUs: d.kept.UnixMicro(), Kind: schemas.EventWorkerLost, App: f.key.App, Stream: f.key.Stream,
		Reason: "a part was not there " + f.o.CoverAfter.String() + " after its chunk: an origin packaged it",
		Detail: map[string]string{"chunk": d.c.ContentID()},
	}
	b, err := schemas.EncodeRecord(&e)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(f.o.work, 5*time.Second)
	defer cancel()
	o := []workers.Output{{Subject: schemas.EventSubject(&e), Data: b, MsgID: e.ID}}
	if err := workers.Publish(ctx, f.o.JetStream, o, 5*time.Second); err != nil {
		f.o.Logger.Debug("publish event", "id", e.ID, "err", err)
	}
}
