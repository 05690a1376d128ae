package origin

import (
	"context"
	"net/http"
	"sort"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/cmaf"
	"github.com/spillway-live/spillway/workers/dash"
)

// serveMPD answers the stream's MPD without session. It changes when a segment
// is complete, a run of segments begins, or the publisher leaves.
func (o *Origin) serveMPD(w http.ResponseWriter, r *http.Request, t target) {
	f, release, err := o.watch(r.Context(), t.key)
	if err != nil {
		o.fail(w, r, err)
		return
	}
	defer release()
	var runs []dashRun
	if !o.await(w, r, f, firstSegment, func() (bool, <-chan struct{}) {
		runs = f.runs()
		if len(runs) > 0 {
			return true, nil
		}
		if lead := f.leading(); lead != nil {
			return false, lead.changed
		}
		return false, f.added
	}) {
		return
	}
	if rotates(runs) {
		refuse(w, http.StatusNotFound, cacheShort, "the stream's key changes within a Period, which its MPD cannot say: play its LL-HLS, or let one key hold for ever (rotate_segments 0)")
		return
	}
	m := dash.MPD{WindowUs: o.mpdReachUs(r.Context(), t, f)}
	for i := range runs {
		p, err := o.period(r.Context(), runs, i)
		if err != nil {
			o.unavailable(w, r, err)
			return
		}
		if len(p.Sets) > 0 {
			m.Periods = append(m.Periods, p)
		}
	}
	if len(m.Periods) == 0 {
		refuse(w, http.StatusNotFound, cacheShort, "the stream has not begun")
		return
	}
	sendText(w, r, dash.TypeMPD, cacheShort, m.Append(make([]byte, 0, 4<<10)))
}

// dashRun is what a Period is made of: segments of one line in all tracks.
type dashRun struct {
	epoch, dseq uint32
	line        schemas.Line
	ended       bool
	tracks      []runTrack // leading one first
}

type runTrack struct {
	name     trackName
	first    uint64 // number of the run's first segment
	epoch    uint32
	initID   string
	kid      string
	targetUs int64
	segs     []*segment // of which only the last may be incomplete
	open     bool       // it is
	raw      [][][]byte // each one's parts, which may be moved once the lock is gone
}

// rotates reports whether segments of one run have several keys.
func rotates(runs []dashRun) bool {
	for i := range runs {
		for j := range runs[i].tracks {
			for _, s := range runs[i].tracks[j].segs {
				if s.KID != runs[i].tracks[j].kid {
					return true
				}
			}
		}
	}
	return false
}

// leading is the track that decides where runs begin: the publisher's picture,
// or its sound where there is none. The lock is held.
func (f *feed) leading() *track {
	for _, kind := range []schemas.Track{schemas.Video, schemas.Audio} {
		if t := f.tracks[trackName{schemas.SourceRendition, kind}]; t != nil && t.begun {
			return t
		}
	}
	return nil
}

// runs gives what is listed now, by runs. The lock is held.
func (f *feed) runs() []dashRun {
	lead := f.leading()
	if lead == nil {
		return nil
	}
	var out []dashRun
	for _, rt := range lead.runs() {
		s := rt.segs[0]
		out = append(out, dashRun{epoch: s.Epoch, dseq: s.DiscontinuitySeq, line: *s.line, tracks: []runTrack{rt}})
	}
	for i := range out {
		out[i].ended = i < len(out)-1 || lead.closed && lead.ended >= lead.last.epoch
	}
	names := make([]trackName, 0, len(f.tracks))
	for name := range f.tracks {
		names = append(names, name)
	}
	sort.Slice(names, func(i, j int) bool {
		if names[i].kind != names[j].kind {
			return names[i].kind > names[j].kind // video first
		}
		return names[i].rendition < names[j].rendition
	})
	_, sound := f.tracks[trackName{schemas.SourceRendition, schemas.Audio}]
	for _, name := range names {
		t := f.tracks[name]
		// Renditions carry the same sound.
		if t == lead || !t.begun || name.kind == schemas.Audio && sound && name.rendition != schemas.SourceRendition {
			continue
		}
		if f.o.made.Retired(f.key, name.rendition, time.Now()) {
			continue
		}
		for _, rt := range t.runs() {
			s := rt.segs[0]
			for i := range out {
				if r := &out[i]; r.dseq == s.DiscontinuitySeq && r.line.ID == s.line.ID && r.line.ZeroUnixUs == s.line.ZeroUnixUs {
					r.tracks = append(r.tracks, rt)
				}
			}
		}
	}
	return out
}

