package ordered_test

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/ordered"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
)

// The consumer is taken away behind the reader's back, without any connection being lost: it goes on where it was,
// however short the waits.
func TestGoesOnWithoutItsConsumer(t *testing.T) {
	b := bustest.Start(t)
	r, err := ordered.Open(t.Context(), b.JS, schemas.StreamTelemetry, []string{"telemetry.1"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	publish := func(n int) {
		t.Helper()
		for _, s := range []string{"telemetry.0", "telemetry.1"} {
			if _, err := b.JS.Publish(t.Context(), s, []byte(strconv.Itoa(n))); err != nil {
				t.Fatal(err)
			}
		}
	}
	read := func(n int) {
		t.Helper()
		for end := time.Now().Add(time.Minute); time.Now().Before(end); {
			m, err := r.Next(t.Context(), 50*time.Millisecond)
			if errors.Is(err, ordered.ErrNothing) {
				continue
			}
			if err != nil || string(m.Data()) != strconv.Itoa(n) {
				t.Fatalf("%v, %v, want message %d", m, err, n)
			}
			return
		}
		t.Fatalf("message %d does not come", n)
	}
	publish(1)
	publish(2)
	read(1)
	read(2)
	st, err := b.JS.Stream(t.Context(), schemas.StreamTelemetry)
	if err != nil {
		t.Fatal(err)
	}
	gone := 0
	for name := range st.ConsumerNames(t.Context()).Name() {
		if err := st.DeleteConsumer(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		gone++
	}
	if gone == 0 {
		t.Fatal("there was no consumer")
	}
	publish(3)
	read(3)
	publish(4)
	read(4)
	if m, err := r.Next(t.Context(), time.Millisecond); !errors.Is(err, ordered.ErrNothing) {
		t.Errorf("%v, %v after the last message", m, err)
	}
}
