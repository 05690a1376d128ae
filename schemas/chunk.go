package schemas

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
)

// ChunkVersion is the version written in chunk, part and epoch headers.
const ChunkVersion = 1

// Limits on chunks. A header or payload beyond them is refused by both encoder and decoder.
const (
	MaxBusPayload       = 8 << 20                 // NATS max_payload, which counts headers too
	MaxPayloadBytes     = MaxBusPayload - 64*1024 // so a chunk's payload leaves room for its header
	MaxHeaderBytes      = 16 << 10
	MaxFragments        = 64
	SegmentMinUs        = 2_000_000 // a segment closes at the first key frame after this
	SegmentMaxUs        = 4_000_000 // ... and at this age without one
	TargetDurationSec   = 4         // EXT-X-TARGETDURATION, which may never change
	DefaultPartTargetUs = 200_000
)

// ClockSource says where a chunk's wall-clock comes from.
type ClockSource string

// Clock sources, best first. All but arrival are times of capture; all but synced
// come from a clock whose offset ingest estimates (docs/contracts.md, Clocks).
const (
	ClockSynced   ClockSource = "synced"   // publisher's clock, which it has set by ours
	ClockCapture  ClockSource = "capture"  // publisher's own clock, with each frame (SEI, RTP), corrected
	ClockTimecode ClockSource = "timecode" // time codes of the pictures, corrected
	ClockMetadata ClockSource = "metadata" // clock in messages beside the media (RTMP), corrected
	ClockArrival  ClockSource = "arrival"  // time of arrival at ingest, jitter removed
)

// Chunk is the header of one MEDIA message of kind chunk: about 200 ms of one
// rendition. The payload is one fragmented-MP4 fragment (moof+mdat,
// ISO/IEC 14496-12) for each entry of Fragments, concatenated in that order,
// each with a single track (ISO/IEC 23000-19, CMAF).
type Chunk struct {
	Version   int    `json:"v"`
	App       string `json:"app"`
	Stream    string `json:"stream"`
	Rendition string `json:"rendition"`
	// Epoch counts the publications of the stream, from 1. A lower epoch than one seen is ignored.
	Epoch uint32 `json:"epoch"`
	// Seq counts the chunks of the epoch, from 0.
	Seq uint64 `json:"seq"`
	// DiscontinuitySeq counts earlier epochs that had content: EXT-X-DISCONTINUITY-SEQUENCE of this epoch's segments.
	DiscontinuitySeq uint32 `json:"dseq"`
	// CDN names the CDN the publisher came through (affinity needs it).
	CDN string `json:"cdn,omitempty"`
	// ReceivedUnixUs is when ingest had the last byte of the chunk's first sample, Unix microseconds.
	ReceivedUnixUs int64 `json:"recv_us"`
	// Clock and ClockBoundUs say what the fragments' WallUnixUs rest on and how far
	// they may be off, microseconds: from the time of capture or, with ClockArrival,
	// from the arrival of a frame that waited in no queue.
	Clock        ClockSource `json:"clock"`
	ClockBoundUs int64       `json:"clock_bound_us"`
	// Encryption says how whoever packages the chunk encrypts its samples; nil: not.
	// The payload itself is clear. It is the same in all chunks of an epoch.
	Encryption *Encryption `json:"enc,omitempty"`
	Fragments  []Fragment  `json:"frags"`
	// CRC is CRC-32C (RFC 3720) over the header with CRC 0, then the payload.
	CRC uint32 `json:"crc"`
}

