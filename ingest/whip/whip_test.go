package whip_test

import (
	"bytes"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"
	"github.com/pion/webrtc/v4/pkg/media/h264reader"
	"github.com/pion/webrtc/v4/pkg/media/oggreader"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/ingest/publish"
	"github.com/spillway-live/spillway/ingest/publish/publishtest"
	"github.com/spillway-live/spillway/ingest/whip"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/running"
)

var demo = schemas.StreamKey{App: "live", Stream: "demo"}

// env is a server on a real bus.
type env struct {
	t    *testing.T
	bus  *bustest.Bus
	srv  *whip.Server
	keys *token.Signer
	log  *running.Log
	reg  *prometheus.Registry
}

// counter is a metric without labels.
func (e *env) counter(name string) float64 {
	e.t.Helper()
	return running.Sum(e.t, e.reg, name)
}

func start(t *testing.T, change func(*whip.Settings, *publish.Settings)) *env {
	t.Helper()
	e := &env{t: t, bus: bustest.Start(t), log: running.NewLog(t), reg: prometheus.NewRegistry()}
	var err error
	if e.keys, err = token.NewSigner([]byte("0123456789abcdef0123456789abcdef")); err != nil {
		t.Fatal(err)
	}
	logger, reg := e.log.Logger(), e.reg
	ps := publish.Settings{JetStream: e.bus.JS, Auth: publish.Auth{Keys: e.keys, OpenLoopback: true}, Logger: logger, Registerer: reg}
	s := whip.Settings{Listen: "127.0.0.1:0", UDP: "127.0.0.1:0", Logger: logger, Registerer: reg}
	if change != nil {
		change(&s, &ps)
	}
	if s.Publish, err = publish.New(t.Context(), ps); err != nil {
		t.Fatal(err)
	}
	if e.srv, err = whip.New(s); err != nil {
		t.Fatal(err)
	}
	running.Start(t, s.Publish.Run, e.srv.Run).Ready(e.srv.Ready())
	return e
}

// request makes an HTTP request and reads the answer.
func (e *env) request(method, url, contentType, key, body string) (*http.Response, string) {
	e.t.Helper()
	r, err := http.NewRequestWithContext(e.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		e.t.Fatal(err)
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		e.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		e.t.Fatal(err)
	}
	return resp, string(b)
}

// encoded is what ffmpeg makes for a pion publisher: constrained baseline and 20 ms Opus.
func encoded(t *testing.T, args ...string) []byte {
	t.Helper()
	b, err := exec.Command("ffmpeg", append([]string{"-hide_banner", "-loglevel", "error"}, args...)...).Output()
	if err != nil {
		t.Fatalf("ffmpeg: %v", err)
	}
	return b
}

// pictures encodes video. Do it before a peer connects: one that sends nothing for ten seconds is cut off.
func pictures(t *testing.T, size string, seconds string) []byte {
	return encoded(t, "-f", "lavfi", "-i", "testsrc=size="+size+":rate=25", "-t", seconds, "-c:v", "libx264", "-preset", "ultrafast", "-profile:v", "baseline",
		"-pix_fmt", "yuv420p", "-g", "25", "-bf", "0", "-threads", "1", "-f", "h264", "-")
}

func sound(t *testing.T, seconds string) []byte {
	return encoded(t, "-f", "lavfi", "-i", "sine=sample_rate=48000", "-t", seconds, "-c:a", "libopus", "-ac", "2", "-page_duration", "20000", "-f", "ogg", "-")
}

// peer is a pion publisher.
type peer struct {
	t            *testing.T
	pc           *webrtc.PeerConnection
	video, audio *webrtc.TrackLocalStaticSample
}

func newPeer(t *testing.T, videoType string, change ...func(*webrtc.SettingEngine)) *peer {
	t.Helper()
	p := &peer{t: t}
	var e webrtc.SettingEngine
	e.SetIncludeLoopbackCandidate(true)
	for _, f := range change {
		f(&e)
	}
	var m webrtc.MediaEngine
	if err := m.RegisterDefaultCodecs(); err != nil {
		t.Fatal(err)
	}
	m.RegisterFeedback(webrtc.RTCPFeedback{Type: webrtc.TypeRTCPFBNACK}, webrtc.RTPCodecTypeAudio)
	var err error
	if p.pc, err = webrtc.NewAPI(webrtc.WithSettingEngine(e), webrtc.WithMediaEngine(&m)).NewPeerConnection(webrtc.Configuration{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.pc.Close() })
	if p.video, err = webrtc.NewTrackLocalStaticSample(webrtc.RTPCodecCapability{MimeType: videoType}, "video", "s"); err != nil {
		t.Fatal(err)
	}
	if p.audio, err = webrtc.NewTrackLocalStaticSample(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus}, "audio", "s"); err != nil {
		t.Fatal(err)
	}
	for _, track := range []webrtc.TrackLocal{p.video, p.audio} {
		tr, err := p.pc.AddTransceiverFromTrack(track, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
		if err != nil {
			t.Fatal(err)
		}
		go func() { // reports are answered while they are read
			for {
				if _, _, err := tr.Sender().ReadRTCP(); err != nil {
					return
				}
			}
		}()
	}
	return p
}

