package schemas

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// Part is the header of one message on a part's subject: one LL-HLS part of one track. The
// payload is its CMAF bytes. It is a pure function of a chunk, so any two
// packagers write the same part.
type Part struct {
	Version          int    `json:"v"`
	App              string `json:"app"`
	Stream           string `json:"stream"`
	Rendition        string `json:"rendition"`
	Track            Track  `json:"track"`
	Epoch            uint32 `json:"epoch"`
	MSN              uint64 `json:"msn"`
	Part             uint32 `json:"part"`
	DiscontinuitySeq uint32 `json:"dseq"`
	CDN              string `json:"cdn,omitempty"`
	InitID           string `json:"init"`
	// DurationUs is the part's duration, microseconds (EXT-X-PART DURATION).
	DurationUs int64 `json:"dur_us"`
	// WallUnixUs is the wall-clock at the first sample (EXT-X-PROGRAM-DATE-TIME), Unix microseconds.
	WallUnixUs int64 `json:"wall_us"`
	// ReceivedUnixUs is that of the chunk: the arrival of its first sample, Unix microseconds.
	ReceivedUnixUs int64 `json:"recv_us"`
	// DoneUnixUs is that of the fragment: the arrival of the part's last sample; 0: not known.
	DoneUnixUs    int64 `json:"done_us,omitempty"`
	Independent   bool  `json:"key,omitempty"`
	SegmentStart  bool  `json:"start,omitempty"`
	SegmentEnd    bool  `json:"end,omitempty"`
	Discontinuity bool  `json:"disc,omitempty"`
	// Line is that of the fragment: set in the first part of a segment.
	Line *Line `json:"line,omitempty"`
	// KID names the key that the samples are encrypted with, 32 hexadecimal digits;
	// empty: they are clear. InitID is then that of the encrypted init segment.
	KID string `json:"kid,omitempty"`
	// ContentID is that of the chunk the part was cut from.
	ContentID string `json:"cid"`
	CRC       uint32 `json:"crc"`
}

// Key gives the stream the part belongs to.
func (p *Part) Key() StreamKey { return StreamKey{p.App, p.Stream} }

// Subject is where the part is published.
func (p *Part) Subject() string { return PartSubject(p.Key(), p.Rendition, p.Track) }

// MsgID is the Nats-Msg-Id of the part; every packager derives the same one.
func (p *Part) MsgID() string {
	return "p/" + p.App + "/" + p.Stream + "/" + p.Rendition + "/" + string(p.Track) + "/" + p.FileName()
}

// FileName is the part's name in URLs: <epoch>-<msn>.<part>.m4s. It contains
// the epoch, so a name is never used for two contents.
func (p *Part) FileName() string {
	return SegmentBase(p.Epoch, p.MSN) + "." + strconv.FormatUint(uint64(p.Part), 10) + ".m4s"
}

// SegmentBase is the name of a segment without suffix: <epoch>-<msn>.
func SegmentBase(epoch uint32, msn uint64) string {
	return strconv.FormatUint(uint64(epoch), 10) + "-" + strconv.FormatUint(msn, 10)
}

// SegmentFileName is a segment's name in URLs: <epoch>-<msn>.m4s.
func SegmentFileName(epoch uint32, msn uint64) string { return SegmentBase(epoch, msn) + ".m4s" }

// ParseMediaFileName reads a name made by [Part.FileName] (part >= 0) or [SegmentFileName] (part = -1).
func ParseMediaFileName(name string) (epoch uint32, msn uint64, part int, err error) {
	bad := func() (uint32, uint64, int, error) {
		return 0, 0, 0, fmt.Errorf("%.64q is not <epoch>-<msn>.m4s or <epoch>-<msn>.<part>.m4s", name)
	}
	base, ok := strings.CutSuffix(name, ".m4s")
	if !ok {
		return bad()
	}
	part = -1
	if seg, p, ok := strings.Cut(base, "."); ok {
		n, err := strconv.ParseUint(p, 10, 31)
		if err != nil {
			return bad()
		}
		base, part = seg, int(n)
	}
	e, m, ok := strings.Cut(base, "-")
	if !ok {
		return bad()
	}
	en, err1 := strconv.ParseUint(e, 10, 32)
	mn, err2 := strconv.ParseUint(m, 10, 64)
	if err1 != nil || err2 != nil {
		return bad()
	}
	return uint32(en), mn, part, nil
}