// Fragment describes one moof+mdat of a chunk. It is one LL-HLS part.
type Fragment struct {
	Track Track `json:"track"`
	// MSN is the media sequence number of the segment the part is in; Part its index there, from 0.
	MSN  uint64 `json:"msn"`
	Part uint32 `json:"part"`
	// Offset and Size give the byte range in the payload.
	Offset int `json:"off"`
	Size   int `json:"size"`
	// InitID names the init segment (bucket inits) that the fragment decodes with.
	InitID string `json:"init"`
	// BaseTime is the decode time of the first sample (tfdt), Duration the sum of sample durations, both in 1/Timescale s.
	BaseTime  uint64 `json:"base"`
	Duration  uint64 `json:"dur"`
	Timescale uint32 `json:"ts"`
	Samples   int    `json:"n"`
	// WallUnixUs is the wall-clock at the first sample's presentation, Unix microseconds.
	WallUnixUs int64 `json:"wall_us"`
	// DoneUnixUs is when ingest had the last byte of the last sample, Unix
	// microseconds: nothing can be done with the part before. 0: not known.
	DoneUnixUs int64 `json:"done_us,omitempty"`
	// Independent: decoding can start here (video: the first sample is a key frame).
	Independent bool `json:"key,omitempty"`
	// SegmentStart: the first part of its segment. SegmentEnd: the last one. A
	// publisher that dies never sends an end; the next start closes the segment.
	SegmentStart bool `json:"start,omitempty"`
	SegmentEnd   bool `json:"end,omitempty"`
	// Discontinuity: the first part of an epoch that continues an earlier one.
	Discontinuity bool `json:"disc,omitempty"`
	// Line is set at the start of a segment whose place in time is known.
	Line *Line `json:"line,omitempty"`
}

// DurationUs is the fragment's duration in microseconds.
func (f *Fragment) DurationUs() int64 {
	if f.Timescale == 0 {
		return 0
	}
	return int64(f.Duration * 1_000_000 / uint64(f.Timescale))
}

// Key gives the stream the chunk belongs to.
func (c *Chunk) Key() StreamKey { return StreamKey{c.App, c.Stream} }

// ContentID identifies the chunk through every hop from publisher to player:
// app/stream/rendition/epoch/seq.
func (c *Chunk) ContentID() string {
	return c.App + "/" + c.Stream + "/" + c.Rendition + "/" + strconv.FormatUint(uint64(c.Epoch), 10) + "/" + strconv.FormatUint(c.Seq, 10)
}

// MsgID is the Nats-Msg-Id of the chunk: its content id.
func (c *Chunk) MsgID() string { return "c/" + c.ContentID() }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrCorrupt is wrapped by decoding errors of data that was damaged on its way.
var ErrCorrupt = errors.New("checksum differs")

// EncodeHeader validates the chunk against its payload, sets CRC and gives the
// header's JSON. Equal chunks give equal bytes.
func (c *Chunk) EncodeHeader(payload []byte) ([]byte, error) {
	c.Version, c.CRC = ChunkVersion, 0
	if err := c.check(len(payload)); err != nil {
		return nil, err
	}
	zero := appendChunk(make([]byte, 0, 256+384*len(c.Fragments)), c)
	c.CRC = crc32.Update(crc32.Checksum(zero, castagnoli), castagnoli, payload)
	out := sealHeader(zero, c.CRC)
	if len(out) > MaxHeaderBytes {
		return nil, fmt.Errorf("chunk header has %d bytes: at most %d are allowed", len(out), MaxHeaderBytes)
	}
	return out, nil
}

// DecodeChunk parses and verifies a chunk. Errors wrap [ErrCorrupt] when the
// bytes were damaged, and otherwise name the field that is wrong.
func DecodeChunk(header, payload []byte) (*Chunk, error) {
	if len(header) > MaxHeaderBytes {
		return nil, fmt.Errorf("chunk header has %d bytes: at most %d are allowed", len(header), MaxHeaderBytes)
	}
	var c Chunk
	if err := parseChunk(header, &c); err != nil {
		return nil, fmt.Errorf("decode chunk header: %w", err)
	}
	if c.Version != ChunkVersion {
		return nil, fmt.Errorf("chunk header has version %d: this program reads version %d", c.Version, ChunkVersion)
	}
	if err := c.check(len(payload)); err != nil {
		return nil, err
	}
	if got, err := headerCRC(header, payload); err != nil {
		return nil, fmt.Errorf("decode chunk header: %w", err)
	} else if got != c.CRC {
		return nil, fmt.Errorf("chunk %s: %w: got %08x, header says %08x", c.ContentID(), ErrCorrupt, got, c.CRC)
	}
	return &c, nil
}

