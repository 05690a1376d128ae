package rtsp_test

import (
	"crypto/rand"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/camera"
)

// liar is no camera: each connection is answered with something else that is no answer.
func liar(t *testing.T) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 1<<20)
	_, _ = rand.Read(noise)
	answers := []func(net.Conn){
		func(c net.Conn) { _, _ = c.Write(noise) },
		func(c net.Conn) { // a header without an end
			_, _ = io.WriteString(c, "RTSP/1.0 200 OK\r\nCSeq: 1\r\nPublic: "+strings.Repeat("a", 8<<20))
		},
		func(c net.Conn) { // a body larger than memory
			_, _ = io.WriteString(c, "RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 99999999999\r\n\r\n")
			_, _ = c.Write(noise)
		},
		func(net.Conn) {},
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				answers[i%len(answers)](c)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return "rtsp://" + l.Addr().String() + "/stream"
}

// Cameras that send rubbish, in the protocol or as media, are told of and do not
// touch the one beside them.
func TestHostileCameras(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	good := startCamera(t, camera.Settings{Clip: clip(t, camera.ClipSettings{})})
	noisy := startCamera(t, camera.Settings{Clip: clip(t, camera.ClipSettings{}), Spoil: func(p []byte) { copy(p, []byte{0xff, 0xff}) }})
	bustest.Put(t, b.JS, schemas.BucketSources, door.KVKey(), schemas.Source{URL: good.URL()})
	bustest.Put(t, b.JS, schemas.BucketSources, "home.liar", schemas.Source{URL: liar(t)})
	bustest.Put(t, b.JS, schemas.BucketSources, "home.noisy", schemas.Source{URL: noisy.URL()})
	p := pull(t, b)
	await.True(t, "the good camera plays", func() bool { return state(t, b).Stats.Chunks > 5 })
	for name, why := range map[string]string{"home.liar": "", "home.noisy": "malformed"} {
		await.True(t, name+" is told of", func() bool {
			s := get[schemas.PullState](t, b.JS, schemas.BucketPulls, name)
			return s.Tries >= 1 && s.Error != "" && strings.Contains(s.Error, why) && !s.Playing
		})
	}
	await.True(t, "the liar had every kind of answer", func() bool {
		return get[schemas.PullState](t, b.JS, schemas.BucketPulls, "home.liar").Tries >= 4
	})
	before := state(t, b).Stats.Chunks
	await.True(t, "the good camera goes on", func() bool { return state(t, b).Stats.Chunks > before+3 })
	p.stop()
	got := read(t, b)
	if len(got.epochs) != 1 {
		t.Errorf("%d epochs of the good camera", len(got.epochs))
	}
	if complaints, frames := got.decode(t, b, got.epochs[0].Epoch, schemas.Video); complaints != "" || frames < 25 {
		t.Errorf("%d frames; ffmpeg says: %s", frames, complaints)
	}
}
