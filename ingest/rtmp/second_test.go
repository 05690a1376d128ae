package rtmp_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/bus"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/running"
)

// apply writes an application's settings; servers started later know them.
func (e *env) apply(key string, a schemas.AppSettings) {
	e.t.Helper()
	kv, err := e.bus.JS.KeyValue(e.t.Context(), schemas.BucketApps)
	if err != nil {
		e.t.Fatal(err)
	}
	b, err := json.Marshal(&a)
	if err != nil {
		e.t.Fatal(err)
	}
	if _, err := kv.Put(e.t.Context(), key, b); err != nil {
		e.t.Fatal(err)
	}
}

// publishInBackground pushes a minute in real time; what ffmpeg says at the end comes from the channel.
func (e *env) publishInBackground(ctx context.Context, url string) <-chan string {
	told := make(chan string, 1)
	go func() {
		out, _ := source{rate: 48000, seconds: 60, realtime: true}.publish(ctx, url)
		told <- out
	}()
	return told
}

func (e *env) secondPublishers(outcome string) (n int) {
	for _, v := range e.events(schemas.EventSecondPublisher) {
		if v.Detail["outcome"] == outcome {
			n++
		}
	}
	return n
}

func TestSecondPublisherIsRefused(t *testing.T) {
	t.Parallel()
	e := &env{t: t, bus: bustest.Start(t), log: running.NewLog(t)}
	e.apply("live", schemas.AppSettings{SecondPublisher: schemas.SecondRefused})
	e.serve(nil)
	ctx, stop := context.WithCancel(t.Context())
	first, firstURL := e.publishInBackground(ctx, e.url("live/demo")), e.url("live/demo")
	e.until("the first is live", func() bool { st, _ := e.state(demo); return st.Live && st.Stats.Chunks > 5 })
	e.serve(nil) // another process on the same bus
	for where, url := range map[string]string{"in the same process": firstURL, "in another process": e.url("live/demo")} {
		out, err := source{rate: 48000, seconds: 2}.publish(t.Context(), url)
		if err == nil || !strings.Contains(out, "refuse a second publisher") {
			t.Errorf("%s: %v: the second was told %q", where, err, out)
		}
	}
	e.until("both are told as events", func() bool { return e.secondPublishers("refused") >= 2 })
	before, _ := e.state(demo)
	e.until("the first goes on", func() bool { st, _ := e.state(demo); return st.Live && st.Stats.Chunks > before.Stats.Chunks+3 })
	stop()
	<-first
	e.waitEnd(demo)
	e.mustPublish(source{rate: 48000, seconds: 2}, "live/demo") // and now there is room
	e.until("the second epoch ends", func() bool { st, _ := e.state(demo); return !st.Live && st.Epoch.Epoch == 2 })
	if r := e.record(demo); len(r.opens) != 2 {
		t.Errorf("%d epochs", len(r.opens))
	}
}

// An ingest process that is killed says nothing more to the bus, and its streams'
// states go on saying that they are live. The publisher reconnects to another
// process and goes on under the same address, also where a second one is refused.
func TestIngestProcessDies(t *testing.T) {
	t.Parallel()
	for _, rule := range []schemas.SecondPublisher{schemas.SecondWins, schemas.SecondRefused} {
		t.Run(string(rule), func(t *testing.T) {
			t.Parallel()
			e := &env{t: t, bus: bustest.Start(t), log: running.NewLog(t)}
			e.apply("live", schemas.AppSettings{SecondPublisher: rule})
			nc, err := e.bus.Server.Connect("killed", nil)
			if err != nil {
				t.Fatal(err)
			}
			js, err := bus.JetStream(t.Context(), nc, schemas.BusSettings{})
			if err != nil {
				t.Fatal(err)
			}
			e.serve(func(s *settings) { s.JetStream = js })
			ctx, kill := context.WithCancel(t.Context())
			first := e.publishInBackground(ctx, e.url("live/demo"))
			e.until("it is live", func() bool { st, _ := e.state(demo); return st.Live && st.Stats.Chunks > 14 })
			nc.Close()
			kill()
			<-first
			e.serve(nil)
			e.mustPublish(source{rate: 48000, seconds: 3}, "live/demo")
			e.until("the second epoch ends", func() bool { st, _ := e.state(demo); return !st.Live && st.Epoch.Epoch == 2 })
			r := e.record(demo) // checks that numbers continue
			ends := 1
			if rule == schemas.SecondWins {
				ends = 2 // the second ends the first one's epoch for it
			}
			if len(r.opens) != 2 || r.ends != ends || r.opens[1].DiscontinuitySeq != 1 {
				t.Errorf("%d epochs, %d ends", len(r.opens), r.ends)
			}
		})
	}
}

func TestHookDecides(t *testing.T) {
	t.Parallel()
	e := &env{t: t, bus: bustest.Start(t), log: running.NewLog(t)}
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q struct{ App, Stream, Protocol, Peer string }
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || q.App != "live" || q.Protocol != "rtmp" || q.Peer != "127.0.0.1" {
			t.Errorf("asked %+v, %v", q, err)
		}
		if q.Stream != "demo" {
			http.Error(w, "no more streams this month", http.StatusPaymentRequired)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte(`{"cdn":"c"}`))
	}))
	defer hook.Close()
	e.apply("live", schemas.AppSettings{PublishHookURL: hook.URL})
	e.serve(nil)
	out, err := source{seconds: 2}.publish(t.Context(), e.url("live/other"))
	if err == nil || !strings.Contains(out, "no more streams this month") {
		t.Errorf("%v: the publisher was told %q", err, out)
	}
	e.until("the refusal is told", func() bool {
		for _, v := range e.events(schemas.EventPublishRefused) {
			if v.Stream == "other" && v.Detail["code"] == "hook" && v.Reason == "no more streams this month" {
				return true
			}
		}
		return false
	})
	e.mustPublish(source{rate: 48000, seconds: 2}, "live/demo?cdn=a")
	if st := e.waitEnd(demo); st.Epoch.CDN != "c" {
		t.Errorf("published through %q: the hook said c", st.Epoch.CDN)
	}
}