// PeekChunk parses a header without its payload: nothing of it is verified.
func PeekChunk(header []byte) (*Chunk, error) {
	if len(header) > MaxHeaderBytes {
		return nil, fmt.Errorf("chunk header has %d bytes: at most %d are allowed", len(header), MaxHeaderBytes)
	}
	var c Chunk
	if err := parseChunk(header, &c); err != nil {
		return nil, fmt.Errorf("decode chunk header: %w", err)
	}
	if c.Version != ChunkVersion || len(c.Fragments) > MaxFragments {
		return nil, fmt.Errorf("chunk header of version %d with %d fragments: this program reads version %d, at most %d", c.Version, len(c.Fragments), ChunkVersion, MaxFragments)
	}
	return &c, nil
}

// sealHeader replaces the zero CRC, the last field, without a second marshal.
func sealHeader(zero []byte, crc uint32) []byte {
	return append(strconv.AppendUint(zero[:len(zero)-2], uint64(crc), 10), '}')
}

// headerCRC computes the checksum of a sealed header and its payload. It works
// on the bytes as received, so fields added by a later version are covered too.
func headerCRC(header, payload []byte) (uint32, error) {
	i := bytes.LastIndex(header, []byte(`"crc":`))
	if i < 0 || header[len(header)-1] != '}' {
		return 0, errors.New("crc is not the last field")
	}
	crc := crc32.Checksum(header[:i+len(`"crc":`)], castagnoli)
	crc = crc32.Update(crc, castagnoli, []byte("0}"))
	return crc32.Update(crc, castagnoli, payload), nil
}

func (c *Chunk) check(payload int) error {
	if err := c.Key().Check(); err != nil {
		return fmt.Errorf("chunk: %w", err)
	}
	if err := CheckName("rendition", c.Rendition); err != nil {
		return fmt.Errorf("chunk: %w", err)
	}
	if c.CDN != "" {
		if err := CheckName("CDN name", c.CDN); err != nil {
			return fmt.Errorf("chunk: %w", err)
		}
	}
	if c.Epoch == 0 {
		return errors.New("chunk: epoch is 0: epochs count from 1")
	}
	if payload > MaxPayloadBytes {
		return fmt.Errorf("chunk: payload has %d bytes: at most %d are allowed", payload, MaxPayloadBytes)
	}
	if c.Encryption != nil {
		if err := c.Encryption.Check(); err != nil {
			return fmt.Errorf("chunk: %w", err)
		}
	}
	if len(c.Fragments) == 0 || len(c.Fragments) > MaxFragments {
		return fmt.Errorf("chunk: %d fragments: 1 to %d are allowed", len(c.Fragments), MaxFragments)
	}
	end := 0
	for i := range c.Fragments {
		f := &c.Fragments[i]
		if err := f.check(); err != nil {
			return fmt.Errorf("chunk: fragment %d: %w", i, err)
		}
		if f.Offset != end {
			return fmt.Errorf("chunk: fragment %d starts at byte %d: expected %d, fragments follow each other", i, f.Offset, end)
		}
		if f.Size > payload-end {
			return fmt.Errorf("chunk: fragment %d ends at byte %d: the payload has %d", i, end+f.Size, payload)
		}
		end += f.Size
	}
	if end != payload {
		return fmt.Errorf("chunk: fragments cover %d bytes of a payload of %d", end, payload)
	}
	return nil
}

func (f *Fragment) check() error {
	if err := f.Track.Check(); err != nil {
		return err
	}
	switch {
	case f.Size < 16:
		return fmt.Errorf("size %d is less than an empty moof and mdat", f.Size)
	case f.Timescale == 0:
		return errors.New("timescale is 0")
	case f.Duration == 0:
		return errors.New("duration is 0")
	case f.Duration > uint64(f.Timescale)*60:
		return fmt.Errorf("duration %d/%d s is over a minute", f.Duration, f.Timescale)
	case f.Samples <= 0:
		return fmt.Errorf("%d samples", f.Samples)
	case f.SegmentStart != (f.Part == 0):
		return fmt.Errorf("part index %d with segment start %t", f.Part, f.SegmentStart)
	}
	return CheckInitID(f.InitID)
}