// EncodeHeader sets CRC (CRC-32C over the header with CRC 0, then the payload)
// and gives the header's JSON. Equal parts give equal bytes.
func (p *Part) EncodeHeader(payload []byte) ([]byte, error) {
	p.Version, p.CRC = ChunkVersion, 0
	if err := p.check(); err != nil {
		return nil, err
	}
	zero := appendPart(make([]byte, 0, 640), p)
	p.CRC = crc32.Update(crc32.Checksum(zero, castagnoli), castagnoli, payload)
	return sealHeader(zero, p.CRC), nil
}

// DecodePart parses and verifies a part. Errors wrap [ErrCorrupt] when the bytes were damaged.
func DecodePart(header, payload []byte) (*Part, error) {
	if len(header) > MaxHeaderBytes {
		return nil, fmt.Errorf("part header has %d bytes: at most %d are allowed", len(header), MaxHeaderBytes)
	}
	var p Part
	if err := parsePart(header, &p); err != nil {
		return nil, fmt.Errorf("decode part header: %w", err)
	}
	if p.Version != ChunkVersion {
		return nil, fmt.Errorf("part header has version %d: this program reads version %d", p.Version, ChunkVersion)
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	if got, err := headerCRC(header, payload); err != nil {
		return nil, fmt.Errorf("decode part header: %w", err)
	} else if got != p.CRC {
		return nil, fmt.Errorf("part %s: %w: got %08x, header says %08x", p.MsgID(), ErrCorrupt, got, p.CRC)
	}
	return &p, nil
}

func (p *Part) check() error {
	if err := p.Key().Check(); err != nil {
		return fmt.Errorf("part: %w", err)
	}
	if err := CheckName("rendition", p.Rendition); err != nil {
		return fmt.Errorf("part: %w", err)
	}
	if err := p.Track.Check(); err != nil {
		return fmt.Errorf("part: %w", err)
	}
	if p.Epoch == 0 {
		return errors.New("part: epoch is 0: epochs count from 1")
	}
	if p.DurationUs <= 0 {
		return fmt.Errorf("part: duration of %d us", p.DurationUs)
	}
	if err := CheckInitID(p.InitID); err != nil {
		return fmt.Errorf("part: %w", err)
	}
	if p.KID != "" && CheckInitID(p.KID) != nil {
		return fmt.Errorf("part: key id %.40q is not 32 hexadecimal digits", p.KID)
	}
	return nil
}

// InitID names an init segment by content: the first 16 bytes of its SHA-256, in hex.
func InitID(init []byte) string {
	h := sha256.Sum256(init)
	return hex.EncodeToString(h[:16])
}

// CheckInitID refuses what [InitID] cannot have made.
func CheckInitID(id string) error {
	if len(id) != 32 {
		return fmt.Errorf("init id %.40q is not 32 hexadecimal digits", id)
	}
	for i := range len(id) {
		if c := id[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return fmt.Errorf("init id %q is not 32 hexadecimal digits", id)
		}
	}
	return nil
}

// EpochOpen is the payload (JSON) of a MEDIA message of kind epoch. It is
// published with Nats-Expected-Last-Subject-Sequence, so that of two publishers
// that both believe they own the stream one is refused; readers ignore lower
// epochs after it.
type EpochOpen struct {
	Version          int    `json:"v"`
	App              string `json:"app"`
	Stream           string `json:"stream"`
	Rendition        string `json:"rendition"`
	Epoch            uint32 `json:"epoch"`
	DiscontinuitySeq uint32 `json:"dseq"`
	CDN              string `json:"cdn,omitempty"`
	OpenedUnixUs     int64  `json:"opened_us"`
	Encoder          string `json:"encoder,omitempty"`
	// Encrypted is the scheme by which the epoch is encrypted when it is packaged; empty: it is not.
	Encrypted string      `json:"encrypted,omitempty"`
	Protocol  string      `json:"protocol"`
	Tracks    []TrackInfo `json:"tracks"`
}

// TrackInfo describes one track of an epoch.
type TrackInfo struct {
	Track Track `json:"track"`
	// Codec is the RFC 6381 string, e.g. avc1.64001f or mp4a.40.2.
	Codec  string `json:"codec"`
	InitID string `json:"init"`
	// FirstMSN is the media sequence number of the epoch's first segment of this track.
	FirstMSN uint64 `json:"first_msn"`
	// PartTargetUs is EXT-X-PART-INF PART-TARGET of this track, microseconds. It never changes within a stream's life.
	PartTargetUs int64   `json:"part_target_us"`
	Timescale    uint32  `json:"ts"`
	Width        int     `json:"width,omitempty"`
	Height       int     `json:"height,omitempty"`
	FPS          float64 `json:"fps,omitempty"`
	SampleRate   int     `json:"sample_rate,omitempty"`
	Channels     int     `json:"channels,omitempty"`
}
