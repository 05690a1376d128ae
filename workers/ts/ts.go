// Package ts writes MPEG-TS segments (ISO/IEC 13818-1) of the pipeline's own
// parts, for players that know no other HLS.
//
// It promises a pure function of the segment's parts: the same bytes wherever a
// segment is made, with continuity counters that go on from one segment to the
// next although each is made by itself. Pure: no I/O. It leaves out what
// MPEG-TS players cannot decode (AV1, Opus) and what is encrypted.
package ts

import (
	"bytes"
	"errors"
	"fmt"
	"sort"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"
	"github.com/bluenviron/mediacommon/v2/pkg/formats/mpegts"
	"github.com/bluenviron/mediacommon/v2/pkg/formats/mpegts/codecs"

	"github.com/spillway-live/spillway/workers/cmaf"
)

// Track is one track of a segment.
type Track struct {
	Init *cmaf.Init
	// Data are the segment's bytes (CMAF); empty where the segment has nothing of the track.
	Data []byte
}

// ErrUnsupported is wrapped by errors about tracks that MPEG-TS cannot carry here.
var ErrUnsupported = errors.New("not available as MPEG-TS")

// Check tells why a track cannot be carried; nil if it can.
func Check(i *cmaf.Init) error {
	switch {
	case i.Encrypted:
		return fmt.Errorf("%w: the stream is encrypted; play its LL-HLS", ErrUnsupported)
	case i.AVC(), i.HEVC(), i.AAC():
		return nil
	}
	return fmt.Errorf("%w: codec %q; H.264, H.265 and AAC are carried; play its LL-HLS", ErrUnsupported, i.Codec)
}

// ptsOffset keeps times above zero: PCR runs before the first decode time.
const ptsOffset = 90_000

// unit is one access unit or some of them.
type unit struct {
	dts, pts int64 // 90 kHz
	video    bool
	sync     bool
	data     [][]byte
}

// Mux writes one segment. Either track may be nil.
func Mux(video, audio *Track) ([]byte, error) {
	var units []unit
	var out bytes.Buffer
	w := mpegts.Writer{W: &out}
	var vt, at *mpegts.Track
	if video != nil {
		if err := Check(video.Init); err != nil {
			return nil, err
		}
		vt = &mpegts.Track{Codec: &codecs.H264{}}
		if video.Init.HEVC() {
			vt.Codec = &codecs.H265{}
		}
		w.Tracks = append(w.Tracks, vt)
		u, err := pictures(video)
		if err != nil {
			return nil, err
		}
		units = append(units, u...)
	}
	if audio != nil {
		if err := Check(audio.Init); err != nil {
			return nil, err
		}
		var c mpeg4audio.AudioSpecificConfig
		if err := c.Unmarshal(audio.Init.ASC); err != nil {
			return nil, fmt.Errorf("read the AAC configuration: %w", err)
		}
		at = &mpegts.Track{Codec: &codecs.MPEG4Audio{Config: c}}
		w.Tracks = append(w.Tracks, at)
		u, err := sounds(audio)
		if err != nil {
			return nil, err
		}
		units = append(units, u...)
	}
	if len(units) == 0 {
		return nil, errors.New("the segment is empty")
	}
	sort.SliceStable(units, func(i, j int) bool { return units[i].dts < units[j].dts })
	if err := w.Initialize(); err != nil {
		return nil, fmt.Errorf("begin MPEG-TS: %w", err)
	}
	if _, err := w.WriteTables(); err != nil {
		return nil, fmt.Errorf("write tables: %w", err)
	}
	for i := range units {
		if err := write(&w, vt, at, &units[i]); err != nil {
			return nil, fmt.Errorf("write MPEG-TS: %w", err)
		}
	}
	return continuous(out.Bytes())
}

func write(w *mpegts.Writer, vt, at *mpegts.Track, u *unit) error {
	switch {
	case !u.video:
		return w.WriteMPEG4Audio(at, u.pts, u.data)
	case isHEVC(vt):
		return w.WriteH265(vt, u.pts, u.dts, u.data)
	}
	return w.WriteH264(vt, u.pts, u.dts, u.data)
}

func isHEVC(t *mpegts.Track) bool { _, ok := t.Codec.(*codecs.H265); return ok }

func to90k(t int64, scale uint32) int64 {
	s, rest := t/int64(scale), t%int64(scale)
	return s*90_000 + rest*90_000/int64(scale) + ptsOffset
}

// pictures gives access units with parameter sets in front of those that
// decoding can start at.
func pictures(t *Track) ([]unit, error) {
	s, err := cmaf.Samples(nil, t.Data)
	if err != nil {
		return nil, fmt.Errorf("read pictures: %w", err)
	}
	out := make([]unit, 0, len(s))
	for i := range s {
		var nals [][]byte
		if s[i].Sync {
			nals = append(nals, t.Init.Params...)
		}
		if nals, err = splitNALs(nals, s[i].Data); err != nil {
			return nil, err
		}
		if len(nals) == 0 {
			continue
		}
		out = append(out, unit{
			dts: to90k(int64(s[i].DTS), t.Init.Timescale), pts: to90k(s[i].PTS(), t.Init.Timescale), video: true, sync: s[i].Sync, data: nals,
		})
	}
	return out, nil
}

func splitNALs(dst [][]byte, b []byte) ([][]byte, error) {
	for len(b) > 0 {
		if len(b) < 4 {
			return nil, fmt.Errorf("%d bytes left where a NAL length is expected", len(b))
		}
		n := int(b[0])<<24 | int(b[1])<<16 | int(b[2])<<8 | int(b[3])
		if n > len(b)-4 {
			return nil, fmt.Errorf("NAL of %d bytes where %d are left", n, len(b)-4)
		}
		if n > 0 {
			dst = append(dst, b[4:4+n])
		}
		b = b[4+n:]
	}
	return dst, nil
}

// framesPerPES is how many AAC frames share a PES packet: about 85 ms at 48 kHz.
const framesPerPES = 4

func sounds(t *Track) ([]unit, error) {
	s, err := cmaf.Samples(nil, t.Data)
	if err != nil {
		return nil, fmt.Errorf("read sound: %w", err)
	}
	var out []unit
	for i := 0; i < len(s); i += framesPerPES {
		at := to90k(s[i].PTS(), t.Init.Timescale)
		u := unit{dts: at, pts: at}
		for j := i; j < min(i+framesPerPES, len(s)); j++ {
			u.data = append(u.data, s[j].Data)
		}
		out = append(out, u)
	}
	return out, nil
}
