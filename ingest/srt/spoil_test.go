package srt_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/ingest/publish/publishtest"
)

// TestSpoiledControl: a publisher whose connection also carries control packets of any
// content to its own socket. Its stream may suffer, the process may not.
func TestSpoiledControl(t *testing.T) {
	t.Parallel()
	e := start(t, nil)
	l := relay(t, e.srv.Addr(), 1<<30)
	rnd := rand.New(rand.NewPCG(1, 2))
	types := [][2]byte{{0x80, 0}, {0x80, 1}, {0x80, 2}, {0x80, 3}, {0x80, 6}, {0x80, 7}, {0x80, 8}, {0xff, 0xff}}
	l.set(func(b []byte) (out [][]byte) {
		for range 8 {
			c := append(append([]byte{}, b[:16]...), make([]byte, rnd.IntN(120))...)
			for i := range c {
				if i < 12 || i >= 16 { // the socket id is kept
					c[i] = byte(rnd.Uint32())
				}
			}
			k := types[rnd.IntN(len(types))]
			copy(c, k[:])
			if k[0] == 0xff { // user-defined: handshake and key material
				c[2], c[3] = 0, byte(3+rnd.IntN(2))
				if rnd.IntN(500) == 0 {
					c[3] = 1 // the library closes a connection on a bad one
				}
			}
			out = append(out, c)
		}
		return out
	})
	s := source{video: x264, audio: aac, seconds: 4}
	_, _ = s.publish(t.Context(), strings.Replace(e.url("live/demo"), e.srv.Addr().String(), l.in.LocalAddr().String(), 1))
	l.set(nil)
	// Another one goes its way.
	if out, err := (source{audio: aac, seconds: 3}).publish(t.Context(), e.url("live/other")); err != nil {
		t.Fatalf("ffmpeg: %v: %s", err, out)
	}
	other := demo
	other.Stream = "other"
	publishtest.WaitEnd(t, e.bus.JS, other)
	r := publishtest.Record(t, e.bus.JS, other)
	r.Decode(t, r.Opens[0])
}
