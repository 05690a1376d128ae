package origin

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/workers/hls/hlscheck"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

// inspector fetches playlists of a stream again and again and holds each against
// the rules and against the one before it, whole and as delta updates.
type inspector struct {
	t        *testing.T
	o        *testOrigin
	whole    map[string]*hlscheck.Checker // by path below the stream
	deltas   map[string]*hlscheck.Checker
	versions map[string]int
	skips    int // delta updates that left something out
	seen     map[string]string
}

func inspect(t *testing.T, o *testOrigin, paths ...string) *inspector {
	i := &inspector{t: t, o: o, whole: map[string]*hlscheck.Checker{}, deltas: map[string]*hlscheck.Checker{}, versions: map[string]int{}, seen: map[string]string{}}
	for _, p := range paths {
		kind := hlscheck.LowLatency
		switch {
		case strings.Contains(p, "/ts/"):
			kind = hlscheck.TS
		case strings.HasSuffix(p, "/iframes.m3u8"):
			kind = hlscheck.KeyFrames
		case strings.HasSuffix(p, "/dvr.m3u8"):
			kind = hlscheck.Whole
		}
		i.whole[p] = &hlscheck.Checker{Kind: kind}
		if kind == hlscheck.LowLatency || kind == hlscheck.Whole {
			i.deltas[p] = &hlscheck.Checker{Kind: kind}
		}
	}
	return i
}

// look fetches all of them once.
func (i *inspector) look() {
	i.t.Helper()
	for p := range i.whole {
		text := i.fetch(p, "", i.whole[p])
		if i.seen[p] != text {
			i.seen[p] = text
			i.versions[p]++
		}
		// Segments are named by their numbers.
		pl := i.whole[p].Last()
		for k := range pl.Segments {
			s := &pl.Segments[k]
			if name := strings.SplitN(s.URI, ".", 2)[0]; s.URI != "" && !strings.HasSuffix(name, fmt.Sprintf("-%d", s.MSN)) {
				i.t.Fatalf("%s: segment %d is named %s\n%s", p, s.MSN, s.URI, text)
			}
		}
		if c := i.deltas[p]; c != nil {
			query := ""
			if c.Last() != nil { // players ask for an update of what they have
				query = "?_HLS_skip=YES"
			}
			i.skips += strings.Count(i.fetch(p, query, c), "#EXT-X-SKIP:")
		}
	}
}

func (i *inspector) fetch(p, query string, c *hlscheck.Checker) string {
	i.t.Helper()
	a := get(i.t, i.o.url+"/live/one/"+p+query)
	if a.code != 200 {
		i.t.Fatalf("%s: %d %s", p, a.code, a.body)
	}
	if v := c.Add(a.body); len(v) > 0 {
		i.t.Fatalf("%s%s: %s\n%s", p, query, strings.Join(v, "\n"), a.body)
	}
	return string(a.body)
}

// settled checks what can be compared once nothing comes any more: delta updates
// with whole playlists, rendition reports with the playlists they are about.
func (i *inspector) settled() {
	i.t.Helper()
	all := map[string]*hlscheck.Playlist{}
	for p, c := range i.deltas {
		i.fetch(p, "?_HLS_skip=YES", c)
		text := i.fetch(p, "", i.whole[p])
		if v := c.Same([]byte(text)); len(v) > 0 {
			i.t.Errorf("%s: %s", p, strings.Join(v, "\n"))
		}
		if i.whole[p].Kind == hlscheck.LowLatency {
			all[p] = i.whole[p].Last()
		}
	}
	for p := range all {
		if v := hlscheck.Reports(p, all); len(v) > 0 {
			i.t.Error(strings.Join(v, "\n"))
		}
	}
}

// pace pushes chunks and looks after each of them.
func (i *inspector) pace(js jetstream.JetStream, n int, ps ...*media.Publisher) {
	i.t.Helper()
	for range n {
		for _, p := range ps {
			push(i.t, p, js, 1)
		}
		i.look()
	}
}

// lists waits until a playlist's end is there.
func (i *inspector) lists(p, name string) {
	i.t.Helper()
	await.True(i.t, p+" lists "+name, func() bool {
		a, err := fetch(i.t.Context(), http.MethodGet, i.o.url+"/live/one/"+p)
		return err == nil && strings.Contains(string(a.body), name)
	})
}

// rendition announces what is made of a stream beside the publisher's own.
func rendition(t *testing.T, js jetstream.JetStream, clip *media.Clip, name string, live bool) *media.Publisher {
	t.Helper()
	p := &media.Publisher{Clip: clip, Key: key, Rendition: name, FirstMSN: 5, Start: media5, Only: schemas.Video}
	putRendition(t, js, p, live)
	return p
}