func (p *peer) offer() string {
	p.t.Helper()
	o, err := p.pc.CreateOffer(nil)
	if err != nil {
		p.t.Fatal(err)
	}
	done := webrtc.GatheringCompletePromise(p.pc)
	if err := p.pc.SetLocalDescription(o); err != nil {
		p.t.Fatal(err)
	}
	<-done
	return p.pc.LocalDescription().SDP
}

func (p *peer) connect(answer string) {
	p.t.Helper()
	connected := make(chan struct{})
	p.pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateConnected {
			close(connected)
		}
	})
	if err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-connected:
	case <-time.After(await.Limit):
		p.t.Fatal("no connection")
	}
}

// send plays H.264 and Ogg Opus in real time.
func (p *peer) send(h264, ogg []byte) (frames int) {
	p.t.Helper()
	var g errgroup.Group
	g.Go(func() error {
		r, err := h264reader.NewReader(bytes.NewReader(h264))
		if err != nil {
			return err
		}
		tick := time.NewTicker(40 * time.Millisecond)
		defer tick.Stop()
		for {
			n, err := r.NextNAL()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			d := time.Duration(0)
			if n.UnitType == h264reader.NalUnitTypeCodedSliceIdr || n.UnitType == h264reader.NalUnitTypeCodedSliceNonIdr {
				d = 40 * time.Millisecond
				frames++
			}
			if err := p.video.WriteSample(media.Sample{Data: n.Data, Duration: d}); err != nil {
				return err
			}
			if d > 0 {
				<-tick.C
			}
		}
	})
	g.Go(func() error {
		r, _, err := oggreader.NewWith(bytes.NewReader(ogg))
		if err != nil {
			return err
		}
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			b, h, err := r.ParseNextPage()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			if bytes.HasPrefix(b, []byte("OpusTags")) || h.GranulePosition == 0 {
				continue
			}
			if err := p.audio.WriteSample(media.Sample{Data: b, Duration: 20 * time.Millisecond}); err != nil {
				return err
			}
			<-tick.C
		}
	})
	if err := g.Wait(); err != nil {
		p.t.Error(err)
	}
	return frames
}

