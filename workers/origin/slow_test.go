package origin

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
)

// small keeps the kernel from taking a whole segment off the origin's hands.
type small struct{ net.Listener }

func (l small) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if tc, ok := c.(*net.TCPConn); ok {
		err = tc.SetWriteBuffer(8 << 10)
	}
	return c, err
}

// fat publishes chunks of one big fragment each; the origin does not look inside.
type fat struct {
	t    testing.TB
	js   jetstream.JetStream
	part int
	data []byte
	init []byte
}

const fatParts = 10

func newFat(t testing.TB, js jetstream.JetStream, partBytes int) *fat {
	t.Helper()
	return newFatOf(t, js, partBytes, []byte("an init segment nobody decodes"))
}

// newFatOf is newFat with an init segment.
func newFatOf(t testing.TB, js jetstream.JetStream, partBytes int, init []byte) *fat {
	t.Helper()
	f := &fat{t: t, js: js, data: make([]byte, partBytes), init: init}
	f.kv(schemas.BucketInits, schemas.InitID(init), init)
	s, err := json.Marshal(schemas.StreamState{
		App: key.App, Stream: key.Stream, Live: true, UpdatedUnixUs: time.Now().UnixMicro(),
		Epoch: schemas.EpochOpen{Version: schemas.ChunkVersion, App: key.App, Stream: key.Stream, Rendition: schemas.SourceRendition, Epoch: 1,
			Tracks: []schemas.TrackInfo{{Track: schemas.Video, Codec: "avc1.42c01e", InitID: schemas.InitID(init), Timescale: 1000, PartTargetUs: 200_000}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	f.kv(schemas.BucketStreams, key.KVKey(), s)
	return f
}

func (f *fat) kv(bucket, k string, v []byte) {
	f.t.Helper()
	kv, err := f.js.KeyValue(f.t.Context(), bucket)
	if err == nil {
		_, err = kv.Put(f.t.Context(), k, v)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// push publishes whole segments and gives the number of the last.
func (f *fat) push(segments int) (msn int) {
	f.t.Helper()
	for range segments * fatParts {
		k := f.part % fatParts
		msn = f.part / fatParts
		copy(f.data, fmt.Sprintf("part %d", f.part))
		c := &schemas.Chunk{
			App: key.App, Stream: key.Stream, Rendition: schemas.SourceRendition, Epoch: 1, Seq: uint64(f.part), Clock: schemas.ClockArrival,
			Fragments: []schemas.Fragment{{
				Track: schemas.Video, MSN: uint64(msn), Part: uint32(k), Size: len(f.data), InitID: schemas.InitID(f.init),
				Duration: 200, Timescale: 1000, Samples: 6, Independent: k == 0, SegmentStart: k == 0, SegmentEnd: k == fatParts-1,
				BaseTime: uint64(f.part * 200), WallUnixUs: int64(f.part) * 200_000,
			}},
		}
		h, err := c.EncodeHeader(f.data)
		if err != nil {
			f.t.Fatal(err)
		}
		_, err = f.js.PublishMsg(f.t.Context(), &nats.Msg{
			Subject: schemas.MediaSubject(key, schemas.SourceRendition), Data: f.data,
			Header: nats.Header{schemas.HeaderKind: {schemas.KindChunk}, schemas.HeaderChunk: {string(h)}, jetstream.MsgIDHeader: {c.MsgID()}},
		})
		if err != nil {
			f.t.Fatal(err)
		}
		f.part++
	}
	return msn
}

// slowReader asks for a segment and takes no more than the head of the answer.
func slowReader(t testing.TB, o *testOrigin, msn int) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(o.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "GET %s%s HTTP/1.1\r\nHost: x\r\n\r\n", videoPath, schemas.SegmentFileName(1, uint64(msn)))
	// One byte at a time, and no more after the status.
	line, err := bufio.NewReaderSize(io.LimitReader(c, 17), 16).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "HTTP/1.1 200") {
		t.Fatalf("segment %d: %q, %v", msn, line, err)
	}
	return c
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// 500 readers that take next to nothing hold the segments they asked for, each
// of them once, and nothing else, however far the window moves on.
func TestSlowReadersHoldBoundedMemory(t *testing.T) {
	b := bustest.Start(t)
	o := run(t, b.JS, func(o *Origin) { o.Listener = small{o.Listener}; o.SlowAfter = time.Hour })
	pack(t, b.JS)
	const part = 32 << 10
	f := newFat(t, b.JS, part)
	last := f.push(8)
	wait := func(msn int) {
		t.Helper()
		await.True(t, "the segment's last part is listed", func() bool {
			a := get(t, o.url+videoPath+"playlist.m3u8")
			return a.code == 200 && strings.Contains(string(a.body), fmt.Sprintf("1-%d.%d.m4s", msn, fatParts-1))
		})
	}
	wait(last)
	before := heap()
	for i := range 500 {
		slowReader(t, o, last-i%8)
	}
	await.True(t, "500 connections", func() bool { return gauge(o.m.conns) >= 500 })
	for range 8 {
		wait(f.push(8))
	}
	// One segment has 320 KiB. All readers together may hold the eight that they
	// asked for, the origin its window of about 20, and a connection its buffers;
	// a copy for each reader would be 160 MiB. The bus's server is in this process
	// and keeps what it wrote for some seconds.
	const bound = (8+20)*fatParts*part + 500*(64<<10)
	var grown int64
	await.True(t, "the heap is back within its bound", func() bool { grown = heap() - before; return grown <= bound })
	t.Logf("heap grew by %.1f MiB, %.0f connections, %d segments passed", float64(grown)/(1<<20), gauge(o.m.conns), f.part/fatParts)
	if gauge(o.m.conns) < 500 {
		t.Errorf("%.0f connections are left: the readers held nothing", gauge(o.m.conns))
	}
}

// A reader that takes nothing is cut off; the others notice nothing.
func TestSlowReadersAreCutOff(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	o := run(t, b.JS, func(o *Origin) { o.Listener = small{o.Listener}; o.SlowAfter = 2 * time.Second })
	pack(t, b.JS)
	last := newFat(t, b.JS, 128<<10).push(4)
	await.True(t, "the segment is there", func() bool {
		return get(t, o.url+videoPath+schemas.SegmentFileName(1, uint64(last))).code == 200
	})
	for range 20 {
		slowReader(t, o, last)
	}
	await.True(t, "all are cut off", func() bool { return gauge(o.m.slow) == 20 })
	if a := get(t, o.url+videoPath+schemas.SegmentFileName(1, uint64(last))); a.code != 200 || len(a.body) != fatParts*128<<10 {
		t.Errorf("a good reader got %d with %d bytes", a.code, len(a.body))
	}
}

// Above the bound on connections a request is answered, in words, and its
// connection closed; those there before go on, and room that is made is given.
func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*Origin)
		why    string
	}{
		{"all", func(o *Origin) { o.MaxConns = 8 }, whyFull},
		{"one peer", func(o *Origin) { o.MaxConnsPerPeer = 8 }, whyPeer},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := bustest.Start(t)
			o := run(t, b.JS, c.change)
			ask := func(conn net.Conn) (int, string, bool) {
				t.Helper()
				fmt.Fprint(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Fatal(err)
				}
				if resp.StatusCode == 503 && resp.Header.Get("Retry-After") == "" {
					t.Error("no Retry-After")
				}
				return resp.StatusCode, strings.TrimSpace(string(body)), resp.Close
			}
			dial := func() net.Conn {
				t.Helper()
				conn, err := net.Dial("tcp", strings.TrimPrefix(o.url, "http://"))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { conn.Close() })
				return conn
			}
			var held []net.Conn
			for range 8 {
				held = append(held, dial())
				if code, body, _ := ask(held[len(held)-1]); code != 200 {
					t.Fatalf("connection %d: %d %s", len(held), code, body)
				}
			}
			if code, body, closed := ask(dial()); code != 503 || body != c.why || !closed {
				t.Errorf("one too many: %d %q, closed %t", code, body, closed)
			}
			if code, _, _ := ask(held[0]); code != 200 {
				t.Errorf("an older connection: %d", code)
			}
			held[0].Close()
			await.True(t, "room", func() bool { return gauge(o.m.conns) <= 7 })
			if code, _, _ := ask(dial()); code != 200 {
				t.Errorf("with room again: %d", code)
			}
		})
	}
}
