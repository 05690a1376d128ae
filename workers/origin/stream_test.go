package origin

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluenviron/gohlslib/v2"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/workers"
	"github.com/spillway-live/spillway/workers/packager"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

// paced pushes n chunks, one each d.
func paced(t *testing.T, p *media.Publisher, js jetstream.JetStream, n int, d time.Duration) {
	t.Helper()
	tick := time.NewTicker(d)
	defer tick.Stop()
	for range n {
		<-tick.C
		push(t, p, js, 1)
	}
}

// crash runs a packager on a connection of its own that dies while it holds a
// chunk, as a killed process would: what it was given is lost.
func crash(t *testing.T, b *bustest.Bus, after int64) {
	t.Helper()
	nc, err := b.Server.Connect("crash", nil)
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	var n atomic.Int64
	h := packager.New(nil)
	ctx, cancel := context.WithCancel(context.Background())
	l := &workers.Live{JetStream: js, Role: packager.Role,
		Handler: workers.HandlerFunc(func(ctx context.Context, m []workers.Message) ([]workers.Output, error) {
			if n.Add(1) > after {
				nc.Close()
				return nil, nil
			}
			return h.Handle(ctx, m)
		})}
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx, nil, func() []string { return []string{"chunks.>"} }) }()
	t.Cleanup(func() { cancel(); <-done })
}

// 30 s of a stream, compressed in time, through two packagers of which one dies
// and two origins; players see no missing and no doubled part, every playlist
// keeps the rules, and both origins say the same.
func TestPackagerLossDoesNotShow(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	o1, o2 := run(t, b.JS, usePackagers), run(t, b.JS, usePackagers)
	pack(t, b.JS)
	crash(t, b, 30)
	p := publisher(t, media.Load(t), b.JS)
	push(t, p, b.JS, 11)
	video1 := &follower{base: o1.url + videoPath}
	video2 := &follower{base: o2.url + videoPath}
	audio := &follower{base: o1.url + audioPath, delta: true}
	waits := []func() error{follow(t, video1, "1-19.9.m4s"), follow(t, video2, "1-19.9.m4s"), follow(t, audio, "1-19.0.m4s")}
	paced(t, p, b.JS, 140, 20*time.Millisecond)
	for i, wait := range waits {
		if err := wait(); err != nil {
			t.Fatalf("player %d: %v", i, err)
		}
	}
	if gauge(o1.m.received) == 0 || gauge(o1.m.covered) == 0 {
		t.Errorf("%g parts came from packagers, %g chunks were covered", gauge(o1.m.received), gauge(o1.m.covered))
	}
	if n := len(video1.parts); n != 150 {
		t.Errorf("%d video parts of 150", n)
	}
	compare(t, video1, video2)
	late := run(t, b.JS)
	const query = "playlist.m3u8?_HLS_msn=20&_HLS_part=0"
	a, c := get(t, o1.url+videoPath+query), get(t, late.url+videoPath+query)
	if a.code != 200 || !bytes.Equal(withoutReports(a.body), withoutReports(c.body)) {
		t.Errorf("a late origin says something else:\n%s\n%s", a.body, c.body)
	}
	x, y := get(t, o1.url+videoPath+"1-17.m4s"), get(t, late.url+videoPath+"1-17.m4s")
	if x.code != 200 || !bytes.Equal(x.body, y.body) {
		t.Errorf("segments differ: %d with %d bytes, %d with %d", x.code, len(x.body), y.code, len(y.body))
	}
}

// compare requires that two origins gave the same for the same version, as far
// as players happened to see the same versions.
func compare(t *testing.T, a, b *follower) {
	t.Helper()
	same := 0
	for end, body := range a.bodies {
		if other, ok := b.bodies[end]; ok {
			same++
			if !bytes.Equal(withoutReports(body), withoutReports(other)) {
				t.Errorf("the origins differ before %s:\n%s\n%s", end, body, other)
			}
		}
	}
	t.Logf("%d versions were seen at both origins", same)
}

// withoutReports leaves out where the other track stands: while an origin
// covers, that depends on the moment.
func withoutReports(b []byte) []byte {
	i := bytes.Index(b, []byte("#EXT-X-RENDITION-REPORT"))
	return b[:max(i, 0)]
}

