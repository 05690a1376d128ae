package publish

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/spillway-live/spillway/ingest/cut"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/columnar"
)

// stats are measured between ticks of a second.
type stats struct {
	mu         sync.Mutex
	frames     int
	videoBytes int64
	audioBytes int64
	chunks     uint64
	jumps      uint64
	keyMs      int64 // interval of key frames; see keyFrame
	lastKeyUs  int64
	hasKey     bool
	stallUs    int64
	lastUs     int64 // arrival of the last video frame (audio without video)
	lastDTSUs  int64
	hasVideo   bool
	peakBps    int64
	since      time.Time

	allFrames, allBytes uint64
}

// totals since the publication began.
func (s *stats) totals() (frames, bytes uint64, stallMs int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.allFrames, s.allBytes, s.stallUs / 1000
}

// stallMinUs is the least arrival gap beyond media time that counts as falling behind.
const stallMinUs = 100_000

func (s *stats) frame(f *cut.Frame, audio bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.allBytes += uint64(len(f.Data))
	if audio {
		s.audioBytes += int64(len(f.Data))
		if s.hasVideo {
			return
		}
	} else {
		s.hasVideo = true
		s.frames++
		s.allFrames++
		s.videoBytes += int64(len(f.Data))
		if f.Key {
			s.keyFrame(f.DTSUs)
		}
	}
	if s.lastUs != 0 {
		if late := f.ArrivedUs - s.lastUs - (f.DTSUs - s.lastDTSUs); late > stallMinUs && f.DTSUs >= s.lastDTSUs {
			s.stallUs += late
		}
	}
	s.lastUs, s.lastDTSUs = f.ArrivedUs, f.DTSUs
}

// keyFrame measures the interval from the key frame before. Timestamps in whole
// milliseconds make it one millisecond longer or shorter now and then: what was
// measured stands, so that who counts in it need not begin anew.
func (s *stats) keyFrame(dtsUs int64) {
	if ms := (dtsUs - s.lastKeyUs) / 1000; s.hasKey && (ms > s.keyMs+1 || ms < s.keyMs-1) {
		s.keyMs = ms
	}
	s.hasKey, s.lastKeyUs = true, dtsUs
}

func (s *stats) chunk() {
	s.mu.Lock()
	s.chunks++
	s.mu.Unlock()
}

func (s *stats) jump() {
	s.mu.Lock()
	s.jumps++
	s.lastUs = 0
	s.mu.Unlock()
}

func (s *stats) newEpoch() {
	s.mu.Lock()
	s.lastUs, s.hasKey, s.peakBps, s.hasVideo = 0, false, 0, false
	s.mu.Unlock()
}

// second gives the figures since the last call.
func (s *stats) second(now time.Time) schemas.PublisherStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := schemas.PublisherStats{KeyframeMs: s.keyMs, Chunks: s.chunks, TimestampJumps: s.jumps, StallMs: s.stallUs / 1000}
	if d := now.Sub(s.since).Seconds(); !s.since.IsZero() && d > 0 {
		out.FPS = float64(s.frames) / d
		out.VideoBps = int64(float64(s.videoBytes) * 8 / d)
		out.AudioBps = int64(float64(s.audioBytes) * 8 / d)
		if d >= 0.9 { // a shorter time exaggerates
			s.peakBps = max(s.peakBps, out.VideoBps+out.AudioBps)
		}
	}
	out.PeakBps = s.peakBps
	s.frames, s.videoBytes, s.audioBytes, s.since = 0, 0, 0, now
	return out
}

const initsEvery = 24 * time.Hour // inits are forgotten after a week

