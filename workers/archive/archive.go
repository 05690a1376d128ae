// Package archive names recorded media in the object store. It is pure: the
// recorder writes what it names, origins read it.
//
// It promises that a segment's name says all that a playlist needs of it, so
// that the list of a folder is its index: there is no second thing to keep in
// step, two writers of one segment write one object, and a killed one leaves
// nothing half-known. Names are in the order of time.
//
//	<class>/<app>/<stream>/<rendition>/<track>/<block>/<segment>.m4s
//	<class>/<app>/<stream>/<rendition>/<track>/<block>/init-<InitID>.mp4
//
// A class is a rule of retention; a block is ten minutes of ingest's clock and
// holds everything that its segments need, so that a block can be deleted, or
// copied to another class, by itself.
package archive

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

// ClassDVR is the class of what is kept so that viewers can seek back.
const ClassDVR = "dvr"

// ClassMarks is the class of what verdicts say of recordings. A block of another
// class whose stream and time a mark names is kept as long as the mark.
const ClassMarks = "marks"

// MarkKept is how long marks, and what they mark, are kept.
const MarkKept = 30 * 24 * time.Hour

// markReach is how far around a picture's time what was recorded is kept.
const markReach = time.Minute

// MarksPrefix is what the keys of a stream's marks begin with, with a slash at its end.
func MarksPrefix(k schemas.StreamKey) string { return ClassMarks + "/" + k.App + "/" + k.Stream + "/" }

// Marks gives the keys of a mark: one in each block that the time around a picture belongs to.
//
//	marks/<app>/<stream>/<block>/<wall_us>_<label>.json
func Marks(k schemas.StreamKey, wallUs int64, label string) []string {
	var keys []string
	for _, at := range []int64{wallUs - markReach.Microseconds(), wallUs + markReach.Microseconds()} {
		key := MarksPrefix(k) + Block(at) + "/" + strconv.FormatInt(wallUs, 10) + "_" + label + ".json"
		if len(keys) == 0 || keys[0] != key {
			keys = append(keys, key)
		}
	}
	return keys
}

// BlockDuration is how much of ingest's clock one block holds.
const BlockDuration = 10 * time.Minute

// Track names one recorded track.
type Track struct {
	Class     string
	Key       schemas.StreamKey
	Rendition string
	Track     schemas.Track
}

// Prefix is what the keys of a track begin with, with a slash at its end.
func (t Track) Prefix() string {
	return t.Class + "/" + t.Key.App + "/" + t.Key.Stream + "/" + t.Rendition + "/" + string(t.Track) + "/"
}

// blockLayout sorts by time.
const blockLayout = "20060102T1504Z"

// Block is the name of the block that a time belongs to, Unix microseconds of
// ingest's clock.
func Block(unixUs int64) string {
	return time.UnixMicro(unixUs).UTC().Truncate(BlockDuration).Format(blockLayout)
}

// ParseBlock gives a block's first moment.
func ParseBlock(name string) (time.Time, error) {
	t, err := time.Parse(blockLayout, name)
	if err != nil || t.Format(blockLayout) != name {
		return t, fmt.Errorf("block %.40q is not like %s", name, blockLayout)
	}
	return t, nil
}

// Segment is what a segment's name says.
type Segment struct {
	Epoch uint32
	MSN   uint64
	// ReceivedUnixUs is when ingest received the segment's first chunk: it
	// decides the block. WallUnixUs is EXT-X-PROGRAM-DATE-TIME. Both Unix microseconds.
	ReceivedUnixUs, WallUnixUs int64
	DurationUs                 int64
	DiscontinuitySeq           uint32
	Discontinuity              bool
	Bytes                      int64
	// CRC is CRC-32C of the bytes.
	CRC    uint32
	InitID string
	// KID names the key the samples are encrypted with, 32 hexadecimal digits; empty: they are clear.
	KID string
}

// Limits of what a name may say.
const (
	maxMSN   = 999_999_999_999
	maxUs    = 1 << 53
	maxBytes = 1 << 40
	suffix   = ".m4s"
)