// Origins that read the same bus give the same bytes for every version, whoever
// cuts the parts.
func TestOriginsAgree(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	o1, o2 := run(t, b.JS), run(t, b.JS)
	packed := run(t, b.JS, usePackagers, func(o *Origin) { o.CoverAfter = time.Hour })
	pack(t, b.JS)
	pack(t, b.JS)
	p := publisher(t, media.Load(t), b.JS)
	push(t, p, b.JS, 11)
	for i := 11; i < 60; i++ {
		push(t, p, b.JS, 1)
		query := fmt.Sprintf("playlist.m3u8?_HLS_msn=%d&_HLS_part=%d", 5+i/10, i%10)
		x, y := get(t, o1.url+videoPath+query), get(t, o2.url+videoPath+query)
		if x.code != 200 || y.code != 200 || !bytes.Equal(x.body, y.body) {
			t.Fatalf("%s: the origins differ:\n%d %s\n%d %s", query, x.code, x.body, y.code, y.body)
		}
		z := get(t, packed.url+videoPath+query)
		if z.code != 200 || !bytes.Equal(withoutReports(x.body), withoutReports(z.body)) {
			t.Fatalf("%s: with packagers it is different:\n%s\n%d %s", query, x.body, z.code, z.body)
		}
		name := fmt.Sprintf("1-%d.%d.m4s", 5+i/10, i%10)
		if x, z := get(t, o1.url+videoPath+name), get(t, packed.url+videoPath+name); x.code != 200 || !bytes.Equal(x.body, z.body) {
			t.Fatalf("%s differs: %d, %d bytes; %d, %d bytes", name, x.code, len(x.body), z.code, len(z.body))
		}
	}
	if gauge(packed.m.received) < 49 || gauge(packed.m.covered) > 0 {
		t.Errorf("%g parts came from packagers, %g chunks were covered", gauge(packed.m.received), gauge(packed.m.covered))
	}
	// The last part there is: an earlier one may be answered before or after it arrives.
	const query = "playlist.m3u8?_HLS_msn=10&_HLS_part=9"
	if x, y := get(t, o1.url+audioPath+query), get(t, o2.url+audioPath+query); x.code != 200 || !bytes.Equal(x.body, y.body) {
		t.Errorf("audio: the origins differ:\n%d %s\n%d %s", x.code, x.body, y.code, y.body)
	}
}

// A publisher dies in the middle of a segment and comes back; the old one does
// not know and goes on publishing.
func TestNextEpochClosesTheSegment(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	o := run(t, b.JS)
	pack(t, b.JS)
	clip := media.Load(t)
	p := publisher(t, clip, b.JS)
	push(t, p, b.JS, 11)
	video := &follower{base: o.url + videoPath}
	wait := follow(t, video, "2-10.9.m4s")
	paced(t, p, b.JS, 14, 5*time.Millisecond) // up to 7.4
	p2 := &media.Publisher{Clip: clip, Key: key, Epoch: 2, DSeq: 1, FirstMSN: p.NextMSN(), Start: time.Now().Add(9 * time.Second), Discontinuity: true}
	if err := p2.Announce(t.Context(), b.JS); err != nil {
		t.Fatal(err)
	}
	for range 30 {
		paced(t, p2, b.JS, 1, 5*time.Millisecond)
		push(t, p, b.JS, 1) // the zombie
	}
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	if video.jumps != 1 || len(video.parts) != 25+30 {
		t.Errorf("%d discontinuities, %d parts", video.jumps, len(video.parts))
	}
	// The unfinished segment is complete now, and short.
	for _, s := range video.check.Last().Segments {
		if s.MSN == 7 && (s.URI != "1-7.m4s" || s.Duration < 0.9 || s.Duration > 1.1) {
			t.Errorf("closed segment: %+v", s)
		}
	}
	// Its hinted part will never be.
	if a := get(t, o.url+videoPath+"1-7.5.m4s"); a.code != 404 {
		t.Errorf("part that will never be: %d", a.code)
	}
}

