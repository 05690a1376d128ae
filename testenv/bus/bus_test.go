package bus_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/bus"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
)

func TestRestartKeepsData(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	const n = 50
	for run := range 2 {
		srv, err := bus.Start(bus.Options{DataDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		nc, err := bus.Connect(srv.URL(), "test", nil)
		if err != nil {
			t.Fatal(err)
		}
		js, err := bus.JetStream(ctx, nc, schemas.BusSettings{})
		if err != nil {
			t.Fatal(err)
		}
		if run == 0 {
			for i := range n {
				if _, err := js.Publish(ctx, schemas.TelemetrySubject(i%schemas.TelemetryPartitions), []byte("x"), jetstream.WithMsgID(strconv.Itoa(i))); err != nil {
					t.Fatal(err)
				}
			}
		} else {
			s, err := js.Stream(ctx, schemas.StreamTelemetry)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.CachedInfo().State.Msgs; got != n {
				t.Errorf("after the restart %d messages, want %d", got, n)
			}
		}
		nc.Close()
		srv.Stop()
	}
}

func TestBusyPortIsSaidPlainly(t *testing.T) {
	b := bustest.Start(t)
	u := b.Server.URL()
	port, err := strconv.Atoi(u[strings.LastIndex(u, ":")+1:])
	if err != nil {
		t.Fatal(err)
	}
	_, err = bus.Start(bus.Options{DataDir: t.TempDir(), Port: port})
	if err == nil || !strings.Contains(err.Error(), "choose another port") {
		t.Errorf("error %v does not give the remedy", err)
	}
}

func TestWrongPasswordIsRefusedAndNotPrinted(t *testing.T) {
	b := bustest.Start(t)
	u := strings.Replace(b.Server.URL(), "spillway:", "spillway:wrong-secret-", 1)
	_, err := bus.Connect(u, "test", nil)
	if err == nil {
		t.Fatal("a wrong password was accepted")
	}
	if strings.Contains(err.Error(), "wrong-secret") {
		t.Errorf("the error prints the password: %v", err)
	}
}

func TestLargestChunkFits(t *testing.T) {
	b := bustest.Start(t)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	k := schemas.StreamKey{App: "live", Stream: "x"}
	if _, err := b.JS.Publish(ctx, schemas.MediaSubject(k, schemas.SourceRendition), make([]byte, schemas.MaxPayloadBytes)); err != nil {
		t.Errorf("the largest allowed payload was refused: %v", err)
	}
}

// A bus of an earlier version has a stream of parts: it goes, and media is announced.
func TestFormerBusIsBroughtUpToDate(t *testing.T) {
	b := bustest.Start(t)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := b.JS.CreateStream(ctx, jetstream.StreamConfig{Name: "PARTS", Subjects: []string{"parts.>"}}); err != nil {
		t.Fatal(err)
	}
	for _, c := range schemas.StreamConfigs(schemas.BusSettings{}) {
		if c.Name == schemas.StreamMedia {
			c.RePublish = nil
			if _, err := b.JS.UpdateStream(ctx, c); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2 {
		if err := schemas.EnsureBus(ctx, b.JS, schemas.BusSettings{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.JS.Stream(ctx, "PARTS"); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("the stream of parts: %v", err)
	}
	k := schemas.StreamKey{App: "live", Stream: "x"}
	sub, err := b.Conn.SubscribeSync(schemas.ChunksFilter(k))
	if err != nil {
		t.Fatal(err)
	}
	subject := schemas.MediaSubject(k, schemas.SourceRendition)
	for _, data := range []string{"one", "two"} {
		if _, err := b.JS.Publish(ctx, subject, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range []string{"one", "two"} {
		m, err := sub.NextMsg(20 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if string(m.Data) != want || m.Header.Get("Nats-Subject") != subject || m.Header.Get("Nats-Sequence") != strconv.Itoa(i+1) || m.Header.Get("Nats-Last-Sequence") != strconv.Itoa(i) {
			t.Errorf("announcement %d: %q %v", i, m.Data, m.Header)
		}
	}
}
