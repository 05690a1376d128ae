package bus

import (
	"testing"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
)

// A server whose store could not be written is started again on its port and data, and connections of both kinds
// come back. ("spillway chaos telemetry" really fills the disk.)
func TestStartsAgainAfterAWriteError(t *testing.T) {
	s, err := Start(Options{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	inside, err := s.Connect("inside", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(inside.Close)
	outside, err := Connect(s.URL(), "outside", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(outside.Close)
	js, err := JetStream(t.Context(), inside, schemas.BusSettings{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "telemetry.0", []byte("before")); err != nil {
		t.Fatal(err)
	}
	first := s.server()
	natsLog{s.o.Logger, s.noteHurt}.Errorf("Filestore [%s] Critical write error: %v", "TELEMETRY", "no space left on device")
	await.True(t, "another server runs", func() bool { return s.server() != first })
	await.True(t, "both connections are back", func() bool {
		return inside.Stats().Reconnects > 0 && inside.IsConnected() && outside.Stats().Reconnects > 0 && outside.IsConnected()
	})
	st, err := js.Stream(t.Context(), schemas.StreamTelemetry)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := st.GetMsg(t.Context(), 1); err != nil || string(m.Data) != "before" {
		t.Errorf("what was acknowledged: %v, %v", m, err)
	}
	if _, err := js.Publish(t.Context(), "telemetry.0", []byte("after")); err != nil {
		t.Error(err)
	}
}
