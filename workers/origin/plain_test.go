package origin

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/bluenviron/gohlslib/v2/pkg/playlist"
	"github.com/bluenviron/mediacommon/v2/pkg/formats/fmp4"
	"github.com/bluenviron/mediacommon/v2/pkg/formats/fmp4/seekablebuffer"
	"github.com/bluenviron/mediacommon/v2/pkg/formats/mp4/codecs"

	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

// decodes lets ffmpeg decode b and requires that it says nothing; it gives the number of pictures.
func decodes(t *testing.T, format string, b []byte) (pictures int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "ffmpeg", "-hide_banner", "-v", "warning", "-xerror", "-f", format, "-i", "-", "-f", "rawvideo", "-pix_fmt", "gray", "-s", "32x32", "-fps_mode", "passthrough", "-")
	cmd.Stdin = bytes.NewReader(b)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil || log.Len() > 0 {
		t.Errorf("ffmpeg: %v\n%s", err, log.Bytes())
	}
	return out.Len() / 1024
}

func mediaPlaylist(t *testing.T, a answer) *playlist.Media {
	t.Helper()
	if a.code != 200 {
		t.Fatalf("%d %s", a.code, a.body)
	}
	p, err := playlist.Unmarshal(a.body)
	if err != nil {
		t.Fatalf("%v\n%s", err, a.body)
	}
	m, ok := p.(*playlist.Media)
	if !ok {
		t.Fatalf("no media playlist:\n%s", a.body)
	}
	return m
}

// MPEG-TS of one stream, made at two origins, is one stream, across a reconnect too.
func TestTS(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	o1, o2 := run(t, b.JS), run(t, b.JS)
	pack(t, b.JS)
	clip := media.Load(t)
	p := publisher(t, clip, b.JS)
	push(t, p, b.JS, 45)
	if err := p.End(t.Context(), b.JS); err != nil {
		t.Fatal(err)
	}
	p2 := &media.Publisher{Clip: clip, Key: key, Epoch: 2, DSeq: 1, FirstMSN: p.NextMSN(), Start: p.Start.Add(12e9), Discontinuity: true}
	if err := p2.Announce(t.Context(), b.JS); err != nil {
		t.Fatal(err)
	}
	push(t, p2, b.JS, 25)
	for _, o := range []*testOrigin{o1, o2} {
		get(t, o.url+videoPath+"playlist.m3u8?_HLS_msn=12&_HLS_part=3")
		get(t, o.url+audioPath+"playlist.m3u8?_HLS_msn=11")
	}
	if a := get(t, o1.url+"/live/one/ts.m3u8"); a.code != 200 || !strings.Contains(string(a.body), "\nsrc/ts/playlist.m3u8\n") || strings.Contains(string(a.body), "TYPE=AUDIO") {
		t.Errorf("multivariant: %d %s", a.code, a.body)
	}
	const path = "/live/one/src/ts/"
	text := get(t, o1.url+path+"playlist.m3u8")
	m := mediaPlaylist(t, text)
	if m.Version != 3 || m.MediaSequence != 5 || len(m.Segments) < 6 || !strings.Contains(string(text.body), "#EXT-X-DISCONTINUITY\n") {
		t.Fatalf("%s", text.body)
	}
	if other := get(t, o2.url+path+"playlist.m3u8"); !bytes.Equal(other.body, text.body) {
		t.Errorf("the origins differ:\n%s\n%s", text.body, other.body)
	}
	var epochs [3]bytes.Buffer
	for _, s := range m.Segments {
		if s.DateTime == nil {
			t.Errorf("%s has no time", s.URI)
		}
		x, y := get(t, o1.url+path+s.URI), get(t, o2.url+path+s.URI)
		if x.code != 200 || !bytes.Equal(x.body, y.body) || x.header.Get("Content-Type") != "video/mp2t" || x.header.Get("Etag") != y.header.Get("Etag") {
			t.Fatalf("%s: %d with %d bytes, %d with %d, %s", s.URI, x.code, len(x.body), y.code, len(y.body), x.header)
		}
		epochs[s.URI[0]-'0'].Write(x.body)
	}
	for epoch, want := range map[int]int{1: 270, 2: 120} {
		if n := decodes(t, "mpegts", epochs[epoch].Bytes()); n != want {
			t.Errorf("epoch %d: %d pictures, not %d", epoch, n, want)
		}
	}
	for _, bad := range []string{"1-4.ts", "1-05.ts", "3-9.ts", "1-5.m4s", "1-5.1.ts", "init-" + strings.Repeat("0", 32) + ".mp4"} {
		if a := get(t, o1.url+path+bad); a.code != 404 {
			t.Errorf("%s: %d", bad, a.code)
		}
	}
}

