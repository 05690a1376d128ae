package hops

import (
	"encoding/json"
	"fmt"
	"math"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/columnar"
)

// Note is one row about a hop as it goes over hops.<app>.<stream>: a JSON array
// of them is a message.
type Note struct {
	Hop       string `json:"hop"`
	Rendition string `json:"r,omitempty"`
	Track     string `json:"t,omitempty"`
	Epoch     uint32 `json:"e,omitempty"`
	MSN       uint64 `json:"m,omitempty"`
	Part      int    `json:"p,omitempty"` // -1: the whole segment
	// AtUs is when it was there, Unix microseconds, by the clock of the machine that tells.
	AtUs int64 `json:"at"`
	// DelayMs is AtUs less the time of ingest; absent: not known.
	DelayMs *float64 `json:"d,omitempty"`
	// BoundMs is how far the clock behind AtUs may be off, where that is known.
	BoundMs float64 `json:"b,omitempty"`
	CDN     string  `json:"cdn,omitempty"`
	Server  string  `json:"srv,omitempty"` // process or edge that tells
	// Code is the HTTP status where it is about an answer, -1 where none came; Error says why the part is not there.
	Code  int    `json:"c,omitempty"`
	Error string `json:"err,omitempty"`
	// From the request to the first and the last byte of the answer (edges, players, probes); absent: not known.
	FirstByteMs *int32 `json:"fb,omitempty"`
	LastByteMs  *int32 `json:"lb,omitempty"`
	// Of probes: throughput from the first byte to the last, the stream's bitrate, age of the newest part listed; absent: not known.
	ThroughputKbps *int32 `json:"kbps,omitempty"`
	BitrateKbps    *int32 `json:"br,omitempty"`
	StalenessMs    *int64 `json:"stale,omitempty"`
}

// Late is the Error of a probe that has no answer yet; what becomes of it is told when it is known.
const Late = "late"

// Failed: the part, or what a probe asked for, was not there.
func (n *Note) Failed() bool { return n.Error != "" || n.Code < 0 || n.Code >= 400 }

// Name is the part that the note is about.
func (n *Note) Name(k schemas.StreamKey) schemas.PartName {
	return schemas.PartName{Key: k, Rendition: n.Rendition, Track: schemas.Track(n.Track), Epoch: n.Epoch, MSN: n.MSN, Part: n.Part}
}

// NoteOf makes the note of a row.
func NoteOf(t *schemas.Telemetry) Note {
	n := Note{
		Hop: t.Hop, Rendition: t.Rendition, Track: t.Track, Epoch: uint32(t.Epoch.V), MSN: uint64(max(t.MSN.V, 0)), Part: int(t.Part.V),
		AtUs: t.ReceivedUnixUs, BoundMs: t.ClockBoundMs.V, CDN: t.CDN, Server: t.Server, Error: t.ErrorCode,
	}
	if t.TsUnixMs > 0 {
		n.AtUs = t.TsUnixMs * 1000
	}
	if t.ResponseCode.OK {
		if n.Code = int(t.ResponseCode.V); n.Code == 0 {
			n.Code = -1
		}
	}
	if t.HopDelayMs.OK {
		n.DelayMs = &t.HopDelayMs.V
	}
	if t.FirstByteMs.OK {
		n.FirstByteMs = &t.FirstByteMs.V
	}
	if t.LastByteMs.OK {
		n.LastByteMs = &t.LastByteMs.V
	}
	if t.Hop == schemas.HopProbe { // players' are about what they play, not about the part
		if t.ThroughputKbps.OK {
			n.ThroughputKbps = &t.ThroughputKbps.V
		}
		if t.BitrateKbps.OK {
			n.BitrateKbps = &t.BitrateKbps.V
		}
	}
	if t.StalenessMs.OK {
		n.StalenessMs = &t.StalenessMs.V
	}
	return n
}

// maxNotes bounds the notes of a message.
const maxNotes = 10_000

// DecodeNotes reads a message. Notes that make no sense are an error: they come from our own processes.
func DecodeNotes(data []byte) ([]Note, error) {
	var out []Note
	if err := json.Unmarshal(data, &out); err != nil {
		return nil, fmt.Errorf("decode hop notes: %w", err)
	}
	if len(out) > maxNotes {
		return nil, fmt.Errorf("decode hop notes: %d in one message: at most %d", len(out), maxNotes)
	}
	for i := range out {
		n := &out[i]
		if n.Part < -1 || n.DelayMs != nil && (math.IsNaN(*n.DelayMs) || math.IsInf(*n.DelayMs, 0)) {
			return nil, fmt.Errorf("decode hop notes: note %d has part %d", i, n.Part)
		}
	}
	return out, nil
}

// At is the row of a part at a hop, with its delay where doneUs, the time at
// which ingest had its last sample, is known (above 0). Times are Unix microseconds.
func At(n schemas.PartName, hop, server string, atUs, doneUs int64) schemas.Telemetry {
	t := schemas.Telemetry{ReceivedUnixUs: atUs, TsUnixMs: atUs / 1000, Source: schemas.SourceHop, Server: server}
	n.Mark(&t, hop)
	if doneUs > 0 {
		t.HopDelayMs = columnar.Some(float64(atUs-doneUs) / 1000)
	}
	return t
}
