package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
)

// routing asks the router of a running system where to play live/e2e.
type routing struct {
	t     *testing.T
	u     *upProgram
	first schemas.Dispatch // of the session that players report
}

// blindMs is an age of telemetry that is not reached while a session is reported and slices are made of it.
const blindMs = 4000

// routed gives a system that runs a router a CDN and a live stream, and asks for a session.
func routed(t *testing.T, u *upProgram) *routing {
	t.Helper()
	if code, out, errs := command(t, u.env, nil, "cdn", "set", "a", "--url", "http://a.example"); code != 0 {
		t.Fatalf("cdn set: %d %s %s", code, out, errs)
	}
	nc, err := nats.Connect(u.NATS)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), schemas.BucketStreams)
	if err != nil {
		t.Fatal(err)
	}
	key := schemas.StreamKey{App: "live", Stream: "e2e"}
	b, err := json.Marshal(schemas.StreamState{
		App: key.App, Stream: key.Stream, Live: true, UpdatedUnixUs: time.Now().UnixMicro(),
		Epoch: schemas.EpochOpen{
			Version: 1, App: key.App, Stream: key.Stream, Rendition: schemas.SourceRendition, Epoch: 1, CDN: "a", Protocol: "rtmp",
			Tracks: []schemas.TrackInfo{{Track: schemas.Video, Codec: "avc1.64001f", InitID: strings.Repeat("0", 32), PartTargetUs: 200_000, Timescale: 90000, Width: 1280, Height: 720, FPS: 30}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), key.KVKey(), b); err != nil {
		t.Fatal(err)
	}
	g := &routing{t: t, u: u}
	within(t, time.Minute, "the router answers", func() (err error) { g.first, err = g.dispatch(); return err })
	return g
}

func (g *routing) dispatch() (d schemas.Dispatch, err error) {
	code, body, err := httpGet(g.u.Router + "/v1/dispatch?app=live&stream=e2e")
	if err != nil {
		return d, err
	}
	if err = json.Unmarshal([]byte(body), &d); err != nil || code != 200 || len(d.Candidates) != 1 || d.Candidates[0].CDN != "a" {
		return d, fmt.Errorf("dispatch: %d %s %v", code, body, err)
	}
	return d, nil
}

// knows waits until slices have come to the router.
func (g *routing) knows() {
	g.t.Helper()
	within(g.t, time.Minute, "the router knows telemetry", func() error {
		d, err := g.dispatch()
		if err == nil && d.InputAgeMs < 0 {
			err = fmt.Errorf("its age is %d", d.InputAgeMs)
		}
		return err
	})
}

// ages waits, without telemetry, until the router says so of a new session. It answers all the while.
func (g *routing) ages() (d schemas.Dispatch) {
	g.t.Helper()
	within(g.t, time.Minute, "what the router knows grows old", func() error {
		var err error
		if d, err = g.dispatch(); err != nil {
			g.t.Fatal(err)
		}
		if d.InputAgeMs < blindMs {
			return fmt.Errorf("its age is %d ms", d.InputAgeMs)
		}
		return nil
	})
	for _, token := range []string{g.first.Token, d.Token} {
		if code, body, err := httpGet(g.u.Router + "/v1/steering?s=" + token); err != nil || code != 200 || !strings.Contains(body, `"PATHWAY-PRIORITY":["a"]`) {
			g.t.Errorf("steering without telemetry: %d %s %v", code, body, err)
		}
	}
	return d
}

// recorded waits until the decision about a session that ages gave is in ClickHouse, with its telemetry's age.
func (g *routing) recorded(clickhouse string, d schemas.Dispatch) {
	g.t.Helper()
	type decision struct {
		Chosen string
		Age    int64
	}
	within(g.t, time.Minute, "the decision made meanwhile is in ClickHouse", func() error {
		got, err := tryRows[decision](clickhouse, "SELECT chosen, toInt32(input_age_ms) AS age FROM spillway.decisions WHERE session_id = '%s' AND kind = 'dispatch'", d.SessionID)
		if err == nil && (len(got) != 1 || got[0].Chosen != "a" || got[0].Age < blindMs) {
			err = fmt.Errorf("%+v", got)
		}
		return err
	})
}
