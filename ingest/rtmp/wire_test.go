package rtmp_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/bluenviron/gortmplib"
	"github.com/bluenviron/gortmplib/pkg/bytecounter"
	"github.com/bluenviron/gortmplib/pkg/rawmessage"

	"github.com/spillway-live/spillway/schemas"
)

// puppet publishes exactly what a test tells it.
type puppet struct {
	t  *testing.T
	nc net.Conn
	c  *gortmplib.Client
	w  *rawmessage.Writer
}

func (e *env) puppet(path string) *puppet {
	e.t.Helper()
	u, err := url.Parse(e.url(path))
	if err != nil {
		e.t.Fatal(err)
	}
	p := &puppet{t: e.t}
	p.c = &gortmplib.Client{URL: u, Publish: true, DialContext: func(ctx context.Context, n, a string) (net.Conn, error) {
		var err error
		p.nc, err = (&net.Dialer{}).DialContext(ctx, n, a)
		return p.nc, err
	}}
	if err := p.c.Initialize(e.t.Context()); err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { p.nc.Close() })
	p.w = rawmessage.NewWriter(p.nc, bytecounter.NewWriter(p.nc), false)
	p.w.SetChunkSize(65536)
	return p
}

// send writes one message; after a refusal the server may have closed.
func (p *puppet) send(typ uint8, ms uint32, body []byte) {
	id := byte(6)
	if typ == 8 {
		id = 4
	}
	p.w.Write(&rawmessage.Message{ChunkStreamID: id, Timestamp: time.Duration(ms) * time.Millisecond, Type: typ, MessageStreamID: 1, Body: body})
}

var (
	sps360, _ = hex.DecodeString("6742c01eda0280bfe5c05a808080a0000003002000000781e2c5d4")
	pps360, _ = hex.DecodeString("68ce0fc8")
	aacConfig = []byte{0xaf, 0, 0x11, 0x90} // AAC-LC, 48 kHz, stereo
)

func avcConfig(pps []byte) []byte {
	b := []byte{0x17, 0, 0, 0, 0, 1, sps360[1], sps360[2], sps360[3], 0xff, 0xe1, 0, byte(len(sps360))}
	b = append(b, sps360...)
	b = append(b, 1, 0, byte(len(pps)))
	return append(b, pps...)
}

func picture(key bool) []byte {
	if key {
		return []byte{0x17, 1, 0, 0, 0, 0, 0, 0, 4, 0x65, 1, 2, 3}
	}
	return []byte{0x27, 1, 0, 0, 0, 0, 0, 0, 4, 0x41, 1, 2, 3}
}

// av sends seconds of 25 fps video with a key frame each second, and audio.
func (p *puppet) av(startMs uint32, seconds int, audio bool) uint32 {
	for i := range uint32(seconds * 25) {
		p.send(9, startMs+i*40, picture(i%25 == 0))
		if audio {
			p.send(8, startMs+i*40, []byte{0xaf, 1, 1, 2, 3})
			if i%8 != 7 {
				p.send(8, startMs+i*40+21, []byte{0xaf, 1, 1, 2, 3})
			}
		}
	}
	return startMs + uint32(seconds)*1000
}

// answer reads until the server closes.
func (p *puppet) answer() string {
	p.nc.SetReadDeadline(time.Now().Add(15 * time.Second))
	b, err := io.ReadAll(p.nc)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p.t.Error("the server did not close the connection")
	}
	return string(b)
}

