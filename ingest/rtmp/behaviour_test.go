package rtmp_test

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/hops"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/running"
)

func (e *env) mustPublish(s source, path string) {
	e.t.Helper()
	if out, err := s.publish(e.t.Context(), e.url(path)); err != nil {
		e.t.Fatalf("ffmpeg: %v: %s", err, out)
	}
}

func TestReconnectContinues(t *testing.T) {
	t.Parallel()
	e := start(t, schemas.BusSettings{}, nil)
	s := source{rate: 48000, seconds: 5}
	e.mustPublish(s, "live/demo")
	e.waitEnd(demo)
	// Another server, as after a restart, and a slower rate: the part target stays.
	e.serve(nil)
	s.fps, s.gop = "24", 48
	e.mustPublish(s, "live/demo")
	e.until("the second epoch ends", func() bool { st, _ := e.state(demo); return !st.Live && st.Epoch.Epoch == 2 })
	s.rate = 0
	e.mustPublish(s, "live/demo")
	e.until("the third epoch ends", func() bool { st, _ := e.state(demo); return !st.Live && st.Epoch.Epoch == 3 })

	r := e.record(demo) // checks that numbers continue and targets stay
	if len(r.opens) != 3 || r.ends != 3 {
		t.Fatalf("%d epochs, %d ends", len(r.opens), r.ends)
	}
	for i, o := range r.opens {
		if o.Epoch != uint32(i+1) || o.DiscontinuitySeq != uint32(i) {
			t.Errorf("epoch %d has discontinuity sequence %d", o.Epoch, o.DiscontinuitySeq)
		}
	}
	if v := r.check.Tracks[schemas.Video]; v.Discontinuities != 2 || v.Segments != 9 {
		t.Errorf("video %+v", v)
	}
	e.until("three beginnings are told", func() bool { return len(e.events(schemas.EventStreamStarted)) >= 3 })
	e.until("three ends are told", func() bool { return len(e.events(schemas.EventStreamEnded)) >= 3 })
}

// A publisher and its ingest that die leave no end; the numbers are read from MEDIA.
func TestDeathLeavesNoHole(t *testing.T) {
	t.Parallel()
	e := start(t, schemas.BusSettings{}, nil)
	ctx, kill := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		source{rate: 48000, seconds: 60, realtime: true}.publish(ctx, e.url("live/demo"))
	}()
	e.until("a few seconds are on the bus", func() bool { st, _ := e.state(demo); return st.Stats.Chunks > 14 })
	kill() // SIGKILL: no FCUnpublish
	<-done
	st := e.waitEnd(demo)
	if !strings.Contains(st.EndReason, "closed") && !strings.Contains(st.EndReason, "lost") {
		t.Errorf("end reason %q", st.EndReason)
	}
	// As if ingest had died too: its last position is lost.
	kv, err := e.bus.JS.KeyValue(t.Context(), schemas.BucketPositions)
	if err != nil {
		t.Fatal(err)
	}
	if err := kv.Purge(t.Context(), demo.KVKey()+"."+schemas.SourceRendition); err != nil {
		t.Fatal(err)
	}
	e.mustPublish(source{rate: 48000, seconds: 3}, "live/demo")
	e.until("the second epoch ends", func() bool { st, _ := e.state(demo); return !st.Live && st.Epoch.Epoch == 2 })
	r := e.record(demo)
	// The second publisher ends the first one's epoch for it.
	if len(r.opens) != 2 || r.ends != 2 || r.opens[1].DiscontinuitySeq != 1 {
		t.Errorf("%d epochs, %d ends", len(r.opens), r.ends)
	}
}

func TestNewestWins(t *testing.T) {
	t.Parallel()
	e := start(t, schemas.BusSettings{}, nil)
	old := make(chan string, 1)
	go func() {
		out, _ := source{rate: 48000, seconds: 60, realtime: true}.publish(t.Context(), e.url("live/demo"))
		old <- out
	}()
	e.until("the first is live", func() bool { st, _ := e.state(demo); return st.Live && st.Stats.Chunks > 5 })
	e.mustPublish(source{rate: 48000, seconds: 4}, "live/demo")
	if out := <-old; !strings.Contains(out, "replaced by a newer publisher") {
		t.Errorf("the old publisher was told %q", out)
	}
	e.until("both are told as an event", func() bool { return e.secondPublishers("took_over") >= 1 })
	e.until("the second ends", func() bool { st, _ := e.state(demo); return !st.Live && st.Epoch.Epoch == 2 })
	e.record(demo)
	found := false
	e.until("the end is told", func() bool {
		for _, v := range e.events(schemas.EventStreamEnded) {
			found = found || strings.Contains(v.Reason, "replaced by a newer publisher")
		}
		return found
	})
}

