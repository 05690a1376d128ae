package viewer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spillway-live/spillway/ingest/cmcd"
)

// place is the next thing a track loads.
type place struct {
	known bool
	msn   int64
	part  int
}

// item is one thing to download.
type item struct {
	uri  string
	at   time.Time // program date time
	dur  time.Duration
	next place
	gap  bool
}

// load keeps one track's buffer filled until ctx ends, the stream ends, or nothing works any more.
func (v *view) load(ctx context.Context, t track) error {
	var a *anchor
	var pl *media
	var from *pathway // that pl came from
	var pos place
	first := true // nothing of this anchor is appended yet
	for ctx.Err() == nil {
		v.mu.Lock()
		if v.anchor != a {
			a, pl, pos, first = v.anchor, nil, place{}, true
		}
		p := v.path
		v.mu.Unlock()
		if p != from {
			from, pl = p, nil // numbering is the same everywhere: pos holds
		}
		next, err := v.reload(a.ctx, t, p, pl)
		if err != nil {
			if a.ctx.Err() != nil {
				continue // a jump, or the end
			}
			if err := v.failed(ctx, p, playlistOf(t, v.lead), err); err != nil {
				return err
			}
			pl = nil
			continue
		}
		v.succeeded(p)
		pl = next
		if pl.lastMSN+3 < pos.msn {
			pos = place{} // the server counts anew
		}
		if !pos.known {
			if pos, err = v.choose(a, t, pl); err != nil {
				if a.ctx.Err() != nil {
					continue
				}
				return err
			}
		}
		for _, it := range v.pending(pl, pos) {
			it.uri = resolve(pl.base, it.uri)
			if err = v.fetch(a, t, p, it, first); err != nil {
				break
			}
			first, pos = false, it.next
		}
		if err != nil {
			if a.ctx.Err() == nil {
				if err := v.failed(ctx, p, forMedia, err); err != nil {
					return err
				}
			}
			continue
		}
		if pl.ended {
			v.finished(t)
			return nil
		}
	}
	return ctx.Err()
}

// reload gets the media playlist: the next version of last, held by the server
// until it exists, or else the present one.
func (v *view) reload(ctx context.Context, t track, p *pathway, last *media) (*media, error) {
	u := p.video
	if t == audio {
		u = p.audio
	}
	base, err := url.Parse(u)
	if err != nil {
		return nil, err
	}
	switch {
	case last == nil:
	case last.canBlock:
		msn, part := last.next(!v.c.WholeSegments)
		sep := "?"
		if base.RawQuery != "" {
			sep = "&"
		}
		u += sep + "_HLS_msn=" + strconv.FormatInt(msn, 10)
		if !v.c.WholeSegments {
			u += "&_HLS_part=" + strconv.Itoa(part)
		}
	default:
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(max(last.target/2, 500*time.Millisecond)):
		}
	}
	text, err := v.get(ctx, u, playlistTimeout, true)
	if err != nil {
		return nil, err
	}
	m, err := parseMedia(text, base, !v.c.WholeSegments)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", base.Path, err)
	}
	if m.segments[0].at.IsZero() {
		return nil, fmt.Errorf("%s: no EXT-X-PROGRAM-DATE-TIME: cannot tell where live is", base.Path)
	}
	v.mu.Lock()
	if m.edge.After(v.edge) {
		v.edge = m.edge
	}
	if v.liveSync == 0 {
		if v.liveSync = m.partHold; v.liveSync == 0 || v.c.WholeSegments {
			v.liveSync = max(m.holdBack, m.target)
		}
	}
	v.mu.Unlock()
	return m, nil
}

