package schemas_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
)

// A wait beyond all that counts is a long one, not none.
func TestWaited(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"": 0, "x": 0, "-5": 0, "-99999999999999999999": 0, "250": 250 * time.Millisecond, "7200000": 2 * time.Hour,
		"604800000": 7 * 24 * time.Hour, "9000000000000": schemas.MaxWaited, "99999999999999999999": schemas.MaxWaited,
	} {
		if got := schemas.Waited(nats.Header{schemas.HeaderWaitedMs: {text}}); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
	if got := schemas.Waited(nil); got != 0 {
		t.Errorf("without headers: %v", got)
	}
	h := nats.Header{}
	for _, d := range []time.Duration{0, 1500 * time.Millisecond, schemas.MaxWaited} {
		if schemas.SetWaited(h, d); schemas.Waited(h) != d {
			t.Errorf("%v: %v", d, h)
		}
	}
	if schemas.SetWaited(h, -time.Hour); h.Get(schemas.HeaderWaitedMs) != "0" {
		t.Errorf("less than nothing: %v", h)
	}
}