// TestPublish goes the whole way: H.264 of ffmpeg and Opus by WebRTC, chunks, ffmpeg.
func TestPublish(t *testing.T) {
	t.Parallel()
	e := start(t, func(_ *whip.Settings, p *publish.Settings) { p.Auth.OpenLoopback = false })
	key, err := e.keys.SignPublish(token.Publish{App: "live", Stream: "demo", ExpiresUnix: time.Now().Add(time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	clip, tone := pictures(t, "320x180", "5"), sound(t, "5")
	p := newPeer(t, webrtc.MimeTypeH264)
	resp, answer := e.request("POST", e.srv.URL()+"live/demo?cdn=b", "application/sdp", key, p.offer())
	if resp.StatusCode != http.StatusCreated || resp.Header.Get("Content-Type") != "application/sdp" {
		t.Fatalf("%s: %s", resp.Status, answer)
	}
	session, err := resp.Location()
	if err != nil {
		t.Fatal(err)
	}
	if resp, _ := e.request("PATCH", session.String(), "application/trickle-ice-sdpfrag", "", "a=end-of-candidates"); resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("PATCH: %s", resp.Status)
	}
	p.connect(answer)
	sent := p.send(clip, tone)
	if resp, body := e.request("DELETE", session.String(), "", "", ""); resp.StatusCode != http.StatusOK {
		t.Errorf("DELETE: %s: %s", resp.Status, body)
	}
	publishtest.WaitEnd(t, e.bus.JS, demo)
	r := publishtest.Record(t, e.bus.JS, demo)
	if len(r.Opens) != 1 || r.Ends != 1 || r.Opens[0].CDN != "b" || r.Opens[0].Protocol != "whip" || len(r.Opens[0].Tracks) != 2 {
		t.Fatalf("%d ends, %+v", r.Ends, r.Opens)
	}
	frames := r.Decode(t, r.Opens[0])
	if n := frames[schemas.Video]; n < sent/2 || n > sent {
		t.Errorf("%d pictures of %d", n, sent)
	}
	if n := frames[schemas.Audio]; n < 125 || n > 252 {
		t.Errorf("%d sounds, want about 250", n)
	}
	if resp, _ := e.request("DELETE", session.String(), "", "", ""); resp.StatusCode != http.StatusNotFound {
		t.Errorf("second DELETE: %s", resp.Status)
	}
}

// TestResolutionChange: other pictures come in a new epoch.
func TestResolutionChange(t *testing.T) {
	t.Parallel()
	clip, tone := append(pictures(t, "320x180", "3"), pictures(t, "160x90", "3")...), sound(t, "6")
	e := start(t, nil)
	p := newPeer(t, webrtc.MimeTypeH264)
	resp, answer := e.request("POST", e.srv.URL()+"live/demo", "application/sdp", "", p.offer())
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("%s: %s", resp.Status, answer)
	}
	p.connect(answer)
	p.send(clip, tone)
	session, _ := resp.Location()
	e.request("DELETE", session.String(), "", "", "")
	publishtest.WaitEnd(t, e.bus.JS, demo)
	r := publishtest.Record(t, e.bus.JS, demo)
	if len(r.Opens) != 2 || r.Opens[0].Tracks[0].Width != 320 || r.Opens[1].Tracks[0].Width != 160 {
		t.Fatalf("epochs %+v", r.Opens)
	}
	for _, o := range r.Opens {
		r.Decode(t, o)
	}
}

func TestRefusals(t *testing.T) {
	e := start(t, func(s *whip.Settings, p *publish.Settings) { p.Auth.OpenLoopback = false; s.MaxSessionsPerPeer = 1 })
	good := newPeer(t, webrtc.MimeTypeH264).offer()
	vp8 := func() string { // an offer of VP8 alone
		var m webrtc.MediaEngine
		if err := m.RegisterCodec(webrtc.RTPCodecParameters{PayloadType: 96, RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000}}, webrtc.RTPCodecTypeVideo); err != nil {
			t.Fatal(err)
		}
		pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(&m)).NewPeerConnection(webrtc.Configuration{})
		if err != nil {
			t.Fatal(err)
		}
		defer pc.Close()
		if _, err := pc.AddTransceiverFromKind(webrtc.RTPCodecTypeVideo); err != nil {
			t.Fatal(err)
		}
		o, err := pc.CreateOffer(nil)
		if err != nil {
			t.Fatal(err)
		}
		return o.SDP
	}()
	at := e.srv.URL() + "live/demo"
	for name, c := range map[string]struct {
		method, url, typ, key, body string
		status                      int
		want                        string
	}{
		"no key":       {"POST", at, "application/sdp", "", good, 401, "publish key is missing"},
		"wrong key":    {"POST", at, "application/sdp", "x", good, 401, "publish key"},
		"type":         {"POST", at, "text/plain", "", good, 415, "application/sdp"},
		"large":        {"POST", at, "application/sdp", "", strings.Repeat("a", 70<<10), 413, "too large"},
		"not sdp":      {"POST", at, "application/sdp", "", "hello", 406, "not SDP"},
		"vp8":          {"POST", at, "application/sdp", "", vp8, 406, "VP8"},
		"name":         {"POST", e.srv.URL() + "live/d%20emo", "application/sdp", "", good, 400, "stream"},
		"path":         {"POST", e.srv.URL() + "live", "application/sdp", "", good, 404, "<application>/<stream>"},
		"get":          {"GET", at, "", "", "", 405, "GET"},
		"no session":   {"DELETE", at + "/abc", "", "", "", 404, "no such session"},
		"options":      {"OPTIONS", at, "", "", "", 204, ""},
		"options more": {"OPTIONS", at + "/abc", "", "", "", 204, ""},
	} {
		resp, body := e.request(c.method, c.url, c.typ, c.key, c.body)
		if resp.StatusCode != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%s: %s: %s", name, resp.Status, body)
		}
		if resp.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: no CORS header", name)
		}
	}
	await.True(t, "refusals are told", func() bool {
		return len(publishtest.Events(t, e.bus.JS, schemas.EventPublishRefused)) > 0
	})
}