// choose finds where a track starts: the leading one at the last independent
// place before the live position, the other where that is in its own playlist.
func (v *view) choose(a *anchor, t track, pl *media) (place, error) {
	v.mu.Lock()
	live := v.liveSync
	v.mu.Unlock()
	if t != v.lead {
		select {
		case <-a.set:
			pos, _ := v.start(pl, a.wall.Add(a.seek), true)
			return pos, nil
		case <-a.ctx.Done():
			return place{}, a.ctx.Err()
		}
	}
	target := pl.edge.Add(-live)
	pos, at := v.start(pl, target, false)
	select {
	case <-a.set: // by this very track, before the server began to count anew
		return pos, nil
	default:
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	a.wall, a.seek = at, max(target.Sub(at), 0)
	v.p.pos = a.base + a.seek
	close(a.set)
	return pos, nil
}

// start finds the last place at or before target where loading can begin.
func (v *view) start(pl *media, target time.Time, any bool) (best place, at time.Time) {
	for i := range pl.segments {
		s := &pl.segments[i]
		if v.c.WholeSegments || len(s.parts) == 0 {
			if s.complete && (!best.known || !s.at.After(target)) {
				best, at = place{true, s.msn, 0}, s.at
			}
			continue
		}
		t := s.at
		for j := range s.parts {
			if (any || j == 0 || s.parts[j].independent) && !s.parts[j].gap && (!best.known || !t.After(target)) {
				best, at = place{true, s.msn, j}, t
			}
			t = t.Add(s.parts[j].dur)
		}
	}
	if !best.known { // only an incomplete segment so far: wait for it
		s := &pl.segments[len(pl.segments)-1]
		best, at = place{true, s.msn, 0}, s.at
	}
	return best, at
}

// pending lists what can be loaded from pos on: whole segments where all of one
// is there, parts at the live edge.
func (v *view) pending(pl *media, pos place) []item {
	var out []item
	for i := range pl.segments {
		s := &pl.segments[i]
		if s.msn < pos.msn {
			continue
		}
		if s.msn > pos.msn {
			pos = place{true, s.msn, 0} // what lay between has left the playlist
		}
		after := place{true, s.msn + 1, 0}
		if s.complete && (pos.part == 0 || len(s.parts) == 0) {
			out = append(out, item{uri: s.uri, at: s.at, dur: s.dur, next: after})
			pos = after
			continue
		}
		if v.c.WholeSegments {
			break
		}
		t := s.at
		for j := range s.parts {
			p := &s.parts[j]
			if j >= pos.part {
				out = append(out, item{uri: p.uri, at: t, dur: p.dur, gap: p.gap, next: place{true, s.msn, j + 1}})
			}
			t = t.Add(p.dur)
		}
		if s.complete && len(s.parts) > 0 {
			if pos.part >= len(s.parts) {
				pos = after
				continue
			}
			out[len(out)-1].next, pos = after, after
		}
	}
	return out
}

// fetch downloads one item and appends it.
func (v *view) fetch(a *anchor, t track, p *pathway, it item, first bool) error {
	if it.gap || it.uri == "" {
		return nil
	}
	u := it.uri
	if v.c.RequestCMCD {
		u = v.withCMCD(u, t, it.dur)
	}
	_, err := v.get(a.ctx, u, mediaTimeout, false)
	var s *statusError
	if errors.As(err, &s) && s.status == http.StatusNotFound {
		return nil // it has left the server: go on with what comes after
	}
	if err != nil {
		return err
	}
	now := time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.anchor != a {
		return context.Canceled // of a place that was left
	}
	if p == v.path {
		v.failures[forMedia] = 0
	}
	v.lastOK = now
	v.served[p.id]++
	if v.c.OnServed != nil {
		v.c.OnServed(p.id, now)
	}
	if first {
		v.p.begin(t, a.base+it.at.Sub(a.wall))
	}
	v.p.append(t, t == v.lead, it.at, it.dur, now)
	return nil
}

func (v *view) withCMCD(u string, t track, d time.Duration) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	rec := v.record(cmcd.EventNone, time.Now())
	rec.Mode = cmcd.ModeRequest
	rec.Drop(cmcd.E, cmcd.TS, cmcd.H, cmcd.MSD)
	rec.Object, rec.ObjectMs = cmcd.ObjectVideo, d.Milliseconds()
	if t == audio {
		rec.Object = cmcd.ObjectAudio
	}
	rec.Put(cmcd.OT, cmcd.D)
	sep := "?"
	if strings.Contains(u, "?") {
		sep = "&"
	}
	return u + sep + "CMCD=" + string(rec.AppendQuery(nil))
}

// finished notes that a track has all it will ever have.
func (v *view) finished(t track) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ended[t] = true
	if len(v.ended) == len(v.tracks) {
		v.p.final = true
	}
}
