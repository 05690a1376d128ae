package console

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"io"
	"net/http"
	"testing"
	"time"

	chgo "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/analytics/stats/loghist"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/clickhouse"
	chserver "github.com/spillway-live/spillway/testenv/clickhouse"
	"github.com/spillway-live/spillway/testenv/clickhouse/clickhousetest"
	"github.com/spillway-live/spillway/testenv/running"
)

// database starts a ClickHouse with the schema; it gives an administrator's connection.
func database(t testing.TB) (*chserver.Server, driver.Conn) {
	t.Helper()
	srv := clickhousetest.Start(t)
	return srv, migrate(t, srv)
}

// migrate makes the schema and gives an administrator's connection.
func migrate(t testing.TB, srv *chserver.Server) driver.Conn {
	t.Helper()
	o, err := chgo.ParseDSN(srv.NativeURL(chserver.Admin))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := chgo.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := clickhouse.Migrate(t.Context(), conn, clickhouse.Options{}); err != nil {
		t.Fatal(err)
	}
	return conn
}

func start(t testing.TB, s Settings) *Console {
	t.Helper()
	c, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	running.Start(t, c.Run)
	return c
}

func get(t testing.TB, url string, header ...string) (int, http.Header, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, b
}

func getJSON(t testing.TB, url string, v any) {
	t.Helper()
	code, _, b := get(t, url)
	if code != http.StatusOK {
		t.Fatalf("GET %s: %d %s", url, code, b)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatalf("GET %s: %v in %s", url, err, b)
	}
}

func bucket(t testing.TB, js jetstream.JetStream, name string) jetstream.KeyValue {
	t.Helper()
	kv, err := js.KeyValue(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func put(t testing.TB, kv jetstream.KeyValue, key string, v any) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(context.Background(), key, b); err != nil {
		t.Fatal(err)
	}
}

func registerCDNs(t testing.TB, js jetstream.JetStream) {
	kv := bucket(t, js, schemas.BucketCDNs)
	for i, name := range []string{"a", "b", "c"} {
		put(t, kv, name, schemas.CDN{
			Name: name, BaseURL: "http://127.0.0.1:1", Region: "eu", State: schemas.CDNActive, Order: i,
			CapacityViewers: 200, CapacityBps: 400_000_000,
		})
	}
}

func stateOf(k schemas.StreamKey, now time.Time) schemas.StreamState {
	return schemas.StreamState{
		App: k.App, Stream: k.Stream, Live: true, UpdatedUnixUs: now.UnixMicro(),
		Epoch: schemas.EpochOpen{
			App: k.App, Stream: k.Stream, Rendition: schemas.SourceRendition, Epoch: 1, CDN: "a", Protocol: "rtmp", Encoder: "obs-output/31.0",
			OpenedUnixUs: now.Add(-17 * time.Minute).UnixMicro(),
			Tracks: []schemas.TrackInfo{
				{Track: schemas.Video, Codec: "avc1.64001f", Width: 1280, Height: 720, FPS: 30}, {Track: schemas.Audio, Codec: "mp4a.40.2", SampleRate: 48000},
			},
		},
		Stats: schemas.PublisherStats{FPS: 29.97, VideoBps: 2_520_000, AudioBps: 128_000, KeyframeMs: 2000, Chunks: 900, PeakBps: 3_100_000},
	}
}

// testJPEG draws colour bars shifted by n, so that pictures differ.
func testJPEG(t testing.TB, n int) []byte {
	t.Helper()
	bars := []color.RGBA{{192, 192, 192, 255}, {192, 192, 0, 255}, {0, 192, 192, 255}, {0, 192, 0, 255}, {192, 0, 192, 255}, {192, 0, 0, 255}, {0, 0, 192, 255}}
	img := image.NewRGBA(image.Rect(0, 0, 320, 180))
	for y := range 180 {
		for x := range 320 {
			c := bars[(x*7/320+n)%7]
			if y > 135 {
				v := uint8((x + n*40) * 255 / 720)
				c = color.RGBA{v, v, v, 255}
			}
			if (x-40-(n*37)%240)*(x-40-(n*37)%240)+(y-70)*(y-70) < 500 {
				c = color.RGBA{255, 255, 255, 255}
			}
			img.SetRGBA(x, y, c)
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func publishPicture(t testing.TB, js jetstream.JetStream, k schemas.StreamKey, at time.Time, data []byte) uint64 {
	t.Helper()
	h, err := json.Marshal(schemas.Picture{Version: 1, App: k.App, Stream: k.Stream, WallUnixUs: at.UnixMicro(), Width: 320, Height: 180})
	if err != nil {
		t.Fatal(err)
	}
	ack, err := js.PublishMsg(context.Background(), &nats.Msg{Subject: schemas.PictureSubject(k), Header: nats.Header{schemas.HeaderPicture: {string(h)}}, Data: data})
	if err != nil {
		t.Fatal(err)
	}
	return ack.Sequence
}

// watching is a group of viewers of one stream on one CDN.
type watching struct {
	key       schemas.StreamKey
	cdn       string
	viewers   int
	stall     float64 // share of the time stalled
	latencyMs int64
	startMs   float64
}

// plant writes one slice a second for every viewer over [from, to).
func plant(t testing.TB, conn driver.Conn, from, to time.Time, groups ...watching) {
	t.Helper()
	plantEvery(t, conn, 1, from, to, groups...)
}

// plantEvery writes a slice every so many seconds for every viewer over [from, to).
func plantEvery(t testing.TB, conn driver.Conn, seconds int64, from, to time.Time, groups ...watching) {
	t.Helper()
	b, err := conn.PrepareBatch(context.Background(), `INSERT INTO spillway.session_slices (time_ms, kind, session_id, app, stream, cdn,
		sessions, attempts, starts, startup_ms, played_ms, stalled_ms, stalls, latency_ms_sum, latency_weight_ms, requests, request_bytes,
		first_screen_bins, first_screen_counts)`)
	if err != nil {
		t.Fatal(err)
	}
	length := 1000 * seconds
	for second := int64(0); from.Add(time.Duration(second) * time.Second).Before(to); second += seconds {
		at := from.Add(time.Duration(second) * time.Second)
		for gi, g := range groups {
			for v := range int64(g.viewers) {
				var first int64
				bins, counts := []int64{}, []int64{}
				if (second/seconds+v)%60 == 0 {
					first, bins, counts = 1, []int64{int64(loghist.BinOf(g.startMs * (0.7 + 0.1*float64(v%10))))}, []int64{1}
				}
				stalled := int64(float64(length) * g.stall * (0.5 + float64((second*7+v*13)%10)/9))
				if err := b.Append(at.UnixMilli(), "delta", fmt.Sprintf("s-%s-%s-%d-%d", g.key.Stream, g.cdn, gi, v), g.key.App, g.key.Stream, g.cdn,
					first, first, first, first*int64(g.startMs), length-stalled, stalled, min(stalled, 1),
					(g.latencyMs+second%30*4)*(length-stalled), length-stalled, 3*seconds, (330_000+second%20*2000)*seconds, bins, counts); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := b.Send(); err != nil {
		t.Fatal(err)
	}
}
