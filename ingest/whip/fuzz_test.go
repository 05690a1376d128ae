package whip

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/pion/rtp"

	"github.com/spillway-live/spillway/ingest/cut"
	"github.com/spillway-live/spillway/ingest/publish"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
)

const smallOffer = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 102\r\na=rtpmap:102 H264/90000\r\na=fmtp:102 packetization-mode=1\r\na=sendonly\r\n"

func TestCheckOffer(t *testing.T) {
	has, err := checkOffer([]byte(smallOffer))
	if err != nil || !has.video || has.audio {
		t.Errorf("%+v, %v", has, err)
	}
}

func FuzzOffer(f *testing.F) {
	f.Add([]byte(smallOffer))
	f.Add([]byte("v=0\r\nm=audio 9 RTP/AVP 0\r\na=rtpmap\r\na=fmtp:\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		has, err := checkOffer(b)
		if err == nil && !has.video && !has.audio {
			t.Error("an offer without anything is taken")
		}
	})
}

// FuzzHTTP gives requests of all kinds to the handler; whoever needs a key is refused.
func FuzzHTTP(f *testing.F) {
	f.Add("POST", "/whip/live/demo", "application/sdp", "Bearer x", []byte(smallOffer))
	f.Add("DELETE", "/whip/live/demo/1", "", "", []byte(nil))
	f.Add("PATCH", "/whip/a/b?key=%zz", "application/sdp; a=", "bearer", []byte("x"))
	bus := bustest.Start(f)
	p, err := publish.New(f.Context(), publish.Settings{JetStream: bus.JS})
	if err != nil {
		f.Fatal(err)
	}
	s, err := New(Settings{Publish: p})
	if err != nil {
		f.Fatal(err)
	}
	s.life = f.Context()
	f.Fuzz(func(t *testing.T, method, path, typ, auth string, body []byte) {
		r, err := http.NewRequest(method, "http://x", bytes.NewReader(body))
		if err != nil {
			return
		}
		r.URL.Path, r.RemoteAddr = path, "192.0.2.1:1"
		r.Header.Set("Content-Type", typ)
		r.Header.Set("Authorization", auth)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code == http.StatusCreated || w.Code == http.StatusInternalServerError {
			t.Errorf("%s %s: %d %s", method, path, w.Code, w.Body)
		}
	})
}

// FuzzVideo gives packets of any payload to the depacketiser: frames are whole access units, and
// after a loss none comes before a key frame.
func FuzzVideo(f *testing.F) {
	f.Add([]byte{5, 0x67, 1, 2, 3, 4, 4, 0x68, 1, 2, 3, 3, 0x65, 0x88, 1}, uint8(0))
	f.Add([]byte{9, 0x78, 0, 2, 0x67, 1, 0, 2, 0x68, 1, 3, 0x7c, 0x85, 0, 3, 0x7c, 0x45, 1}, uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, lost uint8) {
		v := newVideo()
		for i := uint16(0); len(b) > 0; i++ {
			n := min(int(b[0]), len(b)-1)
			payload := b[1 : 1+n]
			b = b[1+n:]
			if len(payload) == 0 {
				continue
			}
			o := ordered{pkt: &rtp.Packet{Header: rtp.Header{SequenceNumber: i, Marker: i%3 == 2}, Payload: bytes.Clone(payload)}}
			if lost > 0 && i%uint16(lost) == 0 {
				o.missing = 1
			}
			was := v.keyNeeded
			var h held
			ok, err := v.packet(o, &h)
			if ok && (err != nil || (was || o.missing > 0) && !h.frame.Key || len(h.frame.Data) == 0) {
				t.Fatalf("frame %+v, %v", h.frame, err)
			}
			if ok {
				if _, err := cut.ParseVideo(cut.H264, h.frame.Data, 4); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// TestReorder: packets come out in order, each once, and a gap is told.
func TestReorder(t *testing.T) {
	var r reorder
	now := time.Unix(1_800_000_000, 0)
	put := func(n uint16) []ordered {
		now = now.Add(10 * time.Millisecond)
		return r.put(&rtp.Packet{Header: rtp.Header{SequenceNumber: n}}, now)
	}
	check := func(what string, got []ordered, want ...int) {
		t.Helper()
		var have []int
		for _, o := range got {
			have = append(have, int(o.pkt.SequenceNumber))
		}
		if len(have) != len(want) {
			t.Fatalf("%s: %v, want %v", what, have, want)
		}
		for i := range want {
			if have[i] != want[i] {
				t.Fatalf("%s: %v, want %v", what, have, want)
			}
		}
	}
	check("first", put(65534), 65534)
	check("early", put(0))
	check("repeated", put(65534))
	check("the missing one", put(65535), 65535, 0)
	check("early", put(3))
	check("early", put(5))
	now = now.Add(patience)
	got := r.expire(now)
	check("given up", got, 3, 5)
	if got[0].missing != 2 || got[1].missing != 1 {
		t.Errorf("missing %d and %d", got[0].missing, got[1].missing)
	}
	check("too late", put(2))
	check("a new beginning", put(30000), 30000)
}
