package schemas

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// Picture is the header (JSON, in HeaderPicture) of a PICTURES message; the payload is a JPEG.
type Picture struct {
	Version int    `json:"v"`
	App     string `json:"app"`
	Stream  string `json:"stream"`
	// WallUnixUs is the wall-clock of the pictured key frame, Unix microseconds.
	WallUnixUs int64  `json:"wall_us"`
	ContentID  string `json:"cid"`
	Width      int    `json:"width"`
	Height     int    `json:"height"`
	Epoch      uint32 `json:"epoch,omitempty"`
	// Hash is the perceptual hash of package workers/screenshot/look.
	Hash PictureHash `json:"hash,omitempty"`
	// Cells are mean lumas, 0 to 255, of 16 x 9 cells, row by row.
	Cells []byte `json:"cells,omitempty"`
	// Luma is the mean, 0 to 255; Black the share of black pixels, 0 to 1.
	Luma  float64 `json:"luma"`
	Black float64 `json:"black"`
	// Distance is in how many of 64 bits the hash differs from that of the picture
	// before, -1 where there is none; Change the largest difference of a cell, 0 to 255.
	Distance int `json:"distance"`
	Change   int `json:"change"`
	// StillMs is for how long the picture has not changed, BlackMs for how long it
	// has been black, milliseconds; 0: it has, or this is the first such picture.
	StillMs int64 `json:"still_ms,omitempty"`
	BlackMs int64 `json:"black_ms,omitempty"`
}

// HeaderPicture carries the JSON of a [Picture].
const HeaderPicture = "Spillway-Picture"

// Key gives the stream.
func (p *Picture) Key() StreamKey { return StreamKey{p.App, p.Stream} }

// PictureHash is a perceptual hash, in JSON 16 hexadecimal digits.
type PictureHash uint64

// MarshalText gives 16 hexadecimal digits.
func (h PictureHash) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%016x", uint64(h)), nil }

// UnmarshalText is the reverse.
func (h *PictureHash) UnmarshalText(b []byte) error {
	v, err := strconv.ParseUint(string(b), 16, 64)
	if err != nil || len(b) != 16 {
		return fmt.Errorf("hash %.20q is not 16 hexadecimal digits", b)
	}
	*h = PictureHash(v)
	return nil
}

// maxPictureHeader bounds HeaderPicture, bytes.
const maxPictureHeader = 4096

// ParsePicture reads the header of a PICTURES message, which is on the subject
// of its stream. Fields that a later worker has added are passed over.
func ParsePicture(subject, header string) (*Picture, error) {
	k, err := ParsePictureSubject(subject)
	if err != nil {
		return nil, err
	}
	if len(header) > maxPictureHeader {
		return nil, fmt.Errorf("picture header has %d bytes: at most %d are allowed", len(header), maxPictureHeader)
	}
	var p Picture
	if err := json.Unmarshal([]byte(header), &p); err != nil {
		return nil, fmt.Errorf("decode picture header: %w", err)
	}
	switch {
	case p.Key() != k:
		return nil, fmt.Errorf("the picture on %s is of %s", subject, p.Key())
	case p.Width < 0 || p.Height < 0 || p.StillMs < 0 || p.BlackMs < 0:
		return nil, errors.New("width, height, still_ms and black_ms cannot be negative")
	case !(p.Black >= 0 && p.Black <= 1):
		return nil, fmt.Errorf("black %v is not within 0 and 1", p.Black)
	}
	return &p, nil
}

// PictureSettings say which pictures are made of a stream and what they mean.
type PictureSettings struct {
	// Off: none are made.
	Off bool `json:"off,omitempty"`
	// IntervalMs is the time between two; 0: the worker's. A stream has no more than key frames.
	IntervalMs int64 `json:"interval_ms,omitempty"`
	// Width in pixels; 0: the worker's.
	Width int `json:"width,omitempty"`
	// KeepSec is how long they are kept in the object store; 0: on the bus only.
	KeepSec int64 `json:"keep_sec,omitempty"`
	// FrozenMs is for how long a picture may stand still, or no video may come, before
	// the stream counts as frozen; 0: two equal pictures in a row, or a second without
	// video, are enough; -1: it never does.
	FrozenMs int64 `json:"frozen_ms,omitempty"`
	// BlackMs is the same for black pictures.
	BlackMs int64 `json:"black_ms,omitempty"`
}

// MaxPictureKeepSec bounds PictureSettings.KeepSec: a year.
const MaxPictureKeepSec = 366 * 24 * 3600

// Check names the field that is wrong.
func (p *PictureSettings) Check() error {
	switch {
	case p.IntervalMs != 0 && (p.IntervalMs < 500 || p.IntervalMs > 3_600_000):
		return fmt.Errorf("pictures.interval_ms %d is not within 500 and 3600000", p.IntervalMs)
	case p.Width != 0 && (p.Width < 32 || p.Width > 1920):
		return fmt.Errorf("pictures.width %d is not within 32 and 1920", p.Width)
	case p.KeepSec < 0 || p.KeepSec > MaxPictureKeepSec:
		return fmt.Errorf("pictures.keep_sec %d is not within 0 and %d", p.KeepSec, MaxPictureKeepSec)
	case p.FrozenMs < -1 || p.FrozenMs > 3_600_000:
		return fmt.Errorf("pictures.frozen_ms %d is not within -1 and 3600000", p.FrozenMs)
	case p.BlackMs < -1 || p.BlackMs > 3_600_000:
		return fmt.Errorf("pictures.black_ms %d is not within -1 and 3600000", p.BlackMs)
	}
	return nil
}
