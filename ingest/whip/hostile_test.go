package whip_test

import (
	"crypto/rand"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"

	"github.com/spillway-live/spillway/ingest/publish/publishtest"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
)

// TestHostile: datagrams of rubbish, broken offers and publishers of noise harm nobody else, and
// the latter are told why they are cut off.
func TestHostile(t *testing.T) {
	t.Parallel()
	e := start(t, nil)
	clip, tone := pictures(t, "320x180", "6"), sound(t, "6")
	good := newPeer(t, webrtc.MimeTypeH264)
	resp, answer := e.request("POST", e.srv.URL()+"live/demo", "application/sdp", "", good.offer())
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("%s: %s", resp.Status, answer)
	}
	session, err := resp.Location()
	if err != nil {
		t.Fatal(err)
	}
	good.connect(answer)
	sent := make(chan int, 1)
	go func() { sent <- good.send(clip, tone) }()
	rubbish(t, mediaAddr(t, answer))
	cut := map[string]*peer{}
	for stream, nal := range map[string][]byte{
		"broken": {0x18, 0xff, 0xff, 1, 2, 3},           // an aggregate longer than its packet
		"empty":  {0x41, 1, 2, 3},                       // never a key frame
		"lies":   {0x67, 0xff, 0xff, 0xff, 0xff, 0, 80}, // parameter sets that are none
	} {
		p := newPeer(t, webrtc.MimeTypeH264)
		resp, answer := e.request("POST", e.srv.URL()+"live/"+stream, "application/sdp", "", p.offer())
		if resp.StatusCode != http.StatusCreated {
			t.Fatalf("%s: %s", resp.Status, answer)
		}
		p.connect(answer)
		cut[stream] = p
		go p.repeat(nal)
	}
	offers := make([]byte, 1<<12)
	for range 50 {
		_, _ = rand.Read(offers)
		if resp, _ := e.request("POST", e.srv.URL()+"live/offers", "application/sdp", "", string(offers)); resp.StatusCode != http.StatusNotAcceptable {
			t.Errorf("an offer of noise: %s", resp.Status)
		}
	}
	want := <-sent / 2
	e.request("DELETE", session.String(), "", "", "")
	for stream := range cut {
		await.True(t, stream+" is cut off with a reason", func() bool {
			for _, v := range publishtest.Events(t, e.bus.JS, schemas.EventPublishRefused) {
				if v.Stream == stream && v.Reason != "" && v.Detail["code"] != "panic" {
					return true
				}
			}
			return false
		})
	}
	publishtest.WaitEnd(t, e.bus.JS, demo)
	r := publishtest.Record(t, e.bus.JS, demo)
	if len(r.Opens) != 1 || r.Ends != 1 {
		t.Fatalf("%d epochs, %d ends of the good one", len(r.Opens), r.Ends)
	}
	if n := r.Decode(t, r.Opens[0])[schemas.Video]; n < want {
		t.Errorf("%d pictures of the good one, want at least %d", n, want)
	}
	if strings.Contains(e.log.String(), "panicked") {
		t.Error("something panicked")
	}
}

// repeat sends the same NAL unit as every picture until the peer is closed.
func (p *peer) repeat(nal []byte) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if p.pc.ConnectionState() == webrtc.PeerConnectionStateClosed {
			return
		}
		_ = p.video.WriteSample(media.Sample{Data: append([]byte{0, 0, 0, 1}, nal...), Duration: 10 * time.Millisecond})
	}
}

// mediaAddr is where an answer takes media over UDP on this machine.
func mediaAddr(t *testing.T, answer string) string {
	t.Helper()
	for l := range strings.Lines(answer) {
		// a=candidate:<foundation> <component> udp <priority> <address> <port> ...
		if f := strings.Fields(l); strings.HasPrefix(l, "a=candidate:") && len(f) > 5 && f[2] == "udp" && f[4] == "127.0.0.1" {
			return net.JoinHostPort(f[4], f[5])
		}
	}
	t.Fatalf("no candidate in %s", answer)
	return ""
}

// rubbish sends datagrams of any content to the media port: as STUN, DTLS, RTP and RTCP by their first byte.
func rubbish(t *testing.T, addr string) {
	t.Helper()
	raw, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	for i := range 2000 {
		b := make([]byte, 1+i%300)
		_, _ = rand.Read(b)
		b[0] = []byte{0, 1, 20, 22, 23, 128, 129, 255}[i%8]
		if len(b) >= 8 && i%8 < 2 { // STUN's cookie
			copy(b[4:8], []byte{0x21, 0x12, 0xa4, 0x42})
		}
		_, _ = raw.Write(b)
	}
}
