package rtmp_test

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/bus"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/testenv/running"
)

// The bus goes away in the middle of a publication and comes back with its data:
// every picture arrives, in order, in the same epoch.
func TestBusRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	srv, err := bus.Start(bus.Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { srv.Stop() }()
	u, err := url.Parse(srv.URL())
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	nc, err := bus.Connect(srv.URL(), t.Name(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := bus.JetStream(t.Context(), nc, schemas.BusSettings{})
	if err != nil {
		t.Fatal(err)
	}
	e := &env{t: t, bus: &bustest.Bus{Server: srv, Conn: nc, JS: js}, log: running.NewLog(t)}
	e.serve(nil)
	done := make(chan error, 1)
	go func() {
		out, err := source{rate: 48000, seconds: 8, realtime: true}.publish(t.Context(), e.url("live/demo"))
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		done <- err
	}()
	e.until("media flows", func() bool { st, _ := e.state(demo); return st.Stats.Chunks > 10 })
	srv.Stop()
	e.until("the log tells", func() bool { return strings.Contains(e.log.String(), "does not take media") })
	if srv, err = bus.Start(bus.Options{DataDir: dir, Port: port}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	e.until("the end is written", func() bool { st, ok := e.state(demo); return ok && !st.Live })
	r := e.record(demo)
	if v := r.check.Tracks[schemas.Video]; len(r.opens) != 1 || v.Samples != 240 || r.ends != 1 {
		t.Errorf("%d epochs, %d ends, %+v", len(r.opens), r.ends, v)
	}
	e.until("the incident is told when the bus is back", func() bool { return len(e.events(schemas.EventBackPressure)) >= 1 })
}