func putRendition(t *testing.T, js jetstream.JetStream, p *media.Publisher, live bool) {
	t.Helper()
	bustest.Put(t, js, schemas.BucketRenditions, key.KVKey()+"."+p.Rendition, schemas.RenditionState{App: key.App, Stream: key.Stream, Rendition: p.Rendition,
		Live: live, UpdatedUnixUs: time.Now().Add(time.Hour).UnixMicro(), Epoch: p.Open(), AverageBps: 300_000, PeakBps: 400_000})
}

// media5 is when the streams of these tests begin.
var media5 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

const (
	srcVideo, srcAudio = "src/video/playlist.m3u8", "src/audio/playlist.m3u8"
	srcTS, srcKeys     = "src/ts/playlist.m3u8", "src/video/iframes.m3u8"
)

// Every playlist of every kind of stream keeps the rules (draft-pantos-hls-rfc8216bis,
// Apple's authoring rules for low latency) at every step.
func TestPlaylistsKeepTheRules(t *testing.T) {
	t.Parallel()
	clip := media.Load(t)
	plain := func(*Origin) {}
	for _, c := range []struct {
		name   string
		p      media.Publisher
		paths  []string
		change func(*Origin)
		skips  bool
	}{
		{name: "normal", change: plain, paths: []string{srcVideo, srcAudio, srcTS, srcKeys}},
		{name: "delta updates", paths: []string{srcVideo, srcAudio}, change: plain, skips: true},
		{name: "audio only", p: media.Publisher{Only: schemas.Audio}, change: plain, paths: []string{srcAudio, srcTS}},
		{name: "video only", p: media.Publisher{Only: schemas.Video}, change: plain, paths: []string{srcVideo, srcTS, srcKeys}},
		{name: "irregular", p: media.Publisher{SegmentFrames: []int{61, 97, 75, 119, 64, 88}}, change: plain, paths: []string{srcVideo, srcAudio, srcTS, srcKeys}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := bustest.Start(t)
			o := run(t, b.JS, c.change)
			p := c.p
			p.Clip, p.Key, p.FirstMSN, p.Start, p.Epoch = clip, key, 5, media5, 1
			if err := p.Announce(t.Context(), b.JS); err != nil {
				t.Fatal(err)
			}
			push(t, &p, b.JS, 42)
			in := inspect(t, o, c.paths...)
			for _, path := range c.paths {
				in.lists(path, "\n1-6.")
			}
			n := 70
			if c.skips {
				n = 100
			}
			in.pace(b.JS, n, &p)
			if err := p.End(t.Context(), b.JS); err != nil {
				t.Fatal(err)
			}
			last := fmt.Sprintf("\n1-%d.", p.NextMSN()-1)
			for _, p := range c.paths {
				in.lists(p, last)
			}
			in.look()
			in.settled()
			for _, p := range c.paths {
				if least := map[bool]int{true: 40, false: 5}[in.whole[p].Kind == hlscheck.LowLatency]; in.versions[p] < least {
					t.Errorf("%s: only %d versions were seen", p, in.versions[p])
				}
			}
			if c.skips != (in.skips > 0) {
				t.Errorf("%d delta updates left segments out", in.skips)
			}
			t.Logf("versions: %v, delta updates: %d", in.versions, in.skips)
		})
	}
}

// The publisher is lost in the middle of a segment and comes back, three times;
// what is seen of it stays as it was listed, also where the discontinuities leave.
func TestPlaylistsKeepTheRulesOverReconnects(t *testing.T) {
	t.Parallel()
	clip := media.Load(t)
	b := bustest.Start(t)
	objects := shelfOf(t)
	bustest.Put(t, b.JS, schemas.BucketApps, key.App, schemas.AppSettings{DVRSec: 120})
	record(t, b.JS, objects)
	o := run(t, b.JS, func(o *Origin) { o.Store, o.PlaylistLength = objects, 16*time.Second })
	p := &media.Publisher{Clip: clip, Key: key, FirstMSN: 5, Start: media5}
	if err := p.Announce(t.Context(), b.JS); err != nil {
		t.Fatal(err)
	}
	push(t, p, b.JS, 42)
	const dvrVideo, dvrAudio = "src/video/dvr.m3u8", "src/audio/dvr.m3u8"
	paths := []string{srcVideo, srcAudio, srcTS, srcKeys, dvrVideo, dvrAudio}
	in := inspect(t, o, paths...)
	for _, path := range paths {
		in.lists(path, "\n1-6.")
	}
	for n := range 3 {
		in.pace(b.JS, 33, p)
		p = &media.Publisher{Clip: clip, Key: key, Epoch: p.Epoch + 1, DSeq: uint32(n + 1), FirstMSN: p.NextMSN(),
			Start: media5.Add(time.Duration(n+1) * time.Minute), Discontinuity: true}
		if err := p.Announce(t.Context(), b.JS); err != nil {
			t.Fatal(err)
		}
	}
	in.pace(b.JS, 33, p)
	if err := p.End(t.Context(), b.JS); err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		in.lists(path, fmt.Sprintf("\n4-%d.", p.NextMSN()-1))
	}
	in.look()
	in.settled()
	if d := in.whole[srcVideo].Last().DiscontinuitySeq; d == 0 || in.skips == 0 {
		t.Errorf("discontinuity sequence %d, %d delta updates left segments out", d, in.skips)
	}
	if d := strings.Count(in.seen[dvrVideo], "#EXT-X-DISCONTINUITY\n"); d != 3 {
		t.Errorf("the playlist that reaches back has %d discontinuities\n%s", d, in.seen[dvrVideo])
	}
	t.Logf("versions: %v, delta updates: %d", in.versions, in.skips)
}