// Two ingest processes: the fence on the subject tells the older one.
func TestNewestWinsAcrossProcesses(t *testing.T) {
	t.Parallel()
	e := start(t, schemas.BusSettings{}, nil)
	old := make(chan string, 1)
	first := e.url("live/demo")
	go func() {
		out, _ := source{rate: 48000, seconds: 60, realtime: true}.publish(t.Context(), first)
		old <- out
	}()
	e.until("the first is live", func() bool { st, _ := e.state(demo); return st.Live && st.Stats.Chunks > 5 })
	e.serve(nil)
	e.mustPublish(source{rate: 48000, seconds: 4, realtime: true}, "live/demo")
	if out := <-old; !strings.Contains(out, "taken over") {
		t.Errorf("the old publisher was told %q", out)
	}
	e.until("the overtaken one's process tells", func() bool { return e.secondPublishers("took_over") >= 1 })
	e.until("the second ends", func() bool { st, _ := e.state(demo); return !st.Live && st.Epoch.Epoch == 2 })
	e.record(demo)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	e := start(t, schemas.BusSettings{}, func(s *settings) { s.Auth.OpenLoopback = false })
	right, err := e.keys.SignPublish(token.Publish{App: "live", Stream: "demo", ExpiresUnix: time.Now().Add(time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	late, err := e.keys.SignPublish(token.Publish{App: "live", ExpiresUnix: time.Now().Add(-time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	codec := func(args ...string) source { return source{seconds: 20, realtime: true, extra: args} }
	for _, tc := range []struct {
		name, path, want string
		s                source
	}{
		{"no key", "live/demo", "publish key is missing", source{seconds: 1}},
		{"another stream's key", "live/other?key=" + right, "token is for another purpose", source{seconds: 1}},
		{"forged key", "live/demo?key=" + right[:len(right)-2] + "xx", "token signature is wrong", source{seconds: 1}},
		{"expired key", "live/demo?key=" + late, "token has expired", source{seconds: 1}},
		{"bad stream name", "live/a.b?key=" + right, "only A-Z a-z 0-9 _ -", source{seconds: 1}},
		{"bad CDN", "live/demo?cdn=a.b&key=" + right, "CDN name", source{seconds: 1}},
		{"sorenson", "live/demo?key=" + right, "Sorenson H.263 is not taken", codec("-c:v", "flv1")},
		{"mp3", "live/demo?key=" + right, "MP3 is not taken", source{rate: 44100, novideo: true, seconds: 20, realtime: true, extra: []string{"-c:a", "libmp3lame"}}},
	} {
		out, err := tc.s.publish(t.Context(), e.url(tc.path))
		if err == nil {
			t.Errorf("%s: published", tc.name)
		}
		if !strings.Contains(out, tc.want) {
			t.Errorf("%s: the publisher was told %q, want %q", tc.name, out, tc.want)
		}
		if !strings.Contains(strings.ReplaceAll(e.log.String(), `\"`, `"`), tc.want) {
			t.Errorf("%s: the log does not say %q", tc.name, tc.want)
		}
		e.until("the event for "+tc.name, func() bool {
			for _, v := range e.events(schemas.EventPublishRefused) {
				if strings.Contains(v.Reason, tc.want) {
					return true
				}
			}
			return false
		})
	}
	e.mustPublish(source{seconds: 2}, "live/demo?key="+right)
	e.waitEnd(demo)
	e.mustPublish(source{seconds: 2}, "live?key="+right+"/demo")
}

func TestGarbageIsRefusedAndNotRepeated(t *testing.T) {
	t.Parallel()
	e := start(t, schemas.BusSettings{}, func(s *settings) { s.rtmp.HandshakeTimeout = 5 * time.Second })
	send := func(data []byte) {
		c, err := net.Dial("tcp", e.srv.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(await.Limit))
		c.Write(data)
		if len(data) > 3 {
			c.(*net.TCPConn).CloseWrite()
		} // else the server must tire of it
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the connection was left open: %v", err)
		}
	}
	noise := make([]byte, 100_000)
	rand.Read(noise)
	flood := make([]byte, 1<<20)
	flood[0] = 3
	send([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	send(noise)
	send(append([]byte{3}, noise...))
	send(flood)
	send([]byte{3, 0, 0})
	for range 40 {
		send([]byte("GET / HTTP/1.1\r\n\r\n"))
	}
	e.until("events tell", func() bool { return len(e.events(schemas.EventPublishRefused)) >= 3 })
	if n := strings.Count(e.log.String(), "publisher refused"); n > 30 { // ten, and one a second
		t.Errorf("%d log lines for 45 garbage connections", n)
	}
	e.mustPublish(source{seconds: 2, rate: 48000}, "live/demo") // and it still works
	e.waitEnd(demo)
	e.record(demo)
}

// noisy makes pictures that need about 3 Mbit/s.
var noisy = []string{"-vf", "noise=alls=100:allf=t", "-b:v", "3M", "-maxrate", "3M", "-bufsize", "1M"}

func TestStoreFullHoldsBack(t *testing.T) {
	t.Parallel()
	e := start(t, schemas.BusSettings{MediaMaxBytes: 1 << 20}, nil)
	done := make(chan error, 1)
	go func() {
		// About 2 MB in 6 s of media, sent as fast as the server reads.
		_, err := source{rate: 48000, seconds: 6, size: "640x360", extra: noisy}.publish(t.Context(), e.url("live/demo"))
		done <- err
	}()
	e.until("the cause is told", func() bool { return len(e.events(schemas.EventBackPressure)) >= 1 })
	if v := e.events(schemas.EventBackPressure)[0]; !strings.Contains(v.Reason, "maximum bytes") {
		t.Errorf("reason %q", v.Reason)
	}
	if !strings.Contains(e.log.String(), "maximum bytes") {
		t.Error("the log does not tell the cause")
	}
	r := e.record(demo)
	had := len(r.chunks)
	// Room again: what was held comes, in order, without a hole.
	for _, c := range schemas.StreamConfigs(schemas.BusSettings{}) {
		if c.Name == schemas.StreamMedia {
			if _, err := e.bus.JS.UpdateStream(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := <-done; err != nil {
		t.Fatalf("the publisher was not let finish: %v", err)
	}
	e.waitEnd(demo)
	r = e.record(demo)
	if v := r.check.Tracks[schemas.Video]; v.Samples != 180 || len(r.opens) != 1 || len(r.chunks) <= had {
		t.Errorf("%d epochs, video %+v", len(r.opens), v)
	}
	if n := len(e.events(schemas.EventBackPressure)); n != 1 {
		t.Errorf("%d back_pressure events for one incident", n)
	}
}

func TestBusAwayTooLongEndsPublication(t *testing.T) {
	t.Parallel()
	e := start(t, schemas.BusSettings{MediaMaxBytes: 200 << 10}, func(s *settings) { s.BusTimeout = time.Second })
	told := make(chan *nats.Msg, 1024)
	if _, err := e.bus.Conn.ChanSubscribe(schemas.HopsSubject(demo), told); err != nil {
		t.Fatal(err)
	}
	out, err := source{seconds: 20, size: "640x360", realtime: true, extra: noisy}.publish(t.Context(), e.url("live/demo"))
	if err == nil || !strings.Contains(out, "has not taken media") {
		t.Errorf("ffmpeg: %v: %s", err, out)
	}
	st := e.waitEnd(demo)
	if !strings.Contains(st.EndReason, "maximum bytes") {
		t.Errorf("end reason %q", st.EndReason)
	}
	await.True(t, "the parts that are lost are told of at the hop that lost them", func() bool {
		for {
			select {
			case m := <-told:
				notes, err := hops.DecodeNotes(m.Data)
				if err != nil {
					t.Fatal(err)
				}
				if slices.ContainsFunc(notes, func(n hops.Note) bool { return n.Hop == schemas.HopStored && n.Failed() && n.DelayMs == nil }) {
					return true
				}
			default:
				return false
			}
		}
	})
}

func TestSilentPublisherIsClosed(t *testing.T) {
	t.Parallel()
	e := start(t, schemas.BusSettings{}, func(s *settings) { s.rtmp.ReadTimeout = 3 * time.Second })
	cmd := exec.Command("ffmpeg", append(source{seconds: 60, realtime: true}.args(), "-f", "flv", e.url("live/demo"))...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	e.until("it is live", func() bool { st, _ := e.state(demo); return st.Live && st.Stats.Chunks > 2 })
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if st := e.waitEnd(demo); !strings.Contains(st.EndReason, "no data for") {
		t.Errorf("end reason %q", st.EndReason)
	}
}

// A server that stops publishes what it holds and leaves no end: the publisher may
// go on elsewhere.
func TestShutdownIsNoEnd(t *testing.T) {
	t.Parallel()
	e := &env{t: t, bus: bustest.Start(t), log: running.NewLog(t)}
	stop := e.serve(func(s *settings) {
		s.DefaultCDN = func(netip.Addr, schemas.StreamKey) string { return "b" }
	})
	told := make(chan string, 1)
	go func() {
		out, _ := source{rate: 48000, seconds: 60, realtime: true}.publish(t.Context(), e.url("live/demo"))
		told <- out
	}()
	e.until("it is live", func() bool { st, _ := e.state(demo); return st.Live && st.Stats.Chunks > 5 && st.Epoch.CDN == "b" })
	stop()
	if out := <-told; !strings.Contains(out, "ingest is shutting down") {
		t.Errorf("the publisher was told %q", out)
	}
	if st, _ := e.state(demo); st.Live || st.EndReason != "ingest is shutting down" {
		t.Errorf("state %+v", st)
	}
	if r := e.record(demo); r.ends != 0 || len(r.opens) != 1 {
		t.Errorf("%d epochs, %d ends", len(r.opens), r.ends)
	}
	e.serve(nil)
	e.mustPublish(source{rate: 48000, seconds: 3}, "live/demo")
	e.until("the second epoch ends", func() bool { st, _ := e.state(demo); return !st.Live && st.Epoch.Epoch == 2 })
	e.record(demo)
}

func TestStateTelemetryAndDelay(t *testing.T) {
	t.Parallel()
	e := start(t, schemas.BusSettings{}, nil)
	e.mustPublish(source{rate: 48000, seconds: 5, realtime: true, size: "640x360"}, "live/demo?cdn=a")
	st := e.waitEnd(demo)
	if st.Epoch.CDN != "a" || st.Stats.Chunks < 15 || st.Stats.KeyframeMs != 2000 || st.Stats.PeakBps < 50_000 {
		t.Errorf("state %+v", st)
	}
	var rows []schemas.Telemetry
	e.until("telemetry arrives", func() bool {
		rows = slices.DeleteFunc(e.telemetry(), func(r schemas.Telemetry) bool { return r.Source == schemas.SourceHop })
		return len(rows) >= 3
	})
	for _, r := range rows {
		if r.Source != schemas.SourcePublisher || r.App != "live" || r.CDN != "a" || r.VideoWidth.V != 640 || !r.FPS.OK {
			t.Errorf("row %+v", r)
		}
	}
	// The wall-clock of a part is that of its arrival: the chunk cannot have come before it, nor long after.
	r := e.record(demo)
	worst := int64(0)
	for _, c := range r.chunks {
		for _, f := range c.Fragments {
			if d := c.ReceivedUnixUs - f.WallUnixUs; f.Track == schemas.Video {
				worst = max(worst, d, -d)
			}
		}
	}
	t.Logf("received and wall-clock differ by %d ms at most", worst/1000)
}

func (e *env) telemetry() []schemas.Telemetry {
	e.t.Helper()
	var out []schemas.Telemetry
	for _, m := range e.all(schemas.StreamTelemetry) {
		rows, err := schemas.DecodeTelemetry(m.Data)
		if err != nil {
			e.t.Fatal(err)
		}
		if m.Header.Get(schemas.HeaderProducer) == "" || m.Header.Get(schemas.HeaderProducerSeq) == "" {
			e.t.Error("a batch without producer and counter")
		}
		out = append(out, rows...)
	}
	return out
}
