package srt

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/spillway-live/spillway/ingest/cut"
	"github.com/spillway-live/spillway/ingest/mpegts"
	"github.com/spillway-live/spillway/ingest/publish"
)

const (
	// maxMalformed is how many malformed frames in a row end a publication.
	maxMalformed = 30
	// maxForeignBytes is how much may come before the tables that say what it is.
	maxForeignBytes = 8 << 20
	// tsPacketsPerMessage is how many transport packets an SRT packet usually holds; 16
	// missing ones of a stream are not seen in its four-bit counter.
	tsPacketsPerMessage, counterPeriod = 7, 16

	taken = "H.264, H.265, AAC and Opus are taken"
)

// feed carries a transport stream to its publication.
type feed struct {
	pub     *publish.Publication
	m       *metrics
	log     *slog.Logger
	demux   mpegts.Demuxer
	clock   cut.Unwrap
	arrived time.Time
	bytes   uint64
	units   uint64 // that were given
	known   bool   // the program
	video   *video
	audio   *audio
	counted mpegts.Counters
}

func newFeed(pub *publish.Publication, m *metrics, log *slog.Logger) *feed {
	f := &feed{pub: pub, m: m, log: log, clock: cut.Unwrap{ClockHz: 90000, Bits: 33}}
	f.demux.Program, f.demux.Unit = f.program, f.unit
	return f
}

// take takes the payload of one SRT packet.
func (f *feed) take(p packet) error {
	f.arrived = p.arrived
	f.bytes += uint64(len(p.data))
	if p.missing*tsPacketsPerMessage >= counterPeriod {
		f.demux.Lose()
	}
	if err := f.demux.Write(p.data); err != nil {
		return err
	}
	if c := f.demux.Counters(); c != f.counted {
		f.m.gaps.Add(float64(c.Lost + c.Broken - f.counted.Lost - f.counted.Broken))
		f.counted = c
	}
	if !f.known && f.bytes > maxForeignBytes {
		return publish.Refuse("protocol", fmt.Sprintf("no MPEG transport stream in the first %d bytes: send with -f mpegts", f.bytes))
	}
	return nil
}

// silent says why a publication without frames ends.
func (f *feed) silent(d time.Duration) error {
	if f.bytes > 0 && !f.known {
		return publish.Refuse("protocol", fmt.Sprintf("no MPEG transport stream within %s: send with -f mpegts", d.Round(time.Second)))
	}
	return &lostError{fmt.Sprintf("no frames for %s", d.Round(time.Second))}
}

// program chooses the first video and the first audio that can be published as they
// are. A coding that is not taken is refused by name, unless another stream stands in for it.
func (f *feed) program(streams []*mpegts.Stream) error {
	f.known = true
	var v, a *mpegts.Stream
	var refusedV, refusedA []string
	for _, s := range streams {
		switch {
		case s.Kind == mpegts.Video && s.Codec == "":
			refusedV = append(refusedV, s.Name)
		case s.Kind == mpegts.Audio && s.Codec == "":
			refusedA = append(refusedA, s.Name)
		case s.Kind == mpegts.Video && v == nil:
			v = s
		case s.Kind == mpegts.Audio && a == nil:
			a = s
		}
	}
	switch {
	case v == nil && len(refusedV) > 0:
		return publish.Refuse("codec", fmt.Sprintf("video in %s: %s", names(refusedV), taken))
	case a == nil && len(refusedA) > 0:
		return publish.Refuse("codec", fmt.Sprintf("audio in %s: %s", names(refusedA), taken))
	case v == nil && a == nil:
		return publish.Refuse("codec", "the transport stream has neither video nor audio")
	}
	if left := append(refusedV, refusedA...); len(left) > 0 {
		f.log.Warn("a part of what the publisher sends is left out", "left_out", names(left), "why", taken)
	}
	f.pub.Expect(v != nil, a != nil)
	if v == nil {
		f.video = nil
	} else if f.video == nil || f.video.stream != v {
		f.video = newVideo(v)
	}
	if a == nil {
		f.audio = nil
	} else if f.audio == nil || f.audio.stream != a {
		f.audio = newAudio(a)
	}
	return nil
}

func (f *feed) unit(u *mpegts.Unit) error {
	switch {
	case f.video != nil && u.Stream == f.video.stream:
		return f.takeVideo(u)
	case f.audio != nil && u.Stream == f.audio.stream:
		return f.takeAudio(u)
	}
	return nil
}

// us converts units of a clock into microseconds.
func us(units, hz int64) int64 { return units * 1_000_000 / hz }