// A chunk that was damaged on the bus is a gap, and playback goes on behind it.
func TestDamagedChunkIsAGap(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	o := run(t, b.JS)
	pack(t, b.JS)
	p := publisher(t, media.Load(t), b.JS)
	push(t, p, b.JS, 12)
	video := &follower{base: o.url + videoPath}
	wait := follow(t, video, "1-7.9.m4s")
	c, payload := p.Chunk()
	m, err := media.Message(c, payload)
	if err != nil {
		t.Fatal(err)
	}
	payload[len(payload)/2] ^= 1
	damaged := workers.Output{Subject: m.Subject, Header: m.Header, Data: payload, MsgID: c.MsgID()}
	if err := workers.Publish(t.Context(), b.JS, []workers.Output{damaged}, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	paced(t, p, b.JS, 17, 5*time.Millisecond)
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	if video.gaps != 1 || len(video.parts) != 29 {
		t.Errorf("%d gaps, %d parts", video.gaps, len(video.parts))
	}
	if a := get(t, o.url+videoPath+"1-6.2.m4s"); a.code != 404 {
		t.Errorf("lost part: %d", a.code)
	}
}

// With the publisher gone a reload is answered with the same playlist, not an error.
func TestPublisherGone(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	o := run(t, b.JS, func(o *Origin) { o.HoldLimit = 200 * time.Millisecond })
	pack(t, b.JS)
	p := publisher(t, media.Load(t), b.JS)
	push(t, p, b.JS, 12)
	before := get(t, o.url+videoPath+"playlist.m3u8?_HLS_msn=6&_HLS_part=1")
	after := get(t, o.url+videoPath+"playlist.m3u8?_HLS_msn=6&_HLS_part=2")
	if after.code != 200 || !bytes.Equal(before.body, after.body) || after.header.Get("Cache-Control") != cacheNone {
		t.Errorf("%d %s\n%s", after.code, after.header.Get("Cache-Control"), after.body)
	}
	if err := p.End(t.Context(), b.JS); err != nil {
		t.Fatal(err)
	}
	await.True(t, "the end closes the segment", func() bool {
		a := get(t, o.url+videoPath+"playlist.m3u8")
		return a.code == 200 && bytes.Contains(a.body, []byte("\n1-6.m4s\n")) && !bytes.Contains(a.body, []byte("ENDLIST"))
	})
}

// A thousand reloads wait for one part: one wake-up, one rendering, one answer.
func TestThousandWaiters(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	o := run(t, b.JS, func(o *Origin) { o.HoldLimit = 50 * time.Second })
	pack(t, b.JS)
	p := publisher(t, media.Load(t), b.JS)
	push(t, p, b.JS, 12)
	url := o.url + videoPath + "playlist.m3u8?_HLS_msn=6&_HLS_part="
	if a := get(t, url+"1"); a.code != 200 {
		t.Fatalf("%d", a.code)
	}
	const n = 1000
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}
	t.Cleanup(client.CloseIdleConnections)
	type result struct {
		body []byte
		err  error
	}
	results := make(chan result, n)
	for range n {
		go func() {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"2", nil)
			if err != nil {
				results <- result{nil, err}
				return
			}
			resp, err := client.Do(r)
			if err != nil {
				results <- result{nil, err}
				return
			}
			defer resp.Body.Close()
			var buf bytes.Buffer
			_, err = buf.ReadFrom(resp.Body)
			if resp.StatusCode != 200 {
				err = fmt.Errorf("status %d", resp.StatusCode)
			}
			results <- result{buf.Bytes(), err}
		}()
	}
	await.True(t, "a thousand held requests", func() bool { return gauge(o.m.held) == n })
	push(t, p, b.JS, 1)
	var first []byte
	for range n {
		r := <-results
		if r.err != nil {
			t.Fatal(r.err)
		}
		if first == nil {
			first = r.body
		}
		if !bytes.Equal(r.body, first) {
			t.Fatal("answers to the same request differ")
		}
	}
	if !bytes.Contains(first, []byte("1-6.2.m4s")) {
		t.Errorf("the part is not listed\n%s", first)
	}
}

// An independent player follows the stream through the multivariant playlist.
func TestOtherPlayer(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	o := run(t, b.JS)
	pack(t, b.JS)
	p := publisher(t, media.Load(t), b.JS)
	push(t, p, b.JS, 40)
	var video, audio atomic.Int64
	c := &gohlslib.Client{URI: o.url + "/live/one/multivariant.m3u8"}
	c.OnTracks = func(tracks []*gohlslib.Track) error {
		if len(tracks) != 2 {
			return fmt.Errorf("%d tracks", len(tracks))
		}
		c.OnDataH26x(tracks[0], func(int64, int64, [][]byte) { video.Add(1) })
		c.OnDataMPEG4Audio(tracks[1], func(_ int64, aus [][]byte) { audio.Add(int64(len(aus))) })
		return nil
	}
	c.OnDecodeError = func(err error) { t.Errorf("decode: %v", err) }
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait2() }()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); video.Load() < 90 || audio.Load() < 120; {
		select {
		case err := <-ended:
			t.Fatalf("the player ended: %v", err)
		case <-tick.C:
			push(t, p, b.JS, 1)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d pictures and %d audio frames after 30 s", video.Load(), audio.Load())
		}
	}
	c.Close()
	<-ended
}