// runs cuts what is listed of one track. Segments whose line is not known belong to none.
func (t *track) runs() []runTrack {
	var out []runTrack
	for _, s := range t.segs[t.first:] {
		if s.line == nil || hasGap(s) {
			continue
		}
		n := len(out) - 1
		if n < 0 || out[n].epoch != s.Epoch || out[n].segs[0].line.ID != s.line.ID {
			out = append(out, runTrack{
				name: trackName{t.rendition, t.kind}, first: s.line.FirstMSN, epoch: s.Epoch, initID: s.InitID, kid: s.KID, targetUs: t.targetUs,
			})
			n++
		}
		if k := len(out[n].segs); k > 0 && out[n].segs[k-1].MSN+1 != s.MSN {
			out[n].segs, out[n].raw = nil, nil // players count on: what is behind a hole is all that can be named
		}
		out[n].segs, out[n].raw = append(out[n].segs, s), append(out[n].raw, s.raw)
		out[n].open = !s.Complete
	}
	return out
}

// period reads the times that a Period needs. A complete segment does not change any more.
func (o *Origin) period(ctx context.Context, runs []dashRun, i int) (dash.Period, error) {
	r := &runs[i]
	p := dash.Period{Epoch: r.epoch, Line: r.line, Ended: r.ended}
	for j := range r.tracks {
		rt := &r.tracks[j]
		info, err := o.initInfo(ctx, rt.initID)
		if err != nil {
			return p, err
		}
		d := dash.Representation{
			Rendition: rt.name.rendition, Track: rt.name.kind, Epoch: rt.epoch, InitID: rt.initID, KID: rt.kid, Codec: info.Codec,
			Width: info.Width, Height: info.Height, SampleRate: info.SampleRate, Channels: info.Channels, Timescale: info.Timescale,
			FirstMSN: rt.first, PartUs: rt.targetUs,
		}
		segs := rt.segs
		if rt.open {
			segs = segs[:len(segs)-1]
		}
		for k, s := range segs {
			start, end, err := span(rt.raw[k])
			if err != nil {
				return p, err
			}
			d.Segments = append(d.Segments, dash.Segment{MSN: s.MSN, Start: start, Duration: end - start})
			if end > start {
				d.BandwidthBps = max(d.BandwidthBps, int64(float64(bytesOf(rt.raw[k]))*8*float64(info.Timescale)/float64(end-start)))
			}
		}
		// The newest segment's first fragment says what its prft is the time of: the
		// publisher's clock may have been learned after the run began.
		_, d.Reference = cmaf.Reference(rt.raw[len(rt.raw)-1][0])
		d.BandwidthBps = roundUp(d.BandwidthBps)
		if j == 0 && len(d.Segments) > 0 {
			last := d.Segments[len(d.Segments)-1]
			p.EndUs = int64(float64(last.Start+last.Duration) * 1e6 / float64(info.Timescale))
		}
		p.Sets = append(p.Sets, d)
	}
	// A run that goes over into the next one ends where that begins.
	if i+1 < len(runs) && runs[i+1].epoch == r.epoch {
		p.EndUs = runs[i+1].line.StartUs
	}
	if !p.LowLatency() && len(p.Sets[0].Segments) == 0 {
		p.Sets = nil
	}
	return p, nil
}

// span gives the times of a complete segment's parts, in its track's units.
func span(parts [][]byte) (start, end uint64, err error) {
	start, _, err = cmaf.Span(parts[0])
	if err == nil {
		_, end, err = cmaf.Span(parts[len(parts)-1])
	}
	return start, end, err
}

// roundUp rounds to two digits, so that the figure is steady.
func roundUp(bps int64) int64 {
	unit := int64(1)
	for bps/unit >= 100 {
		unit *= 10
	}
	return (bps + unit - 1) / unit * unit
}
