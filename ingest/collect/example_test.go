package collect_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/ingest/collect"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/bus"
)

// Telemetry is read straight off the bus with nothing but NATS and Arrow: here a
// player's three events, which a collector has taken.
func Example_telemetryOffTheBus() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	js, post, end := startCollector(ctx)
	defer end()
	post(`e=ps,sta=s,sid="s1",cid="live/one",sn=0,v=2` + "\n" + `e=ps,sta=p,sid="s1",cid="live/one",sn=1,br=(2400),v=2` + "\n" + `e=t,sta=p,sid="s1",cid="live/one",sn=2,br=(2400),bl=(1800),v=2`)

	// This is the whole reader. On a live system: nats.Connect and jetstream.New.
	messages, err := js.OrderedConsumer(ctx, "TELEMETRY", jetstream.OrderedConsumerConfig{FilterSubjects: []string{"telemetry.*"}})
	if err != nil {
		log.Fatal(err)
	}
	seen := map[string]uint64{} // producer and subject: highest counter
	for rows := 0; rows < 3; {
		msg, err := messages.Next()
		if err != nil {
			log.Fatal(err)
		}
		h := msg.Headers()
		if h.Get("Spillway-Kind") != "" {
			continue // a tick: no rows
		}
		producer := h.Get("Spillway-Producer") + " " + msg.Subject()
		counter, err := strconv.ParseUint(h.Get("Spillway-Producer-Seq"), 10, 64)
		if err != nil || counter <= seen[producer] {
			continue // a batch that came before
		}
		seen[producer] = counter
		r, err := ipc.NewReader(bytes.NewReader(msg.Data()))
		if err != nil {
			log.Fatal(err)
		}
		for r.Next() {
			rec := r.Record()
			column := map[string]func(row int) string{} // by name: columns without any value are not there
			for i, f := range rec.Schema().Fields() {
				column[f.Name] = rec.Column(i).ValueStr
			}
			value := func(name string, row int) string {
				if text, ok := column[name]; ok && text(row) != array.NullValueStr {
					return text(row)
				}
				return "-"
			}
			for row := range int(rec.NumRows()) {
				fmt.Println(value("session_id", row), value("event", row), value("state", row), value("bitrate_kbps", row), value("buffer_ms", row), value("playhead_ms", row))
				rows++
			}
		}
		r.Release()
	}
	// Output:
	// s1 ps s - - -
	// s1 ps p 2400 - -
	// s1 t p 2400 1800 -
}

// startCollector runs a bus and a collector on it.
func startCollector(ctx context.Context) (js jetstream.JetStream, post func(body string), end func()) {
	check := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp("", "spillway-example")
	check(err)
	srv, err := bus.Start(bus.Options{DataDir: dir})
	check(err)
	nc, err := srv.Connect("example", nil)
	check(err)
	js, err = bus.JetStream(ctx, nc, schemas.BusSettings{})
	check(err)
	c, err := collect.New(collect.Settings{JS: js, SpoolDir: dir + "/spool", FlushAfter: time.Millisecond})
	check(err)
	run, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- c.Run(run) }()
	web := httptest.NewServer(c.Handler())
	post = func(body string) {
		res, err := http.Post(web.URL+"/v1/cmcd", "application/cmcd", strings.NewReader(body))
		check(err)
		res.Body.Close()
		if res.StatusCode != http.StatusNoContent {
			log.Fatal(res.Status)
		}
	}
	return js, post, func() {
		web.Close()
		stop()
		check(<-done)
		nc.Close()
		srv.Stop()
		check(os.RemoveAll(dir))
	}
}