// A ladder: each rendition's playlists keep the rules and report of each other;
// the MPD has all renditions, also where it reaches back, and none that has ended.
func TestLadder(t *testing.T) {
	t.Parallel()
	clip := media.Load(t)
	b := bustest.Start(t)
	objects := shelfOf(t)
	bustest.Put(t, b.JS, schemas.BucketApps, key.App, schemas.AppSettings{DVRSec: 120})
	record(t, b.JS, objects)
	o := run(t, b.JS, func(o *Origin) { o.Store = objects })
	src := &media.Publisher{Clip: clip, Key: key, FirstMSN: 5, Start: media5, Clock: schemas.ClockCapture}
	if err := src.Announce(t.Context(), b.JS); err != nil {
		t.Fatal(err)
	}
	mid, low := rendition(t, b.JS, clip, "360p", true), rendition(t, b.JS, clip, "144p", true)
	mid.Clock, low.Clock = schemas.ClockCapture, schemas.ClockCapture
	for _, p := range []*media.Publisher{src, mid, low} {
		push(t, p, b.JS, 32)
	}
	paths := []string{srcVideo, srcAudio, "360p/video/playlist.m3u8", "144p/video/playlist.m3u8", "360p/video/iframes.m3u8"}
	in := inspect(t, o, paths...)
	for _, path := range paths {
		in.lists(path, "\n1-6.")
	}
	in.pace(b.JS, 79, src, mid, low)
	const last = 5 + (32+79-1)/10 // which has one part
	for _, path := range paths {
		in.lists(path, fmt.Sprintf("1-%d.", last-1))
	}
	for _, path := range []string{paths[0], paths[2], paths[3]} {
		in.lists(path, fmt.Sprintf("TYPE=PART,URI=\"1-%d.1.m4s\"", last))
	}
	in.settled()

	// The picture's representations, and the MPD's bytes.
	pictures := func() (string, mpd, string) {
		m, text := getMPD(t, o)
		var ids []string
		for _, r := range m.Periods[0].Sets[0].Representations {
			ids = append(ids, r.ID)
			if a := get(t, o.url+"/live/one/"+strings.Replace(r.Template.Media, "$Number$", "12", 1)); a.code != 200 || r.Template.StartNumber != 5 {
				t.Errorf("%s: segment 12 is answered %d, the first is %d", r.ID, a.code, r.Template.StartNumber)
			}
			if a := get(t, o.url+"/live/one/"+r.Template.Init); a.code != 200 {
				t.Errorf("%s: %d", r.Template.Init, a.code)
			}
		}
		return strings.Join(ids, " "), m, string(text)
	}
	await.True(t, "segment 5 is recorded", func() bool { return recordedVideo(t, objects) > 5 })
	ids, m, text := pictures()
	if ids != "src-video 144p-video 360p-video" || len(m.Periods) != 1 || len(m.Periods[0].Sets) != 2 || len(m.Periods[0].Sets[1].Representations) != 1 {
		t.Errorf("the MPD has %s\n%s", ids, text)
	}
	// The clock is the publisher's, so its pictures' times are those of capture.
	if n := strings.Count(text, `type="captured"`); n != 2 || strings.Count(text, `inband="true"`) != 2 {
		t.Errorf("%d references of capture\n%s", n, text)
	}
	if !strings.Contains(text, ` timeShiftBufferDepth="PT2`) {
		t.Errorf("22 s are recorded\n%s", text)
	}
	putRendition(t, b.JS, low, false)
	await.True(t, "the rendition that ended is left out", func() bool {
		ids, _, _ := pictures()
		return ids == "src-video 360p-video"
	})
	// Of a stream that is not live any more the rendition's past can be had.
	if err := src.PutState(t.Context(), b.JS, true); err != nil {
		t.Fatal(err)
	}
	// The origin believes for half a second what it was told before.
	await.True(t, "the playlist of a rendition that ended is gone", func() bool {
		return get(t, o.url+"/live/one/144p/video/playlist.m3u8").code == 404
	})
	// A playlist keeps its reports until it gets longer.
	push(t, src, b.JS, 1)
	in.lists(srcVideo, fmt.Sprintf("TYPE=PART,URI=\"1-%d.2.m4s\"", last))
	if a := get(t, o.url+"/live/one/"+srcVideo); strings.Contains(string(a.body), "144p") || !strings.Contains(string(a.body), "360p") {
		t.Errorf("reports after a rendition has ended:\n%s", a.body)
	}
}
