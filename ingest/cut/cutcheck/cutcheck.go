// Package cutcheck verifies sequences of chunks against the cutting rules of
// docs/contracts.md: that headers and CMAF bytes agree, decode times never
// overlap, sequence numbers have no holes, parts and segments keep their lengths.
// Tests of ingest and of what reads MEDIA use it. Pure.
package cutcheck

import (
	"bytes"
	"fmt"

	"github.com/Eyevinn/mp4ff/mp4"

	"github.com/spillway-live/spillway/schemas"
)

// Checker verifies the chunks of one rendition in the order in which they were published.
type Checker struct {
	// PartTargetUs bounds parts of more than one frame, by track; default 200,000.
	PartTargetUs map[schemas.Track]int64
	// Tracks is what has been seen, by track.
	Tracks map[schemas.Track]*TrackStats
	// Chunks counts chunks; Audioless those of a single track.
	Chunks int

	epoch uint32
	seq   uint64
}

// TrackStats sums up one track.
type TrackStats struct {
	Parts, Segments, Samples     int
	Ended                        int // segments closed by a part with SegmentEnd
	Short                        int // parts under 85 % of the target that do not end a segment
	LongestPartUs, LongestSegUs  int64
	ShortestSegUs                int64 // of segments with a successor
	Keys                         int   // independent segment starts
	HolesUs                      int64
	LastWallUs, WorstWallErrorUs int64
	Discontinuities              int

	epoch     uint32
	begun     bool
	msn       uint64
	part      uint32
	end       uint64
	scale     uint32
	segUs     int64
	wallShift int64
}

// Open notes an epoch; later chunks must belong to it.
func (c *Checker) Open(e *schemas.EpochOpen) error {
	if e.Epoch <= c.epoch {
		return fmt.Errorf("epoch %d opens after epoch %d", e.Epoch, c.epoch)
	}
	c.epoch, c.seq = e.Epoch, 0
	if c.PartTargetUs == nil {
		c.PartTargetUs = map[schemas.Track]int64{}
	}
	for _, t := range e.Tracks {
		if old, ok := c.PartTargetUs[t.Track]; ok && old != t.PartTargetUs {
			return fmt.Errorf("%s: part target changed from %d to %d us", t.Track, old, t.PartTargetUs)
		}
		c.PartTargetUs[t.Track] = t.PartTargetUs
		if st := c.Tracks[t.Track]; st != nil && st.begun && t.FirstMSN != st.msn+1 {
			return fmt.Errorf("%s: epoch %d begins at segment %d after segment %d", t.Track, e.Epoch, t.FirstMSN, st.msn)
		}
	}
	return nil
}

// Chunk verifies one chunk.
func (c *Checker) Chunk(ch *schemas.Chunk, payload []byte) error {
	header, err := ch.EncodeHeader(payload)
	if err != nil {
		return err
	}
	if _, err := schemas.DecodeChunk(header, payload); err != nil {
		return err
	}
	if c.epoch == 0 {
		c.epoch = ch.Epoch
	}
	if ch.Epoch != c.epoch || ch.Seq != c.seq {
		return fmt.Errorf("chunk %d/%d where %d/%d is due", ch.Epoch, ch.Seq, c.epoch, c.seq)
	}
	c.seq++
	c.Chunks++
	for i := range ch.Fragments {
		f := &ch.Fragments[i]
		if err := c.fragment(ch, f, payload[f.Offset:f.Offset+f.Size]); err != nil {
			return fmt.Errorf("chunk %s: %s segment %d part %d: %w", ch.ContentID(), f.Track, f.MSN, f.Part, err)
		}
	}
	return nil
}