func TestParameterChangeOpensEpoch(t *testing.T) {
	e := start(t, schemas.BusSettings{}, nil)
	p := e.puppet("live/demo")
	p.send(8, 0, aacConfig)
	p.send(9, 0, avcConfig(pps360))
	at := p.av(0, 5, true)
	p.send(9, at, avcConfig(pps360)) // the same again changes nothing
	at = p.av(at, 3, true)
	p.send(9, at, avcConfig([]byte{0x68, 0xce, 0x0f, 0xc9}))
	at = p.av(at, 3, true)
	// In band, with the key frame.
	p.send(9, at, append([]byte{0x17, 1, 0, 0, 0, 0, 0, 0, 4, 0x68, 0xce, 0x0f, 0xca}, picture(true)[5:]...))
	at = p.av(at+40, 3, true)
	// Timestamps begin anew.
	p.av(at+500_000_000, 3, true)
	p.nc.Close()
	st := e.waitEnd(demo)
	r := e.record(demo)
	if len(r.opens) != 4 || st.Epoch.Epoch != 4 || st.Stats.TimestampJumps > 1 {
		t.Fatalf("%d epochs, %+v", len(r.opens), st.Stats)
	}
	ids := map[string]bool{}
	for i, o := range r.opens {
		ids[o.Tracks[0].InitID] = true
		if o.DiscontinuitySeq != uint32(i) {
			t.Errorf("epoch %d has discontinuity sequence %d", o.Epoch, o.DiscontinuitySeq)
		}
	}
	if len(ids) != 3 {
		t.Errorf("%d init segments for three parameter sets", len(ids))
	}
	if v := r.check.Tracks[schemas.Video]; v.Discontinuities != 3 || v.Keys == 0 {
		t.Errorf("%+v", v)
	}
}

func TestWrapOnTheWire(t *testing.T) {
	e := start(t, schemas.BusSettings{}, nil)
	p := e.puppet("live/demo")
	p.send(8, 1<<32-4000, aacConfig)
	p.send(9, 1<<32-4000, avcConfig(pps360))
	p.av(1<<32-4000, 8, true)
	p.nc.Close()
	e.waitEnd(demo)
	r := e.record(demo)
	if v := r.check.Tracks[schemas.Video]; len(r.opens) != 1 || v.Samples != 200 || v.HolesUs != 0 {
		t.Errorf("%d epochs, %+v", len(r.opens), v)
	}
}

// Audio that begins late, without having been announced, opens an epoch with both.
func TestLateTrack(t *testing.T) {
	e := start(t, schemas.BusSettings{}, nil)
	p := e.puppet("live/demo")
	p.send(9, 0, avcConfig(pps360))
	at := p.av(0, 3, false)
	p.send(8, at, aacConfig)
	p.av(at, 3, true)
	p.nc.Close()
	e.waitEnd(demo)
	r := e.record(demo)
	if len(r.opens) != 2 || len(r.opens[0].Tracks) != 1 || len(r.opens[1].Tracks) != 2 {
		t.Errorf("epochs %+v", r.opens)
	}
}

// The handshake's deadline must not fall on the acknowledgements of a publication that outlives it.
func TestAcknowledgementsAfterTheHandshake(t *testing.T) {
	const handshake = 500 * time.Millisecond
	e := start(t, schemas.BusSettings{}, func(s *settings) { s.rtmp.HandshakeTimeout = handshake })
	p := e.puppet("live/demo")
	p.send(5, 0, []byte{0, 0, 0, 100}) // wants an acknowledgement every 100 bytes
	p.send(9, 0, avcConfig(pps360))
	began := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := uint32(0); time.Since(began) < 2*handshake; i++ {
		p.send(9, i*40, picture(i%25 == 0))
		<-tick.C
	}
	p.nc.Close()
	if st := e.waitEnd(demo); strings.Contains(st.EndReason, "no data") || st.Epoch.Epoch != 1 {
		t.Errorf("ended because %q", st.EndReason)
	}
}