// What the bus announced while the feed could not take it is read from MEDIA.
func TestMissedAnnouncementsAreReadBack(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	o := run(t, b.JS)
	p := publisher(t, media.Load(t), b.JS)
	push(t, p, b.JS, 12)
	video := &follower{base: o.url + videoPath}
	wait := follow(t, video, "1-8.9.m4s")
	await.True(t, "the player is at the edge", func() bool { return gauge(o.m.held) == 1 })
	f := o.watched()[0]
	for _, s := range f.subs {
		if err := s.SetPendingLimits(1, -1); err != nil {
			t.Fatal(err)
		}
	}
	f.reading.Lock()
	push(t, p, b.JS, 28) // the last ones, too, are not heard: no later one shows the gap
	await.True(t, "announcements are dropped", func() bool {
		n, err := f.subs[0].Dropped()
		return err == nil && n > 20
	})
	f.reading.Unlock()
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	if len(video.parts) != 40 || video.gaps != 0 {
		t.Errorf("%d parts, %d gaps", len(video.parts), video.gaps)
	}
	await.True(t, "they are counted", func() bool { return gauge(o.m.dropped) > 20 && gauge(o.m.refetched) > 20 })
}

func TestUnwatchedStreamIsDropped(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	o := run(t, b.JS, func(o *Origin) { o.IdleAfter = 100 * time.Millisecond })
	pack(t, b.JS)
	p := publisher(t, media.Load(t), b.JS)
	push(t, p, b.JS, 12)
	if a := get(t, o.url+videoPath+"playlist.m3u8"); a.code != 200 {
		t.Fatalf("%d", a.code)
	}
	await.True(t, "the feed is dropped", func() bool { return gauge(o.m.watched) == 0 })
	if a := get(t, o.url+videoPath+"playlist.m3u8"); a.code != 200 {
		t.Errorf("after it was dropped: %d", a.code)
	}
}

// A stream that is announced but has no parts yet is waited for.
func TestStreamThatBegins(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	o := run(t, b.JS)
	pack(t, b.JS)
	p := publisher(t, media.Load(t), b.JS)
	got := make(chan answer, 1)
	go func() {
		a, err := fetch(t.Context(), http.MethodGet, o.url+videoPath+"playlist.m3u8")
		if err != nil {
			t.Error(err)
		}
		got <- a
	}()
	await.True(t, "the request is held", func() bool { return gauge(o.m.held) == 1 })
	push(t, p, b.JS, 12)
	if a := <-got; a.code != 200 || !bytes.Contains(a.body, []byte("\n1-5.m4s\n")) {
		t.Errorf("%d\n%s", a.code, a.body)
	}
}

// The bus restarts under a watched stream: the origin goes on where it was.
func TestBusRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	srv, err := bus.Start(bus.Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.Stop() }) // whichever runs then, after those who work with it have stopped
	u, err := url.Parse(srv.URL())
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	nc, err := bus.Connect(srv.URL(), "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := bus.JetStream(t.Context(), nc, schemas.BusSettings{})
	if err != nil {
		t.Fatal(err)
	}
	o := run(t, js)
	pack(t, js)
	p := publisher(t, media.Load(t), js)
	push(t, p, js, 15)
	video := &follower{base: o.url + videoPath}
	wait := follow(t, video, "1-7.9.m4s")
	await.True(t, "the player is at the edge", func() bool { return gauge(o.m.held) == 1 })
	srv.Stop()
	if srv, err = bus.Start(bus.Options{DataDir: dir, Port: port}); err != nil {
		t.Fatal(err)
	}
	await.True(t, "the connection is back", nc.IsConnected)
	push(t, p, js, 16)
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	if len(video.parts) != 30 {
		t.Errorf("%d parts of 30", len(video.parts))
	}
}
