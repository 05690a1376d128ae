package origin

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/cmaf"
	"github.com/spillway-live/spillway/workers/hls"
	"github.com/spillway-live/spillway/workers/ts"
)

// parsePlain reads a file name of MPEG-TS or of key frames.
func parsePlain(file string, t *target) bool {
	inTS := t.track == hls.TSFolder
	switch {
	case inTS && file == hls.PlaylistName:
		t.kind = "ts_playlist"
		return true
	case t.track == schemas.Video && file == hls.IFramesName:
		t.kind = "iframes"
		return true
	}
	base, isTS := strings.CutSuffix(file, ".ts")
	if !isTS {
		var isKey bool
		if base, isKey = strings.CutSuffix(file, ".key.m4s"); !isKey || t.track != schemas.Video {
			return false
		}
	}
	epoch, msn, part, err := schemas.ParseMediaFileName(base + ".m4s")
	if err != nil || part >= 0 || isTS != inTS {
		return false
	}
	t.id, t.kind = partID{epoch, msn, -1}, "ts"
	if !isTS {
		t.kind = "iframe"
	}
	return file == hls.TSFileName(epoch, msn) || file == hls.IFrameFileName(epoch, msn)
}

// plainTracks gives the tracks of a rendition that MPEG-TS carries together:
// the one that decides where segments begin, and the sound beside a picture.
// The lock is held.
func (f *feed) plainTracks(rendition string) (lead, audio *track) {
	begun := func(r string, k schemas.Track) *track {
		if t := f.tracks[trackName{r, k}]; t != nil && t.begun {
			return t
		}
		return nil
	}
	lead = begun(rendition, schemas.Video)
	if audio = begun(rendition, schemas.Audio); audio == nil {
		audio = begun(schemas.SourceRendition, schemas.Audio)
	}
	if lead == nil {
		return audio, nil
	}
	return lead, audio
}

// companionSlackUs is how far apart segments of picture and sound that belong
// together may begin.
const companionSlackUs = 1_000_000

// companion finds the sound of a segment: what began nearest to it. ready is
// false while that may still change.
func companion(s *segment, audio *track) (found *segment, ready bool) {
	if audio == nil {
		return nil, true
	}
	best := int64(companionSlackUs)
	for _, a := range audio.segs {
		off := a.WallUnixUs - s.WallUnixUs
		if a.DiscontinuitySeq != s.DiscontinuitySeq {
			ready = ready || a.DiscontinuitySeq > s.DiscontinuitySeq
			continue
		}
		if off > companionSlackUs {
			ready = true // sound is beyond it already
		}
		if max(off, -off) < best {
			best, found = max(off, -off), a
		}
	}
	if found != nil {
		return found, found.Complete
	}
	return nil, ready
}

// plainSegments gives the complete segments that are listed, with their sound.
// The lock is held.
func plainSegments(lead, audio *track) []*segment {
	var out []*segment
	for i, s := range lead.segs {
		if i < lead.first || !s.Complete {
			continue
		}
		// A picture two segments old whose sound has not come has none.
		if _, ready := companion(s, audio); !ready && i+2 >= len(lead.segs) {
			break
		}
		out = append(out, s)
	}
	return out
}

// servePlainPlaylist answers the playlist of MPEG-TS segments or of key frames.
func (o *Origin) servePlainPlaylist(w http.ResponseWriter, r *http.Request, t target) {
	f, release, err := o.watch(r.Context(), t.key)
	if err != nil {
		o.fail(w, r, err)
		return
	}
	defer release()
	var segs []*segment
	var inits []string
	iframes := t.kind == "iframes"
	if !o.await(w, r, f, firstSegment, func() (bool, <-chan struct{}) {
		lead, audio := f.plainTracks(t.rendition)
		if iframes {
			lead, audio = f.tracks[trackName{t.rendition, schemas.Video}], nil
		}
		if lead == nil {
			if _, coming := f.targets[trackName{t.rendition, schemas.Video}]; coming || len(f.tracks) == 0 {
				return false, f.added
			}
			return false, nil
		}
		if segs = plainSegments(lead, audio); len(segs) == 0 {
			return false, lead.changed
		}
		inits = append(inits[:0], segs[len(segs)-1].InitID)
		if audio != nil && len(audio.segs) > 0 {
			inits = append(inits, audio.segs[len(audio.segs)-1].InitID)
		}
		return true, nil
	}) || !o.carried(w, r, inits, iframes) {
		return
	}
	p := hls.Plain{IFrames: iframes}
	for _, s := range segs {
		p.Segments = append(p.Segments, s.Segment)
	}
	sendPlaylist(w, r, p.Append(make([]byte, 0, 2<<10)), cacheShort)
}