func TestHostilePublishers(t *testing.T) {
	t.Parallel()
	e := start(t, schemas.BusSettings{}, func(s *settings) { s.rtmp.ReadTimeout = 2 * time.Second })
	nested := bytes.Repeat([]byte{3, 0, 1, 'a'}, 2<<20)
	for name, tc := range map[string]struct {
		send func(p *puppet)
		want string
	}{
		"nested metadata": {func(p *puppet) { p.send(18, 0, nested) }, ""},
		"nested command":  {func(p *puppet) { p.send(20, 0, nested) }, ""},
		"malformed video": {func(p *puppet) {
			p.send(9, 0, avcConfig(pps360))
			for i := range uint32(40) {
				p.send(9, i*40, []byte{0x17, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1})
			}
		}, "malformed"},
		"no key frame": {func(p *puppet) {
			p.send(9, 0, avcConfig(pps360))
			for i := range uint32(40) {
				p.send(9, i*40, picture(false))
			}
		}, ""},
		"HEVC":           {func(p *puppet) { p.send(9, 0, []byte("\x90hvc1abc")) }, "HEVC configuration: "},
		"HEVC as in FLV": {func(p *puppet) { p.send(9, 0, []byte{0x1c, 0, 0, 0, 0, 1}) }, "HEVC configuration: "},
		"AV1":            {func(p *puppet) { p.send(9, 0, []byte("\x90av01abc")) }, "AV1 configuration: "},
		"Opus":           {func(p *puppet) { p.send(8, 0, []byte("\x90Opusabc")) }, "Opus configuration: "},
		"bad AAC":        {func(p *puppet) { p.send(8, 0, []byte{0xaf, 0, 0xff, 0xff}) }, "AAC configuration"},
		"bad SPS":        {func(p *puppet) { p.send(9, 0, avcConfig(pps360)[:20]) }, "H.264 configuration"},
		"a frame beyond a chunk": {func(p *puppet) {
			p.send(9, 0, avcConfig(pps360))
			big := make([]byte, 5+4+(8<<20))
			copy(big, []byte{0x17, 1, 0, 0, 0, 0, 0x80, 0, 0, 0x65})
			p.send(9, 0, picture(true))
			p.send(9, 600, big)
		}, "too large"},
		"a message beyond all bounds": {func(p *puppet) { p.send(9, 0, make([]byte, 11<<20)) }, "too large"},
		"unsteady": {func(p *puppet) {
			p.send(9, 0, avcConfig(pps360))
			p.av(0, 1, false)
			for i := range uint32(60) {
				p.send(9, (i%2)*3_600_000+i*40, picture(true))
			}
		}, "changes too often"},
	} {
		t.Run(name, func(t *testing.T) {
			p := e.puppet("live/" + strings.ReplaceAll(strings.ReplaceAll(name, " ", "-"), ".", ""))
			tc.send(p)
			if got := p.answer(); !strings.Contains(got, tc.want) {
				t.Errorf("the publisher was told %q, want %q", got, tc.want)
			}
		})
	}
	e.serve(nil) // ffmpeg may be silent for longer than these may, on a busy machine
	e.mustPublish(source{seconds: 2, rate: 48000}, "live/demo")
	e.waitEnd(demo)
}

// A peer that has no key gets no memory: what it may send before publishing is bounded.
func TestBytesBeforePublishAreBounded(t *testing.T) {
	e := start(t, schemas.BusSettings{}, func(s *settings) { s.rtmp.MaxBytesBeforePublish = 20_000 })
	c, err := net.Dial("tcp", e.srv.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	c1 := make([]byte, 1+1536)
	c1[0] = 3
	c.Write(c1)
	s := make([]byte, 1+2*1536)
	if _, err := io.ReadFull(c, s); err != nil {
		t.Fatal(err)
	}
	c.Write(s[1 : 1+1536])
	// A message of 10 MB, in one chunk.
	c.Write([]byte{2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0x9f, 0, 0})
	c.Write([]byte{3, 0, 0, 0, 0x90, 0, 0, 20, 0, 0, 0, 0})
	for range 100 {
		if _, err := c.Write(make([]byte, 10_000)); err != nil {
			break
		}
	}
	io.Copy(io.Discard, c)
	e.until("the refusal is told", func() bool {
		for _, v := range e.events(schemas.EventPublishRefused) {
			if strings.Contains(v.Reason, "too many bytes before the publish command") {
				return true
			}
		}
		return false
	})
}
