package rtmp_test

import (
	"net"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/ingest/certs"
	"github.com/spillway-live/spillway/ingest/certs/certstest"
	"github.com/spillway-live/spillway/schemas"
)

func TestRTMPS(t *testing.T) {
	t.Parallel()
	cert, key := certstest.Write(t, t.TempDir(), "ingest")
	files, err := certs.Open(cert, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	e := start(t, schemas.BusSettings{}, func(s *settings) { s.rtmp.ListenTLS, s.rtmp.TLS = "127.0.0.1:0", files.Config() })
	addr := e.srv.AddrTLS().String()
	out, err := source{rate: 48000, seconds: 6, size: "640x360", extra: noisy}.publish(t.Context(), "rtmps://"+addr+"/live/demo")
	if err != nil {
		t.Fatalf("ffmpeg: %v: %s", err, out)
	}
	if st := e.waitEnd(demo); st.Epoch.Protocol != "rtmps" {
		t.Errorf("published over %q", st.Epoch.Protocol)
	}
	r := e.record(demo)
	if v := r.check.Tracks[schemas.Video]; len(r.opens) != 1 || r.ends != 1 || v.Samples != 180 {
		t.Errorf("%d epochs, %d ends, %+v", len(r.opens), r.ends, v)
	}
	// A plain publisher on the encrypted port is refused with a reason.
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(make([]byte, 2000)); err != nil {
		t.Fatal(err)
	}
	e.until("the refusal is told", func() bool {
		for _, v := range e.events(schemas.EventPublishRefused) {
			if v.Detail["code"] == "tls" && v.Detail["protocol"] == "rtmps" && strings.Contains(v.Reason, "TLS handshake") {
				return true
			}
		}
		return false
	})
}
