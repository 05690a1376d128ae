package hls_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bluenviron/gohlslib/v2/pkg/playlist"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/hls"
	"github.com/spillway-live/spillway/workers/hls/hlscheck"
)

var update = flag.Bool("update", false, "rewrite golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

var (
	initA = schemas.InitID([]byte("a"))
	initB = schemas.InitID([]byte("b"))
)

// window gives n segments of 4 s and an open one of open parts; the publisher
// came back at segment back with another init.
func window(first uint64, n, open int, back uint64) hls.Media {
	m := hls.Media{PartTargetUs: 200_000, Reports: []hls.Report{{URI: "../audio/playlist.m3u8", LastMSN: first + uint64(n), LastPart: open}}}
	for i := range n + 1 {
		msn := first + uint64(i)
		s := hls.Segment{Epoch: 1, MSN: msn, InitID: initA, DiscontinuitySeq: 3, WallUnixUs: 1_790_000_000_000_000 + int64(msn)*4_000_000, Complete: i < n}
		if msn >= back {
			s.Epoch, s.InitID, s.DiscontinuitySeq, s.Discontinuity = 2, initB, 4, msn == back
		}
		parts := 20
		if i == n {
			parts = open
		}
		for j := range parts {
			s.Parts = append(s.Parts, hls.Part{DurationUs: 200_000, Independent: j%10 == 0})
		}
		if parts > 0 {
			m.Segments = append(m.Segments, s)
		}
	}
	return m
}

func TestMediaGolden(t *testing.T) {
	ended := window(100, 9, 0, 1000)
	ended.Ended = true
	for name, m := range map[string]hls.Media{
		"media_ended.m3u8":     ended,
		"media_open.m3u8":      window(100, 4, 3, 102),
		"media_closed.m3u8":    window(100, 9, 0, 1000),
		"media_disc_left.m3u8": window(103, 4, 1, 102),
	} {
		full := m.Append(nil)
		golden(t, name, full)
		var c hlscheck.Checker
		if v := c.Add(full); len(v) > 0 {
			t.Errorf("%s: %s", name, strings.Join(v, "\n"))
		}
		var p playlist.Media
		if err := p.Unmarshal(full); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if p.MediaSequence != int(m.Segments[0].MSN) || p.TargetDuration != 4 || p.PreloadHint == nil || len(p.RenditionReport) != 1 {
			t.Errorf("%s is read as %+v", name, p)
		}
	}
	m := window(100, 9, 2, 1000)
	delta := m.AppendDelta(nil)
	golden(t, "media_delta.m3u8", delta)
	var p playlist.Media
	if err := p.Unmarshal(delta); err != nil || p.Skip == nil || p.Skip.SkippedSegments != m.Skippable() {
		t.Errorf("delta: %v, %+v", err, p.Skip)
	}
}

// A stream of two minutes with two interruptions: every version keeps the rules
// against the one before, fetched whole or as a delta update.
func TestMediaKeepsTheRulesWhileItMoves(t *testing.T) {
	var whole, deltas hlscheck.Checker
	skipped := 0
	for step := range 600 {
		msn, parts := uint64(100+step/20), step%20+1
		first := uint64(100)
		if msn > 108 {
			first = msn - 8
		}
		m := window(first, int(msn-first), parts, 112)
		if parts == 20 {
			m.Segments[len(m.Segments)-1].Complete = true
		}
		if v := whole.Add(m.Append(nil)); len(v) > 0 {
			t.Fatalf("step %d: %s", step, strings.Join(v, "\n"))
		}
		b := m.AppendDelta(nil)
		if bytes.Contains(b, []byte("EXT-X-SKIP")) {
			skipped++
			if step%7 == 3 { // a client that tuned in again
				b = m.Append(nil)
			}
		}
		if v := deltas.Add(b); len(v) > 0 {
			t.Fatalf("step %d, delta: %s\n%s", step, strings.Join(v, "\n"), b)
		}
	}
	if skipped == 0 {
		t.Error("no delta update was made")
	}
	if a, b := whole.Last(), deltas.Last(); len(a.Segments) != len(b.Segments) {
		t.Errorf("deltas add up to %d segments, whole playlists have %d", len(b.Segments), len(a.Segments))
	}
}

func state() *schemas.StreamState {
	return &schemas.StreamState{
		App: "live", Stream: "one", Live: true,
		Epoch: schemas.EpochOpen{Rendition: "src", Tracks: []schemas.TrackInfo{
			{Track: schemas.Video, Codec: "avc1.64001f", Width: 1280, Height: 720, FPS: 29.97},
			{Track: schemas.Audio, Codec: "mp4a.40.2", SampleRate: 48000, Channels: 2},
		}},
		Stats: schemas.PublisherStats{VideoBps: 2_500_000, AudioBps: 128_000, PeakBps: 3_100_000, KeyframeMs: 2000},
	}
}

func TestMultivariantGolden(t *testing.T) {
	plain := hls.FromState(state())
	golden(t, "multivariant_plain.m3u8", plain.Append(nil))

	steered := hls.FromState(state())
	steered.Pathways = []hls.Pathway{{"b", "http://127.0.0.1:9002/t/tok"}, {"a", "http://127.0.0.1:9001/t/tok"}, {"c", "http://127.0.0.1:9003/t/tok"}}
	steered.SteeringURI = "http://127.0.0.1:9000/v1/steering?s=tok"
	golden(t, "multivariant_steered.m3u8", steered.Append(nil))

	low := func(name string, w, h int, average, peak int64) *schemas.RenditionState {
		return &schemas.RenditionState{App: "live", Stream: "one", Rendition: name, AverageBps: average, PeakBps: peak, Epoch: schemas.EpochOpen{
			Rendition: name, Tracks: []schemas.TrackInfo{{Track: schemas.Video, Codec: "avc1.64001e", Width: w, Height: h, FPS: 29.97}}}}
	}
	ladder := hls.FromState(state(), low("480p", 854, 480, 900_000, 1_100_000), low("240p", 426, 240, 300_000, 350_000))
	ladder.Pathways = steered.Pathways[:2]
	golden(t, "multivariant_ladder.m3u8", ladder.Append(nil))

	s := state()
	s.Epoch.Tracks = s.Epoch.Tracks[1:]
	s.Stats = schemas.PublisherStats{KeyframeMs: 9000}
	audio := hls.FromState(s)
	golden(t, "multivariant_audio.m3u8", audio.Append(nil))

	for name, m := range map[string]hls.Multivariant{"plain": plain, "steered": steered, "audio": audio, "ladder": ladder} {
		var p playlist.Multivariant
		if err := p.Unmarshal(m.Append(nil)); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if want := len(m.Variants) * max(1, len(m.Pathways)); len(p.Variants) != want {
			t.Errorf("%s: %d variants, not %d", name, len(p.Variants), want)
		}
	}
}

// What comes from outside cannot break out of its line.
func TestMultivariantQuoting(t *testing.T) {
	s := state()
	s.Epoch.Tracks[0].Codec = "avc1\"\n#EXT-X-ENDLIST"
	m := hls.FromState(s)
	m.SteeringURI = "http://x/\"\r\n#EVIL"
	if out := m.Append(nil); bytes.Contains(out, []byte("\n#EVIL")) || bytes.Contains(out, []byte("\n#EXT-X-ENDLIST")) {
		t.Errorf("got\n%s", out)
	}
}

func TestSteering(t *testing.T) {
	s := hls.Steering{TTLSec: 10, ReloadURI: "http://r/v1/steering?s=t", Priority: []string{"b", "a"},
		Clones: []hls.Clone{{BaseID: "a", ID: "d", Host: "cdn-d.example"}}}
	b, err := s.Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "steering.json", append(b, '\n'))
	for _, bad := range []hls.Steering{{Priority: []string{"a"}}, {TTLSec: 1}, {TTLSec: 1, Priority: []string{"a", "a"}}} {
		if _, err := bad.Encode(nil); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
	// Without clones it is written by hand, and the same.
	s.Clones, s.ReloadURI, s.Priority = nil, "http://r/?s=<\"&", []string{"b", "é\n", "a"}
	for range 100 {
		s.Priority = append(s.Priority, strings.Repeat("x", len(s.Priority)))
		b, err := s.Encode(nil)
		if err != nil {
			t.Fatal(err)
		}
		want, err := json.Marshal(struct {
			Version  int      `json:"VERSION"`
			TTL      int      `json:"TTL"`
			Reload   string   `json:"RELOAD-URI"`
			Priority []string `json:"PATHWAY-PRIORITY"`
		}{1, s.TTLSec, s.ReloadURI, s.Priority})
		if err != nil || string(b) != string(want) {
			t.Fatalf("%s, encoding/json writes %s (%v)", b, want, err)
		}
	}
	if s.Priority = append(s.Priority, "a"); len(s.Priority) > 64 {
		if _, err := s.Encode(nil); err == nil {
			t.Error("a repeat among many was taken")
		}
	}
}

func BenchmarkMediaAppend(b *testing.B) {
	m := window(100, 8, 7, 1000)
	var buf []byte
	for b.Loop() {
		buf = m.Append(buf[:0])
	}
	b.SetBytes(int64(len(buf)))
}
