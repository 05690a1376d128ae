// Package media makes chunks for tests from pictures and sound that ffmpeg has
// really encoded: single-track fragments cut by the rules of the chunk contract
// (video parts of 200 ms, segments of 2 s, audio parts of nine AAC frames).
//
// It promises valid, deterministic media for one encoded clip, repeated without
// end. It is not an ingest: the cut is by count, not by arrival.
package media

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
	"github.com/bluenviron/mediacommon/v2/pkg/formats/fmp4"
	"github.com/bluenviron/mediacommon/v2/pkg/formats/fmp4/seekablebuffer"
	"github.com/bluenviron/mediacommon/v2/pkg/formats/mp4/codecs"
	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/need"
	"github.com/spillway-live/spillway/workers"
)

// Cut of the test media.
const (
	FPS             = 30
	PartFrames      = 6  // 200 ms
	SegmentParts    = 10 // 2 s
	AudioRate       = 48000
	AudioPartFrames = 9 // 192 ms
	clipSeconds     = 4
)

type track struct {
	scale   uint32
	init    []byte
	codec   string
	samples []*fmp4.Sample
}

// Clip is four seconds of encoded test picture and tone.
type Clip struct {
	video, audio  track
	Width, Height int
}

// Load encodes the clip with ffmpeg; the test is skipped without ffmpeg.
func Load(t testing.TB) *Clip {
	t.Helper()
	bin := need.Program(t, "ffmpeg")
	file := filepath.Join(t.TempDir(), "clip.mp4")
	d := fmt.Sprint(clipSeconds)
	out, err := exec.CommandContext(t.Context(), bin, "-hide_banner", "-loglevel", "error", "-nostdin",
		"-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30:duration="+d,
		"-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:duration="+d,
		"-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-bf", "0", "-g", "60", "-keyint_min", "60", "-sc_threshold", "0",
		"-c:a", "aac", "-b:a", "64k", "-threads", "1",
		"-movflags", "empty_moov+default_base_moof+frag_keyframe", "-y", file).CombinedOutput()
	if err != nil {
		t.Fatalf("encode clip: %v\n%s", err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c, err := parse(b)
	if err != nil {
		t.Fatalf("read clip: %v", err)
	}
	return c
}

func parse(b []byte) (*Clip, error) {
	var init fmp4.Init
	if err := init.Unmarshal(bytes.NewReader(b)); err != nil {
		return nil, err
	}
	var parts fmp4.Parts
	if err := parts.Unmarshal(b); err != nil {
		return nil, err
	}
	c := &Clip{}
	for _, it := range init.Tracks {
		tr := &c.audio
		tr.codec = "mp4a.40.2"
		if h, ok := it.Codec.(*codecs.H264); ok {
			tr = &c.video
			var sps h264.SPS
			if err := sps.Unmarshal(h.SPS); err != nil {
				return nil, err
			}
			c.Width, c.Height = sps.Width(), sps.Height()
			tr.codec = fmt.Sprintf("avc1.%02x%02x%02x", h.SPS[1], h.SPS[2], h.SPS[3])
		}
		tr.scale = it.TimeScale
		one := fmp4.Init{Tracks: []*fmp4.InitTrack{{ID: 1, TimeScale: it.TimeScale, Codec: it.Codec}}}
		var err error
		if tr.init, err = marshal(one.Marshal); err != nil {
			return nil, err
		}
		for _, p := range parts {
			for _, pt := range p.Tracks {
				if pt.ID == it.ID {
					tr.samples = append(tr.samples, pt.Samples...)
				}
			}
		}
	}
	if len(c.video.samples) != clipSeconds*FPS || len(c.audio.samples) < clipSeconds*AudioRate/1024 {
		return nil, fmt.Errorf("%d pictures and %d audio frames", len(c.video.samples), len(c.audio.samples))
	}
	for _, s := range c.audio.samples {
		s.Duration = 1024
	}
	// The muxer cannot know the last frame's; the clip repeats at a constant rate.
	for i, s := range c.video.samples {
		s.Duration = c.video.scale / FPS
		s.IsNonSyncSample = i%60 != 0 // told by first_sample_flags, which the reader does not know
	}
	return c, nil
}

func marshal(f func(w io.WriteSeeker) error) ([]byte, error) {
	var b seekablebuffer.Buffer
	if err := f(&b); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Init gives a track's init segment.
func (c *Clip) Init(t schemas.Track) []byte {
	if t == schemas.Audio {
		return c.audio.init
	}
	return c.video.init
}

// Publisher cuts one epoch of a stream.
type Publisher struct {
	Clip      *Clip
	Key       schemas.StreamKey
	Rendition string // default src
	Epoch     uint32 // default 1
	DSeq      uint32
	// FirstMSN is the number of the epoch's first segment, both tracks.
	FirstMSN uint64
	// Start is the wall-clock of the first picture; default 2026-01-02T03:04:05Z.
	Start time.Time
	// Discontinuity marks the epoch's first parts.
	Discontinuity bool
	CDN           string
	// Encryption is what the chunks say of it; nil: nothing.
	Encryption *schemas.Encryption
	// Irregular: the length of segments is not told ahead.
	Irregular bool
	// Clock is the chunks' source of time; default arrival.
	Clock schemas.ClockSource
	// Only is the one track that there is; empty: both.
	Only schemas.Track
	// SegmentFrames are the lengths of segments in pictures, at most 120, taken in
	// turn: a publisher whose key frames come at varying distances. Default 60.
	SegmentFrames []int

	parts       int   // video parts cut
	frames      int   // pictures cut
	part        int   // video parts cut of the open segment
	left        int   // pictures that the open segment still has
	starts      []int // picture that each segment begins with
	audioFrames int   // audio frames cut
	audioMSN    uint64
	audioPart   uint32
}

func (p *Publisher) defaults() {
	if p.Rendition == "" {
		p.Rendition = schemas.SourceRendition
	}
	if p.Epoch == 0 {
		p.Epoch = 1
	}
	if p.Clock == "" {
		p.Clock = schemas.ClockArrival
	}
	if p.Start.IsZero() {
		p.Start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	}
}

// NextMSN is the number after the last begun segment.
func (p *Publisher) NextMSN() uint64 { return p.FirstMSN + uint64(len(p.starts)) }

// segmentFrames is the length of a segment, counted from 0.
func (p *Publisher) segmentFrames(i int) int {
	if len(p.SegmentFrames) == 0 {
		return SegmentParts * PartFrames
	}
	return p.SegmentFrames[i%len(p.SegmentFrames)]
}

// boundary is the picture that the segment after one, counted from 0, begins with.
func (p *Publisher) boundary(i int) int {
	n := 0
	for k := range i + 1 {
		n += p.segmentFrames(k)
	}
	return n
}

// Open gives the epoch's opening.
func (p *Publisher) Open() schemas.EpochOpen {
	p.defaults()
	ti := func(t schemas.Track, tr *track) schemas.TrackInfo {
		return schemas.TrackInfo{Track: t, Codec: tr.codec, InitID: schemas.InitID(tr.init), FirstMSN: p.FirstMSN,
			PartTargetUs: schemas.DefaultPartTargetUs, Timescale: tr.scale}
	}
	v, a := ti(schemas.Video, &p.Clip.video), ti(schemas.Audio, &p.Clip.audio)
	v.Width, v.Height, v.FPS = p.Clip.Width, p.Clip.Height, FPS
	a.SampleRate, a.Channels = AudioRate, 1
	encrypted := ""
	if p.Encryption != nil {
		encrypted = p.Encryption.Scheme
	}
	return schemas.EpochOpen{
		Encrypted: encrypted,
		Version:   schemas.ChunkVersion, App: p.Key.App, Stream: p.Key.Stream, Rendition: p.Rendition, Epoch: p.Epoch,
		DiscontinuitySeq: p.DSeq, CDN: p.CDN, OpenedUnixUs: p.Start.UnixMicro(), Encoder: "test", Protocol: "test",
		Tracks: p.only(v, a),
	}
}

func (p *Publisher) only(v, a schemas.TrackInfo) []schemas.TrackInfo {
	switch p.Only {
	case schemas.Video:
		return []schemas.TrackInfo{v}
	case schemas.Audio:
		return []schemas.TrackInfo{a}
	}
	return []schemas.TrackInfo{v, a}
}

// State gives what ingest would have in the bucket streams.
func (p *Publisher) State(now time.Time) schemas.StreamState {
	return schemas.StreamState{
		App: p.Key.App, Stream: p.Key.Stream, Live: true, UpdatedUnixUs: now.UnixMicro(), Epoch: p.Open(),
		Stats: schemas.PublisherStats{FPS: FPS, VideoBps: 300_000, AudioBps: 64_000, KeyframeMs: 2000, PeakBps: 420_000},
	}
}

// Chunk cuts the next chunk: at most 200 ms of video and the audio parts that have ended.
func (p *Publisher) Chunk() (*schemas.Chunk, []byte) {
	p.defaults()
	if p.parts == 0 {
		p.audioMSN = p.FirstMSN
	}
	c := &schemas.Chunk{
		App: p.Key.App, Stream: p.Key.Stream, Rendition: p.Rendition, Epoch: p.Epoch, Seq: uint64(p.parts),
		DiscontinuitySeq: p.DSeq, CDN: p.CDN, Clock: p.Clock, ClockBoundUs: 50_000, Encryption: p.Encryption,
	}
	var payload []byte
	add := func(f schemas.Fragment, tr *track, first, n int) {
		part := &fmp4.PartTrack{ID: 1, BaseTime: f.BaseTime}
		for i := range n {
			s := tr.samples[(first+i)%len(tr.samples)]
			part.Samples = append(part.Samples, s)
			f.Duration += uint64(s.Duration)
		}
		b, err := marshal(fmp4.Part{SequenceNumber: uint32(len(c.Fragments)), Tracks: []*fmp4.PartTrack{part}}.Marshal)
		if err != nil {
			panic(fmt.Sprintf("marshal part: %v", err))
		}
		b = append(p.reference(&f), b...)
		f.Offset, f.Size, f.Timescale, f.InitID, f.Samples = len(payload), len(b), tr.scale, schemas.InitID(tr.init), n
		payload = append(payload, b...)
		c.Fragments = append(c.Fragments, f)
	}
	if p.left == 0 {
		p.left, p.part = p.segmentFrames(len(p.starts)), 0
		p.starts = append(p.starts, p.frames)
	}
	k, n, begin := p.part, min(PartFrames, p.left), p.starts[len(p.starts)-1]
	c.ReceivedUnixUs = p.wall(float64(p.frames+n) / FPS)
	if p.Only != schemas.Audio {
		add(schemas.Fragment{
			Track: schemas.Video, MSN: p.NextMSN() - 1, Part: uint32(k),
			BaseTime:   uint64(p.frames) * uint64(p.Clip.video.scale) / FPS,
			WallUnixUs: p.wall(float64(p.frames) / FPS), Independent: (p.frames-begin)%60 == 0,
			SegmentStart: k == 0, SegmentEnd: n == p.left, Discontinuity: p.Discontinuity && p.parts == 0,
			Line: p.line(k == 0),
		}, &p.Clip.video, p.frames-begin+p.clipAt(), n)
	}
	p.parts++
	p.part++
	p.frames, p.left = p.frames+n, p.left-n
	if p.Only == schemas.Video {
		return c, payload
	}

	const frame = 1024.0 / AudioRate
	until := float64(p.frames) / FPS
	for {
		// The audio segment ends at the first frame at or past the video boundary.
		boundary := float64(p.boundary(int(p.audioMSN-p.FirstMSN))) / FPS
		n, end := 0, false
		for n < AudioPartFrames && !end {
			n++
			end = float64(p.audioFrames+n)*frame >= boundary
		}
		if float64(p.audioFrames+n)*frame > until+frame {
			break
		}
		add(schemas.Fragment{
			Track: schemas.Audio, MSN: p.audioMSN, Part: p.audioPart, BaseTime: uint64(p.audioFrames) * 1024,
			WallUnixUs: p.wall(float64(p.audioFrames) * frame), Independent: true,
			SegmentStart: p.audioPart == 0, SegmentEnd: end, Discontinuity: p.Discontinuity && p.audioFrames == 0,
			Line: p.line(p.audioPart == 0),
		}, &p.Clip.audio, p.audioFrames, n)
		p.audioFrames += n
		p.audioPart++
		if end {
			p.audioMSN, p.audioPart = p.audioMSN+1, 0
		}
	}
	return c, payload
}

// clipAt is the clip's picture that the open segment begins with: a key frame.
func (p *Publisher) clipAt() int {
	if len(p.SegmentFrames) > 0 {
		return 0
	}
	return (len(p.starts) - 1) * SegmentParts * PartFrames
}

// reference is a fragment's prft box (ISO/IEC 14496-12, 8.16.5), as ingest writes
// it. Frames are presented in the order of decoding.
func (p *Publisher) reference(f *schemas.Fragment) []byte {
	flags := uint32(24)
	if p.Clock == schemas.ClockArrival {
		flags = 0
	}
	be := binary.BigEndian
	b := append([]byte{0, 0, 0, 32}, "prft"...)
	b = be.AppendUint32(b, 1<<24|flags)
	b = be.AppendUint32(b, 1)
	const ntpUnixSeconds = 2_208_988_800
	us := uint64(f.WallUnixUs)
	b = be.AppendUint64(b, (us/1_000_000+ntpUnixSeconds)<<32|us%1_000_000<<32/1_000_000)
	return be.AppendUint64(b, f.BaseTime)
}

func (p *Publisher) line(start bool) *schemas.Line {
	if !start {
		return nil
	}
	l := &schemas.Line{FirstMSN: p.FirstMSN, ZeroUnixUs: p.Start.UnixMicro(), SegmentUs: SegmentParts * PartFrames * 1_000_000 / FPS}
	if p.Irregular || len(p.SegmentFrames) > 0 {
		l.SegmentUs = 0
	}
	return l
}

func (p *Publisher) wall(seconds float64) int64 {
	return p.Start.UnixMicro() + int64(seconds*1e6+0.5)
}

// Message gives a chunk as a MEDIA message.
func Message(c *schemas.Chunk, payload []byte) (workers.Message, error) {
	h, err := c.EncodeHeader(payload)
	if err != nil {
		return workers.Message{}, err
	}
	return workers.Message{
		Subject: schemas.MediaSubject(c.Key(), c.Rendition), Data: payload, Seq: c.Seq + 1, Attempt: 1,
		Header: nats.Header{schemas.HeaderKind: {schemas.KindChunk}, schemas.HeaderChunk: {string(h)}},
	}, nil
}

// OpenMessage gives an epoch's opening as a MEDIA message.
func OpenMessage(o schemas.EpochOpen) (workers.Message, error) {
	b, err := json.Marshal(o)
	if err != nil {
		return workers.Message{}, err
	}
	return workers.Message{
		Subject: schemas.MediaSubject(schemas.StreamKey{App: o.App, Stream: o.Stream}, o.Rendition), Data: b, Attempt: 1,
		Header: nats.Header{schemas.HeaderKind: {schemas.KindEpoch}},
	}, nil
}
