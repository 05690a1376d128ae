package transcode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/cmaf"
)

// planned is a source chunk that was given to the encoder. It is not changed
// afterwards: every rung's cutter looks at the same one.
type planned struct {
	chunk   *schemas.Chunk
	parts   []plannedPart // its video fragments
	arrived time.Time
}

type plannedPart struct {
	frag    schemas.Fragment
	samples []sample
	// reference is the source's prft box. It tells which wall-clock a media time
	// has, so it holds for the same picture at another bitrate.
	reference []byte
}

// plan reads the video fragments of a source chunk; without any it gives nil.
func plan(c *schemas.Chunk, payload []byte, arrived time.Time) (*planned, error) {
	p := &planned{chunk: c, arrived: arrived}
	for i := range c.Fragments {
		f := &c.Fragments[i]
		if f.Track != schemas.Video {
			continue
		}
		b := payload[f.Offset : f.Offset+f.Size]
		s, err := samplesOf(f, b)
		if err != nil {
			return nil, fmt.Errorf("chunk %s, fragment %d: %w", c.ContentID(), i, err)
		}
		reference, _ := cmaf.Reference(b)
		p.parts = append(p.parts, plannedPart{*f, s, reference})
	}
	if len(p.parts) == 0 {
		return nil, nil
	}
	return p, nil
}

// frame is one encoded frame.
type frame struct {
	pts  int64 // in the source's timescale
	key  bool
	data []byte // NAL units with four-byte lengths
}

// cutter cuts one rung's frames into exactly the parts of the source. The
// encoder makes no B-frames, so its frames come in the order of presentation;
// the i-th takes the i-th place, in order of decoding, of the source. A part so
// has the source's base time, duration and number of frames also where the
// source reorders its frames. A frame that the decoder could not make lengthens
// the one before it in its part.
type cutter struct {
	mu      sync.Mutex
	due     []*planned
	pending []int64 // presentation times of source frames not seen yet, ascending

	part, place int // of the next frame, in due[0]
	open        []placed
	made        [][]placed
}

// placed is a frame and where it stands in its part.
type placed struct {
	frame
	place int
}

// rendered is a chunk whose frames are all there.
type rendered struct {
	*planned
	parts [][]placed
}

// errMismatch: the encoder's frames are not the source's; it must be started anew.
var errMismatch = errors.New("encoder's frames do not match the source's")

// maxPlanned bounds the source frames that wait for the encoder: half a minute at 120 frames a second.
const maxPlanned = 4096

// expect announces a source chunk before it is given to the encoder.
func (c *cutter) expect(p *planned) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.due = append(c.due, p)
	for i := range p.parts {
		for j := range p.parts[i].samples {
			pts := p.parts[i].samples[j].pts()
			at, twice := slices.BinarySearch(c.pending, pts)
			if twice {
				return fmt.Errorf("%w: two frames of the source are presented at %d", errMismatch, pts)
			}
			c.pending = slices.Insert(c.pending, at, pts)
		}
	}
	if len(c.pending) > maxPlanned {
		return fmt.Errorf("%w: %d frames have gone in and not come out", errMismatch, len(c.pending))
	}
	return nil
}

// frame takes the encoder's next frame and gives the chunks it completes.
func (c *cutter) frame(f frame) ([]rendered, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	lost, ok := slices.BinarySearch(c.pending, f.pts)
	if !ok {
		return nil, fmt.Errorf("%w: one is presented at %d, where the source has none", errMismatch, f.pts)
	}
	c.pending = c.pending[lost+1:]
	var out []rendered
	for range lost {
		if err := c.step(nil, &out); err != nil {
			return out, err
		}
	}
	err := c.step(&f, &out)
	return out, err
}

// step fills the next place, or leaves it out where f is nil.
func (c *cutter) step(f *frame, out *[]rendered) error {
	if len(c.due) == 0 {
		return fmt.Errorf("%w: there are more than the source has", errMismatch)
	}
	p := c.due[0]
	if f != nil {
		c.open = append(c.open, placed{*f, c.place})
	}
	if c.place++; c.place < len(p.parts[c.part].samples) {
		return nil
	}
	if len(c.open) == 0 {
		return fmt.Errorf("%w: nothing came out for part %d of segment %d", errMismatch, p.parts[c.part].frag.Part, p.parts[c.part].frag.MSN)
	}
	c.made, c.open, c.place = append(c.made, c.open), nil, 0
	if c.part++; c.part < len(p.parts) {
		return nil
	}
	*out = append(*out, rendered{p, c.made})
	c.due, c.made, c.part = c.due[1:], nil, 0
	return nil
}