// keep writes state, position and telemetry until the publication is done.
func (p *Publication) keep(ctx context.Context) {
	defer close(p.kept)
	every := time.NewTicker(heartbeat)
	defer every.Stop()
	var saved string
	report := newRowMaker(p)
	nextRow := time.Now().Add(p.s.s.TelemetryEvery)
	nextInit := time.Now().Add(initsEvery)
	p.stats.second(time.Now())
	for {
		first := false
		select {
		case <-p.out.done:
			return
		case <-ctx.Done():
			return
		case <-p.kick:
			first = true
		case <-every.C:
		}
		now := time.Now()
		if !first {
			p.setSecond(p.stats.second(now))
		}
		if p.taken.Load() || p.s.replaced(p) {
			continue
		}
		put, cancel := context.WithTimeout(ctx, 2*time.Second)
		p.putState(put, true, "")
		if mark := p.out.mark(); mark != saved {
			if err := p.out.savePosition(put); err == nil {
				saved = mark
			}
		}
		if now.After(nextInit) {
			nextInit = now.Add(initsEvery)
			p.putInits(put)
		}
		cancel()
		if now.After(nextRow) {
			nextRow = nextRow.Add(p.s.s.TelemetryEvery)
			p.s.report.Telemetry(report.row(now))
		}
	}
}

func (p *Publication) setSecond(s schemas.PublisherStats) {
	if l := p.link.Load(); l != nil {
		s.RTTMs, s.PacketsLost, s.PacketsRetransmitted = l.RTTMs, l.Lost, l.Retransmitted
	}
	p.lastStats.Store(&s)
}

// putState writes the stream's state; a failure is not worth a stop, the next second brings another.
func (p *Publication) putState(ctx context.Context, live bool, reason string) {
	open := p.out.lastOpen.Load()
	if open == nil {
		return
	}
	st := schemas.StreamState{App: p.req.Key.App, Stream: p.req.Key.Stream, Live: live, UpdatedUnixUs: time.Now().UnixMicro(), EndReason: reason, Epoch: *open}
	if s := p.lastStats.Load(); s != nil {
		st.Stats = *s
	}
	data, err := json.Marshal(&st)
	if err == nil {
		_, err = p.s.bus.streams.Put(ctx, p.req.Key.KVKey(), data)
	}
	if err != nil && ctx.Err() == nil {
		p.log.Debug("stream state not written", "err", err)
	}
}

func (p *Publication) putInits(ctx context.Context) {
	for id, b := range p.out.inits() {
		if _, err := p.s.bus.inits.Put(ctx, id, b); err != nil {
			p.log.Warn("init segment not refreshed", "init", id, "err", err)
		}
	}
}

// rowMaker makes telemetry rows of differences.
type rowMaker struct {
	p       *Publication
	at      time.Time
	frames  uint64
	bytes   uint64
	stallMs int64
}

func newRowMaker(p *Publication) *rowMaker {
	return &rowMaker{p: p, at: time.Now()}
}

func (m *rowMaker) row(now time.Time) schemas.Telemetry {
	p := m.p
	frames, bytes, stall := p.stats.totals()
	d := now.Sub(m.at).Seconds()
	row := schemas.Telemetry{
		ReceivedUnixUs: now.UnixMicro(), TsUnixMs: now.UnixMilli(), Source: schemas.SourcePublisher, Event: "publish",
		App: p.req.Key.App, Stream: p.req.Key.Stream, ContentID: p.req.Key.String(), CDN: p.req.CDN, Client: "publisher",
	}
	if open := p.out.lastOpen.Load(); open != nil {
		row.ClientVersion = open.Encoder
		row.SessionID = fmt.Sprintf("pub-%s-%s-%d", p.req.Key.App, p.req.Key.Stream, open.Epoch)
		for _, t := range open.Tracks {
			if t.Track == schemas.Video {
				row.VideoWidth, row.VideoHeight = columnar.Some(int32(t.Width)), columnar.Some(int32(t.Height))
			}
		}
	}
	row.FPS = columnar.Some(float64(frames-m.frames) / d)
	row.PublishBps = columnar.Some(int64(float64(bytes-m.bytes) * 8 / d))
	row.PublishStallMs = columnar.Some(stall - m.stallMs)
	m.at, m.frames, m.bytes, m.stallMs = now, frames, bytes, stall
	return row
}