func (c *Checker) fragment(ch *schemas.Chunk, f *schemas.Fragment, data []byte) error {
	if c.Tracks == nil {
		c.Tracks = map[schemas.Track]*TrackStats{}
	}
	t := c.Tracks[f.Track]
	if t == nil {
		t = &TrackStats{}
		c.Tracks[f.Track] = t
	}
	newEpoch := t.begun && t.epoch != ch.Epoch
	switch {
	case !t.begun:
		if f.Part != 0 {
			return fmt.Errorf("the first part has index %d", f.Part)
		}
	case f.Part == 0:
		if f.MSN != t.msn+1 {
			return fmt.Errorf("segment follows segment %d", t.msn)
		}
	case newEpoch:
		return fmt.Errorf("a new epoch goes on with a segment of the old one")
	case f.MSN != t.msn || f.Part != t.part+1:
		return fmt.Errorf("part follows segment %d part %d", t.msn, t.part)
	}
	if newEpoch && !f.Discontinuity {
		return fmt.Errorf("no discontinuity at a new epoch")
	}
	if f.Discontinuity {
		t.Discontinuities++
	}
	if t.begun && !newEpoch && f.BaseTime < t.end {
		return fmt.Errorf("begins at %d: the part before ends at %d", f.BaseTime, t.end)
	}
	us := f.DurationUs()
	target := c.PartTargetUs[f.Track]
	if target == 0 {
		target = schemas.DefaultPartTargetUs
	}
	if us > target && f.Samples > 1 {
		return fmt.Errorf("lasts %d us: at most %d", us, target)
	}
	if us*100 < target*85 && !f.SegmentEnd {
		t.Short++
	}
	if f.Part == 0 {
		if t.begun {
			t.LongestSegUs = max(t.LongestSegUs, t.segUs)
			if !newEpoch && (t.ShortestSegUs == 0 || t.segUs < t.ShortestSegUs) {
				t.ShortestSegUs = t.segUs
			}
		}
		t.segUs = 0
		t.Segments++
		if f.Independent {
			t.Keys++
		}
	}
	hole := int64(0)
	if t.begun && !newEpoch {
		hole = int64((f.BaseTime - t.end) * 1_000_000 / uint64(f.Timescale))
		t.HolesUs += hole
	}
	mediaUs := int64(f.BaseTime/uint64(f.Timescale)*1_000_000 + f.BaseTime%uint64(f.Timescale)*1_000_000/uint64(f.Timescale))
	if shift := f.WallUnixUs - mediaUs; t.begun && !newEpoch {
		t.WorstWallErrorUs = max(t.WorstWallErrorUs, shift-t.wallShift, t.wallShift-shift)
	} else {
		t.wallShift = shift
	}
	t.segUs += us + hole
	t.LongestPartUs = max(t.LongestPartUs, us)
	t.Parts++
	t.Samples += f.Samples
	if f.SegmentEnd {
		t.Ended++
	}
	t.begun, t.epoch, t.msn, t.part, t.scale = true, ch.Epoch, f.MSN, f.Part, f.Timescale
	t.end = f.BaseTime + f.Duration
	t.LastWallUs = f.WallUnixUs
	return checkBytes(f, data)
}

// checkBytes parses the fragment with an independent reader and compares.
func checkBytes(f *schemas.Fragment, data []byte) error {
	file, err := mp4.DecodeFile(bytes.NewReader(data), mp4.WithDecodeFlags(mp4.DecISMFlag))
	if err != nil {
		return fmt.Errorf("parse fragment: %w", err)
	}
	if len(file.Segments) != 1 || len(file.Segments[0].Fragments) != 1 {
		return fmt.Errorf("not exactly one moof and mdat")
	}
	fr := file.Segments[0].Fragments[0]
	prft, ok := file.Children[0].(*mp4.PrftBox)
	if !ok || len(file.Children) != 3 {
		return fmt.Errorf("not a prft, a moof and an mdat box")
	}
	if err := checkPrft(f, prft); err != nil {
		return err
	}
	if len(fr.Moof.Trafs) != 1 {
		return fmt.Errorf("%d tracks in a fragment", len(fr.Moof.Trafs))
	}
	if got := fr.Moof.Traf.Tfdt.BaseMediaDecodeTime(); got != f.BaseTime {
		return fmt.Errorf("tfdt is %d, header says %d", got, f.BaseTime)
	}
	samples, err := fr.GetFullSamples(nil)
	if err != nil {
		return fmt.Errorf("read samples: %w", err)
	}
	if len(samples) > 0 && prft.MediaTime != uint64(int64(samples[0].DecodeTime)+int64(samples[0].CompositionTimeOffset)) {
		return fmt.Errorf("prft is about media time %d: the first sample is presented at %d", prft.MediaTime,
			int64(samples[0].DecodeTime)+int64(samples[0].CompositionTimeOffset))
	}
	if len(samples) != f.Samples {
		return fmt.Errorf("%d samples, header says %d", len(samples), f.Samples)
	}
	var dur uint64
	for i, s := range samples {
		dur += uint64(s.Dur)
		if s.CompositionTimeOffset < 0 {
			return fmt.Errorf("sample %d is presented before it is decoded", i)
		}
		if s.Dur == 0 {
			return fmt.Errorf("sample %d lasts nothing", i)
		}
	}
	if dur != f.Duration {
		return fmt.Errorf("samples last %d, header says %d", dur, f.Duration)
	}
	if samples[0].IsSync() != f.Independent {
		return fmt.Errorf("first sample sync %t, header says %t", samples[0].IsSync(), f.Independent)
	}
	return nil
}

// checkPrft compares the producer reference time with the header's wall-clock.
func checkPrft(f *schemas.Fragment, prft *mp4.PrftBox) error {
	const ntpUnixSeconds = 2_208_988_800
	ntp := uint64(prft.NTPTimestamp)
	us := int64(ntp>>32-ntpUnixSeconds)*1_000_000 + int64((ntp&0xffffffff)*1_000_000>>32)
	if d := f.WallUnixUs - us; d < 0 || d > 1 { // the fraction of 2^-32 s is rounded down twice
		return fmt.Errorf("prft says %d us, header says %d", us, f.WallUnixUs)
	}
	return nil
}