// Check names the field that is wrong.
func (s *Segment) Check() error {
	switch {
	case s.Epoch == 0:
		return fmt.Errorf("epoch is 0")
	case s.MSN > maxMSN:
		return fmt.Errorf("media sequence number %d is more than %d", s.MSN, uint64(maxMSN))
	case s.ReceivedUnixUs < 0 || s.ReceivedUnixUs > maxUs || s.WallUnixUs < 0 || s.WallUnixUs > maxUs:
		return fmt.Errorf("time %d or %d us is not a Unix time", s.ReceivedUnixUs, s.WallUnixUs)
	case s.DurationUs <= 0 || s.DurationUs > 600_000_000:
		return fmt.Errorf("duration of %d us", s.DurationUs)
	case s.Bytes <= 0 || s.Bytes > maxBytes:
		return fmt.Errorf("%d bytes", s.Bytes)
	}
	if s.KID != "" && schemas.CheckInitID(s.KID) != nil {
		return fmt.Errorf("key id %.40q is not 32 hexadecimal digits", s.KID)
	}
	return schemas.CheckInitID(s.InitID)
}

// Name gives the object's name in its block. Numbers that order segments are padded.
func (s *Segment) Name() string {
	d := "c" // continues
	if s.Discontinuity {
		d = "d"
	}
	key := ""
	if s.KID != "" {
		key = "_" + s.KID
	}
	return fmt.Sprintf("%010d-%012d_%d_%d_%d_%s%d_%d_%08x_%s%s%s", s.Epoch, s.MSN, s.ReceivedUnixUs, s.WallUnixUs, s.DurationUs,
		d, s.DiscontinuitySeq, s.Bytes, s.CRC, s.InitID, key, suffix)
}

// Object gives the key of a segment of t.
func (t Track) Object(s *Segment) string {
	return t.Prefix() + Block(s.ReceivedUnixUs) + "/" + s.Name()
}

// Init gives the key of the init segment that a segment needs, in the segment's block.
func (t Track) Init(s *Segment) string {
	return t.Prefix() + Block(s.ReceivedUnixUs) + "/init-" + s.InitID + ".mp4"
}

// Parse reads the key of an object of t. ok is false for an init segment, or
// anything else that is no segment of t.
func (t Track) Parse(key string) (s Segment, ok bool) {
	rest, ok := strings.CutPrefix(key, t.Prefix())
	if !ok {
		return s, false
	}
	block, name, ok := strings.Cut(rest, "/")
	if !ok {
		return s, false
	}
	s, err := ParseName(name)
	return s, err == nil && Block(s.ReceivedUnixUs) == block
}

// ParseName is the reverse of [Segment.Name]. Only names in their one form are taken.
func ParseName(name string) (s Segment, err error) {
	bad := func(err error) (Segment, error) {
		return Segment{}, fmt.Errorf("%.200q is no segment's name: %w", name, err)
	}
	base, ok := strings.CutSuffix(name, suffix)
	f := strings.Split(base, "_")
	if !ok || len(f) != 8 && len(f) != 9 || len(f[4]) < 2 {
		return bad(fmt.Errorf("it has %d fields, not 8 or 9 and %s", len(f), suffix))
	}
	e, m, _ := strings.Cut(f[0], "-")
	var p parser
	s = Segment{
		Epoch: uint32(p.uint(e, 32)), MSN: p.uint(m, 63), ReceivedUnixUs: int64(p.uint(f[1], 63)), WallUnixUs: int64(p.uint(f[2], 63)),
		DurationUs: int64(p.uint(f[3], 63)), Discontinuity: f[4][0] == 'd', DiscontinuitySeq: uint32(p.uint(f[4][1:], 32)),
		Bytes: int64(p.uint(f[5], 63)), InitID: f[7],
	}
	if len(f) == 9 {
		s.KID = f[8]
	}
	crc, err := strconv.ParseUint(f[6], 16, 32)
	s.CRC = uint32(crc)
	if p.err != nil {
		return bad(p.err)
	}
	if err != nil {
		return bad(err)
	}
	if err := s.Check(); err != nil {
		return bad(err)
	}
	if s.Name() != name {
		return bad(fmt.Errorf("it would be written %s", s.Name()))
	}
	return s, nil
}

type parser struct{ err error }

func (p *parser) uint(s string, bits int) uint64 {
	n, err := strconv.ParseUint(s, 10, bits)
	if err != nil && p.err == nil {
		p.err = err
	}
	return n
}