// carried refuses, with the reason, what the format cannot hold.
func (o *Origin) carried(w http.ResponseWriter, r *http.Request, inits []string, iframes bool) bool {
	for _, id := range inits {
		info, err := o.initInfo(r.Context(), id)
		if err != nil {
			o.unavailable(w, r, err)
			return false
		}
		if !iframes {
			err = ts.Check(info)
		} else if info.Encrypted {
			err = errors.New("the stream is encrypted: it has no key frames of their own")
		}
		if err != nil {
			refuse(w, http.StatusNotFound, cacheShort, err.Error())
			return false
		}
	}
	return true
}

// servePlain answers an MPEG-TS segment or a segment's key frame, made when it is asked for.
func (o *Origin) servePlain(w http.ResponseWriter, r *http.Request, t target) {
	f, release, err := o.watch(r.Context(), t.key)
	if err != nil {
		o.fail(w, r, err)
		return
	}
	defer release()
	var seg, sound *segment
	var data, soundData []byte
	var old, oldSound *past
	leadKind := schemas.Video
	if !o.await(w, r, f, o.HoldLimit, func() (bool, <-chan struct{}) {
		lead, audio := f.plainTracks(t.rendition)
		if t.kind == "iframe" {
			lead, audio = f.tracks[trackName{t.rendition, schemas.Video}], nil
		}
		if lead == nil {
			return false, nil
		}
		leadKind = lead.kind
		if _, ok, later := lead.find(t.id); !ok {
			if later {
				return false, lead.changed
			}
			return false, nil
		}
		for i, s := range lead.segs {
			if s.Epoch != t.id.epoch || s.MSN != t.id.msn {
				continue
			}
			ready := false
			if sound, ready = companion(s, audio); !ready && i+2 >= len(lead.segs) {
				return false, audio.changed
			} else if !ready || sound != nil && hasGap(sound) {
				sound = nil
			}
			// Under the lock: segments are put together when they are asked for.
			seg, data, old = s, s.whole(), lead.past(t.id)
			if sound != nil {
				soundData, oldSound = sound.whole(), audio.past(partID{sound.Epoch, sound.MSN, -1})
			}
		}
		return seg != nil, nil
	}) {
		return
	}
	for _, p := range []struct {
		past *past
		data *[]byte
	}{{old, &data}, {oldSound, &soundData}} {
		if p.past == nil {
			continue
		}
		if *p.data, err = o.readPast(r.Context(), t.key, p.past); err != nil {
			o.pastFailed(w, r, err)
			return
		}
	}
	inits := []string{seg.InitID}
	if sound != nil {
		inits = append(inits, sound.InitID)
	}
	if !o.carried(w, r, inits, t.kind == "iframe") {
		return
	}
	var b []byte
	if t.kind == "iframe" {
		b, err = cmaf.KeyFrame(data)
	} else {
		b, err = o.muxTS(r.Context(), leadKind, seg, sound, data, soundData)
	}
	if err != nil {
		o.Logger.Warn("segment cannot be written in another format", "path", r.URL.Path, "err", err)
		refuse(w, http.StatusNotFound, cacheShort, err.Error())
		return
	}
	name := mediaName(t.id) + "-" + t.kind
	sendMedia(w, r, t, name, b, new(checksum))
}

func (o *Origin) muxTS(ctx context.Context, kind schemas.Track, seg, sound *segment, data, soundData []byte) ([]byte, error) {
	info, err := o.initInfo(ctx, seg.InitID)
	if err != nil {
		return nil, err
	}
	one := &ts.Track{Init: info, Data: data}
	if kind == schemas.Audio {
		return ts.Mux(nil, one)
	}
	if sound == nil {
		return ts.Mux(one, nil)
	}
	soundInfo, err := o.initInfo(ctx, sound.InitID)
	if err != nil {
		return nil, err
	}
	return ts.Mux(one, &ts.Track{Init: soundInfo, Data: soundData})
}

// serveTSMultivariant answers the multivariant playlist over MPEG-TS.
func (o *Origin) serveTSMultivariant(w http.ResponseWriter, r *http.Request, t target) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	s, err := o.state(ctx, t.key)
	if err == nil && (len(s.Epoch.Tracks) == 0 || time.Since(time.UnixMicro(s.UpdatedUnixUs)) > goneAfter) {
		err = errUnknown
	}
	if err != nil {
		o.fail(w, r, err)
		return
	}
	m := hls.FromState(s)
	m.TS = true
	sendPlaylist(w, r, m.Append(nil), cacheShort)
}
