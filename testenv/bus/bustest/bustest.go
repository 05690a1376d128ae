// Package bustest gives tests a real NATS server of their own.
package bustest

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/bus"
)

// Bus is a running server with one connection and every stream and bucket made.
type Bus struct {
	Server *bus.Server
	Conn   *nats.Conn
	JS     jetstream.JetStream
}

// Start runs a server in a temporary directory on a free port; it stops when the test ends.
func Start(t testing.TB) *Bus {
	t.Helper()
	return StartWith(t, schemas.BusSettings{}, bus.Options{})
}

// StartWith is Start with settings; an empty DataDir becomes a temporary one.
func StartWith(t testing.TB, s schemas.BusSettings, o bus.Options) *Bus {
	t.Helper()
	if o.DataDir == "" {
		o.DataDir = t.TempDir()
	}
	srv, err := bus.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Stop)
	nc, err := srv.Connect(t.Name(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	js, err := bus.JetStream(ctx, nc, s)
	if err != nil {
		t.Fatal(err)
	}
	return &Bus{Server: srv, Conn: nc, JS: js}
}

// Put stores v as JSON under a key of a bucket.
func Put(t testing.TB, js jetstream.JetStream, bucket, key string, v any) {
	t.Helper()
	kv, err := js.KeyValue(t.Context(), bucket)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), key, b); err != nil {
		t.Fatal(err)
	}
}