// chunk gives the rung's chunk: the source's, with other samples. seq of the
// source is kept, so that every worker gives the same chunk the same id.
func (r *rendered) chunk(rendition, initID string) (*schemas.Chunk, []byte, error) {
	c := *r.planned.chunk
	c.Rendition, c.Fragments = rendition, nil
	var payload []byte
	for i := range r.parts {
		src := &r.planned.parts[i]
		f := src.frag
		at := len(payload)
		payload = appendPart(payload, src, r.parts[i], uint32(c.Seq)+1)
		f.Offset, f.Size, f.InitID = at, len(payload)-at, initID
		f.Samples, f.Independent = len(r.parts[i]), r.parts[i][0].key
		c.Fragments = append(c.Fragments, f)
	}
	if len(payload) > schemas.MaxPayloadBytes {
		return nil, nil, fmt.Errorf("chunk of %d bytes: at most %d fit", len(payload), schemas.MaxPayloadBytes)
	}
	return &c, payload, nil
}

// Sample flags (ISO/IEC 14496-12, 8.8.3.1).
const (
	flagsSync    = 0x02000000
	flagsNonSync = 0x01010000
)

// appendPart writes the fragment of one part, behind its source's prft.
func appendPart(b []byte, src *plannedPart, frames []placed, number uint32) []byte {
	base, end := src.frag.BaseTime, src.frag.BaseTime+src.frag.Duration
	start := func(i int) uint64 { // decode time of frame i; the last one's end is the part's
		switch {
		case i == 0:
			return base
		case i == len(frames):
			return end
		}
		return src.samples[frames[i].place].dts
	}
	dur := uint32(start(1) - base)
	flags, perFrame, body := uint32(0x1|0x4|0x200), 4, 0
	for i := range frames {
		if uint32(start(i+1)-start(i)) != dur {
			flags |= 0x100
		}
		if frames[i].pts != int64(start(i)) {
			flags |= 0x800
		}
		if i > 0 && frames[i].key {
			flags = flags&^0x4 | 0x400
		}
		body += len(frames[i].data)
	}
	for _, f := range [...]uint32{0x100, 0x400, 0x800} {
		if flags&f != 0 {
			perFrame += 4
		}
	}
	be := binary.BigEndian
	head := func(size int, name string) {
		b = be.AppendUint32(b, uint32(size))
		b = append(b, name...)
	}
	trun := 20 + perFrame*len(frames)
	if flags&0x4 != 0 {
		trun += 4
	}
	moof := 8 + 16 + 8 + 24 + 20 + trun
	b = append(b, src.reference...)
	head(moof, "moof")
	head(16, "mfhd")
	b = be.AppendUint32(b, 0)
	b = be.AppendUint32(b, number)
	head(moof-24, "traf")
	head(24, "tfhd")
	b = be.AppendUint32(b, 0x020028) // default-base-is-moof, default duration and flags
	b = be.AppendUint32(b, 1)
	b = be.AppendUint32(b, dur)
	b = be.AppendUint32(b, flagsNonSync)
	head(20, "tfdt")
	b = be.AppendUint32(b, 1<<24)
	b = be.AppendUint64(b, base)
	head(trun, "trun")
	b = be.AppendUint32(b, 1<<24|flags)
	b = be.AppendUint32(b, uint32(len(frames)))
	b = be.AppendUint32(b, uint32(moof+8))
	if flags&0x4 != 0 {
		b = be.AppendUint32(b, frameFlags(frames[0].key))
	}
	for i := range frames {
		if flags&0x100 != 0 {
			b = be.AppendUint32(b, uint32(start(i+1)-start(i)))
		}
		b = be.AppendUint32(b, uint32(len(frames[i].data)))
		if flags&0x400 != 0 {
			b = be.AppendUint32(b, frameFlags(frames[i].key))
		}
		if flags&0x800 != 0 {
			b = be.AppendUint32(b, uint32(int32(frames[i].pts-int64(start(i)))))
		}
	}
	head(8+body, "mdat")
	for i := range frames {
		b = append(b, frames[i].data...)
	}
	return b
}

func frameFlags(key bool) uint32 {
	if key {
		return flagsSync
	}
	return flagsNonSync
}

// oldest gives when the oldest chunk that is not complete arrived; zero without one.
func (c *cutter) oldest() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.due) == 0 {
		return time.Time{}
	}
	return c.due[0].arrived
}