func TestIFrames(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	o := run(t, b.JS)
	pack(t, b.JS)
	clip := media.Load(t)
	p := publisher(t, clip, b.JS)
	push(t, p, b.JS, 45)
	get(t, o.url+videoPath+"playlist.m3u8?_HLS_msn=9&_HLS_part=3")
	a := get(t, o.url+videoPath+"iframes.m3u8")
	m := mediaPlaylist(t, a)
	if len(m.Segments) != 4 || !strings.Contains(string(a.body), "#EXT-X-I-FRAMES-ONLY\n") || m.Map == nil {
		t.Fatalf("%s", a.body)
	}
	all := append([]byte(nil), get(t, o.url+videoPath+m.Map.URI).body...)
	for _, s := range m.Segments {
		x := get(t, o.url+videoPath+s.URI)
		if x.code != 200 || x.header.Get("Content-Type") != "video/mp4" {
			t.Fatalf("%s: %d", s.URI, x.code)
		}
		if whole := get(t, o.url+videoPath+strings.Replace(s.URI, ".key", "", 1)); len(x.body) >= len(whole.body)/2 {
			t.Errorf("%s has %d bytes, its segment %d", s.URI, len(x.body), len(whole.body))
		}
		all = append(all, x.body...)
	}
	if n := decodes(t, "mp4", all); n != 4 {
		t.Errorf("%d pictures of 4 segments", n)
	}
	if a := get(t, o.url+audioPath+"iframes.m3u8"); a.code != 404 {
		t.Errorf("sound has key frames: %d", a.code)
	}
}

// A stream that is not there has no format.
func TestFormatsOfUnknownStreams(t *testing.T) {
	t.Parallel()
	o := run(t, bustest.Start(t).JS)
	for _, path := range []string{"/live/none/ts.m3u8", "/live/none/src/ts/playlist.m3u8", "/live/none/src/ts/1-1.ts", "/live/none/manifest.mpd"} {
		if a := get(t, o.url+path); a.code != 404 {
			t.Errorf("%s: %d %s", path, a.code, a.body)
		}
	}
}

// What MPEG-TS cannot carry is refused with the reason, and what to play instead.
func TestTSOfOtherCodecsIsRefused(t *testing.T) {
	t.Parallel()
	for name, codec := range map[string]codecs.Codec{
		"av01": &codecs.AV1{SequenceHeader: []byte{8, 0, 0, 0, 66, 167, 191, 228, 96, 13, 0, 64}},
		"opus": &codecs.Opus{ChannelCount: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := bustest.Start(t)
			o := run(t, b.JS)
			var init seekablebuffer.Buffer
			if err := (&fmp4.Init{Tracks: []*fmp4.InitTrack{{ID: 1, TimeScale: 1000, Codec: codec}}}).Marshal(&init); err != nil {
				t.Fatal(err)
			}
			last := newFatOf(t, b.JS, 1000, init.Bytes()).push(3)
			await.True(t, "the stream is served", func() bool { return get(t, o.url+videoPath+fmt.Sprintf("1-%d.m4s", last)).code == 200 })
			for _, path := range []string{"playlist.m3u8", fmt.Sprintf("1-%d.ts", last-1)} {
				a := get(t, o.url+"/live/one/src/ts/"+path)
				if text := strings.ToLower(string(a.body)); a.code != 404 || !strings.Contains(text, name) || !strings.Contains(text, "play its ll-hls") {
					t.Errorf("%s: %d %s", path, a.code, a.body)
				}
			}
		})
	}
}
