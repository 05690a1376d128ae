package rtmp_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/bluenviron/gortmplib/pkg/bytecounter"
	"github.com/bluenviron/gortmplib/pkg/rawmessage"

	"github.com/spillway-live/spillway/schemas"
)

// session gives what a publisher sends after its connection is set up.
func session(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := rawmessage.NewWriter(&b, bytecounter.NewWriter(&b), false)
	w.SetChunkSize(4096)
	for i, body := range [][]byte{avcConfig(pps360), picture(true), picture(false), bytes.Repeat(picture(false), 2000), picture(false)} {
		if err := w.Write(&rawmessage.Message{ChunkStreamID: 6, Timestamp: time.Duration(i*40) * time.Millisecond, Type: 9, MessageStreamID: 1, Body: body}); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// Whatever hits the port, before and after a publish command, streams beside it go on.
func TestGoodStreamsBesideHostileOnes(t *testing.T) {
	t.Parallel()
	e := start(t, schemas.BusSettings{}, nil)
	const streams, seconds = 3, 5
	var good sync.WaitGroup
	for i := range streams {
		good.Go(func() {
			out, err := source{rate: 48000, seconds: seconds, realtime: true}.publish(t.Context(), e.url(fmt.Sprintf("live/good%d", i)))
			if err != nil {
				t.Errorf("good publisher %d: %v: %s", i, err, out)
			}
		})
	}
	key := func(i int) schemas.StreamKey { return schemas.StreamKey{App: "live", Stream: fmt.Sprintf("good%d", i)} }
	e.until("all are live", func() bool {
		for i := range streams {
			if st, _ := e.state(key(i)); !st.Live || st.Stats.Chunks < 2 {
				return false
			}
		}
		return true
	})
	over := make(chan struct{})
	go func() { good.Wait(); close(over) }()
	attacks := e.attack(over)
	t.Logf("%d attacks", attacks)
	for i := range streams {
		e.waitEnd(key(i))
		r := e.record(key(i))
		if v := r.check.Tracks[schemas.Video]; len(r.opens) != 1 || r.ends != 1 || v.Samples != 30*seconds || v.HolesUs > 3000 {
			t.Errorf("good%d was disturbed: %d epochs, %d ends, %+v", i, len(r.opens), r.ends, v)
		}
	}
	cut := 0
	for _, v := range e.events(schemas.EventPublishRefused) {
		if v.Reason == "" || v.Detail["code"] == "" || v.Detail["protocol"] != "rtmp" {
			t.Errorf("a refusal without a reason: %+v", v)
		}
		if v.Detail["code"] == "panic" {
			t.Errorf("panic: %+v", v)
		}
		cut++
	}
	if cut == 0 {
		t.Error("no refusal was told")
	}
}

// attack sends garbage, flipped, truncated and giant messages, one after the other, until over.
func (e *env) attack(over <-chan struct{}) (n int) {
	rnd := rand.New(rand.NewPCG(1, 2))
	whole := session(e.t)
	noise := func(size int) []byte {
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		return b
	}
	for ; ; n++ {
		select {
		case <-over:
			return n
		default:
		}
		if n%5 == 0 { // before any command
			e.poke(append([]byte{3}, noise(1+rnd.IntN(8000))...))
			continue
		}
		p := e.puppet(fmt.Sprintf("live/bad%d", n))
		switch n % 5 {
		case 1: // some bits flipped
			b := bytes.Clone(whole)
			for range 1 + rnd.IntN(20) {
				b[rnd.IntN(len(b))] ^= 1 << rnd.IntN(8)
			}
			p.nc.Write(b)
		case 2: // truncated
			p.nc.Write(whole[:rnd.IntN(len(whole))])
		case 3: // a message that says it is 16 MB long
			p.nc.Write(append([]byte{6, 0, 0, 0, 0xff, 0xff, 0xff, 9, 1, 0, 0, 0}, noise(100_000)...))
		case 4: // noise in place of messages
			p.nc.Write(noise(1 + rnd.IntN(50_000)))
		}
		if t, ok := p.nc.(*net.TCPConn); ok {
			t.CloseWrite()
		}
		p.nc.SetReadDeadline(time.Now().Add(10 * time.Second))
		io.Copy(io.Discard, p.nc)
		p.nc.Close()
	}
}

func (e *env) poke(b []byte) {
	c, err := net.Dial("tcp", e.srv.Addr().String())
	if err != nil {
		e.t.Error(err)
		return
	}
	defer c.Close()
	c.Write(b)
	c.(*net.TCPConn).CloseWrite()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	io.Copy(io.Discard, c)
}
