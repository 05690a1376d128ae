package whip_test

import (
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/pion/webrtc/v4"

	"github.com/spillway-live/spillway/ingest/publish"
	"github.com/spillway-live/spillway/ingest/publish/publishtest"
	"github.com/spillway-live/spillway/ingest/whip"
	"github.com/spillway-live/spillway/schemas"
)

// lossy is a publisher's socket that loses every n-th packet of media it sends, also of those sent again.
type lossy struct {
	net.PacketConn
	every      int64
	sent, lost atomic.Int64
}

func (l *lossy) WriteTo(b []byte, to net.Addr) (int, error) {
	// RTP, not STUN, DTLS or RTCP (RFC 7983 section 7, RFC 5761 section 4).
	if len(b) > 12 && b[0]>>6 == 2 && (b[1] < 192 || b[1] > 223) && l.sent.Add(1)%l.every == 0 {
		l.lost.Add(1)
		return len(b), nil
	}
	return l.PacketConn.WriteTo(b, to)
}

// stay publishes three seconds and gives the pictures sent and what is on the bus.
func (p *peer) stay(e *env) (sent int, r *publishtest.Recording) {
	p.t.Helper()
	clip, tone := pictures(p.t, "320x180", "3"), sound(p.t, "3")
	resp, answer := e.request("POST", e.srv.URL()+"live/demo", "application/sdp", "", p.offer())
	if resp.StatusCode != http.StatusCreated {
		p.t.Fatalf("%s: %s", resp.Status, answer)
	}
	session, err := resp.Location()
	if err != nil {
		p.t.Fatal(err)
	}
	p.connect(answer)
	sent = p.send(clip, tone)
	if resp, body := e.request("DELETE", session.String(), "", "", ""); resp.StatusCode != http.StatusOK {
		p.t.Errorf("DELETE: %s: %s", resp.Status, body)
	}
	publishtest.WaitEnd(p.t, e.bus.JS, demo)
	r = publishtest.Record(p.t, e.bus.JS, demo)
	if len(r.Opens) != 1 || len(r.Opens[0].Tracks) != 2 {
		p.t.Fatalf("epochs %+v", r.Opens)
	}
	return sent, r
}

// TestLossIsRepaired: packets that are lost on the way are asked for again (RFC 4585, generic NACK).
func TestLossIsRepaired(t *testing.T) {
	t.Parallel()
	e := start(t, nil)
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	l := &lossy{PacketConn: udp, every: 15}
	p := newPeer(t, webrtc.MimeTypeH264, func(s *webrtc.SettingEngine) { s.SetICEUDPMux(webrtc.NewICEUDPMux(nil, l)) })
	sent, r := p.stay(e)
	lost, missed := l.lost.Load(), e.counter("spillway_whip_packets_lost_total")
	if lost < 10 || missed > float64(lost)/2 {
		t.Errorf("%d packets were lost on the way, %v of them never came", lost, missed)
	}
	if n := r.Decode(t, r.Opens[0])[schemas.Video]; missed == 0 && n < sent/2 {
		t.Errorf("%d pictures of %d", n, sent)
	}
}

// TestTCP: a publisher whose UDP is blocked.
func TestTCP(t *testing.T) {
	t.Parallel()
	e := start(t, func(s *whip.Settings, _ *publish.Settings) { s.TCP = "127.0.0.1:0" })
	p := newPeer(t, webrtc.MimeTypeH264, func(s *webrtc.SettingEngine) { s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeTCP4}) })
	var way atomic.Pointer[webrtc.ICECandidatePair]
	p.pc.GetSenders()[0].Transport().ICETransport().OnSelectedCandidatePairChange(func(c *webrtc.ICECandidatePair) { way.Store(c) })
	sent, r := p.stay(e)
	if c := way.Load(); c == nil || c.Local.Protocol != webrtc.ICEProtocolTCP {
		t.Errorf("media went by %v", c)
	}
	if n := r.Decode(t, r.Opens[0]); n[schemas.Video] < sent/2 || n[schemas.Audio] == 0 {
		t.Errorf("%v frames of %d pictures", n, sent)
	}
}
