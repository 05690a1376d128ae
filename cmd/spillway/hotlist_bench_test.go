package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/need"
	"github.com/spillway-live/spillway/workers/router"
)

// hotBench is a system with everything a hot list needs, and what was heard of it.
type hotBench struct {
	*cli
	rtmp, collector, router string
	left                    chan heardLeft
}

type heardLeft struct {
	stream, reasons string
	at              time.Time
}

func newHotBench(b *testing.B) *hotBench {
	h := &hotBench{cli: newCLI(b), left: make(chan heardLeft, 256)}
	sec, err := loadSecrets(h.dir)
	if err != nil {
		b.Fatal(err)
	}
	signer, err := sec.signer()
	if err != nil {
		b.Fatal(err)
	}
	d := &deps{js: h.bus.JS, logger: quiet(), reg: prometheus.NewRegistry(), secrets: sec, signer: signer, dataDir: h.dir}
	ingest, servers, err := d.ingestRole(b.Context(), ingestFlags{rtmp: "127.0.0.1:0", open: true})
	if err != nil {
		b.Fatal(err)
	}
	collect, collector, err := d.collectorRole("127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	route, r, err := d.routerRole(router.Settings{Addr: "127.0.0.1:0"}, false)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := h.bus.Conn.Subscribe("events.hot_left.>", func(m *nats.Msg) {
		var e schemas.Event
		if schemas.DecodeRecord(m.Data, &e) == nil {
			h.left <- heardLeft{e.Stream, e.Detail["reasons"], time.Now()}
		}
	}); err != nil {
		b.Fatal(err)
	}
	for _, r := range []role{ingest, collect, route, d.screenshotRole(pictureFlags{}), d.hotListRole()} {
		background(b, r.name, r.run)
	}
	<-servers.rtmp.Ready()
	<-r.Ready()
	h.rtmp, h.collector, h.router = "rtmp://"+servers.rtmp.Addr().String()+"/live/", collector, r.URL()
	return h
}

// push publishes what changes after a time by itself, with key frames every 2 s and sound.
func (h *hotBench) push(name, source string) {
	bin := need.Program(h.t, "ffmpeg")
	background(h.t, "ffmpeg of "+name, func(ctx context.Context) error {
		out, err := exec.CommandContext(ctx, bin, "-hide_banner", "-loglevel", "error", "-nostdin", "-re", "-f", "lavfi", "-i", source, "-re", "-f", "lavfi", "-i", "sine=frequency=300",
			"-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "20", "-pix_fmt", "yuv420p", "-threads", "1", "-c:a", "aac", "-f", "flv", h.rtmp+name).CombinedOutput()
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("it ended by itself: %w: %s", err, out)
	})
}

// goesBackground reports it and gives when.
func (h *hotBench) goesBackground(name string) time.Time {
	yes := true
	body, err := json.Marshal(schemas.PublisherReport{App: "live", Stream: name, Seq: 1, IntervalMs: 1000, Background: &yes})
	if err != nil {
		h.t.Fatal(err)
	}
	key := strings.TrimSpace(h.ok("key", "live/"+name))
	at := time.Now()
	resp, err := http.Post(h.collector+"/v1/publisher?key="+key, "application/json", bytes.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		h.t.Fatal(resp.Status)
	}
	return at
}

// gone waits until the router's list is without the stream, and gives when.
func (h *hotBench) gone(name string) time.Time {
	h.t.Helper()
	await.Text(h.t, name+" is not listed", func() string {
		_, body, err := httpGet(h.router + "/v1/hot?app=live")
		if err != nil || strings.Contains(body, `"`+name+`"`) || !strings.Contains(body, `"streams"`) {
			return fmt.Sprint(body, err)
		}
		return ""
	})
	return time.Now()
}

// BenchmarkHotList is how long a stream stays on the hot list once it is in the
// background, sends no video any more, is black or stands still, from publisher
// to event and to what apps are answered: at pictures every 5 s, key frames every
// 2 s, 6 streams of each kind that change at different moments. Promised are 3 s,
// 3 s, 11 s and 11 s. The moment of a change is known to about 0.1 s.
func BenchmarkHotList(b *testing.B) {
	const each = 6
	for b.Loop() {
		h := newHotBench(b)
		streams, err := registry.Open(b.Context(), h.bus.JS, schemas.BucketStreams, schemas.ParseStreamState)
		if err != nil {
			b.Fatal(err)
		}
		changes := map[string]time.Duration{}
		for i := range each {
			after := 12*time.Second + time.Duration(i)*1700*time.Millisecond
			for kind, rest := range map[string]string{"black": ",tpad=stop_mode=add:stop_duration=600:color=black", "frozen": ",tpad=stop_mode=clone:stop_duration=600", "stopped": ""} {
				name := fmt.Sprintf("%s%d", kind, i)
				changes[name] = after
				h.push(name, fmt.Sprintf("testsrc2=duration=%.1f%s%s", after.Seconds(), smallSource, rest))
			}
			h.push(fmt.Sprintf("background%d", i), "testsrc2=duration=600"+smallSource)
		}
		took := map[string][]float64{}
		hear := func(background time.Time) {
			var l heardLeft
			select {
			case l = <-h.left:
			case <-time.After(await.Limit):
				b.Fatalf("only these have left: %v", took)
			}
			changed := background
			if after, ok := changes[l.stream]; ok {
				s, err := streams.Get(b.Context(), "live."+l.stream)
				if err != nil {
					b.Fatal(err)
				}
				changed = time.UnixMicro(s.Epoch.OpenedUnixUs).Add(after)
			}
			listed := h.gone(l.stream).Sub(changed).Seconds()
			b.Logf("%-12s %-10s event after %.2f s, list after %.2f s", l.stream, l.reasons, l.at.Sub(changed).Seconds(), listed)
			kind := strings.TrimRight(l.stream, "0123456789")
			took[kind] = append(took[kind], listed)
		}
		// These are over before the first of the others changes.
		for i := range each {
			name := fmt.Sprintf("background%d", i)
			await.True(b, name+" is live", func() bool { _, err := streams.Get(b.Context(), "live."+name); return err == nil })
			hear(h.goesBackground(name))
		}
		for range 3 * each {
			hear(time.Time{})
		}
		for kind, list := range took {
			slices.Sort(list)
			b.ReportMetric(list[len(list)-1], kind+"-most-s")
			b.ReportMetric(list[len(list)/2], kind+"-median-s")
		}
	}
}
