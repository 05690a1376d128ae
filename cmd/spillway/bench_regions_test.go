package main

import (
	"testing"
	"time"

	"github.com/spillway-live/spillway/testenv/regions"
)

// What is measured has come over all links, once.
func TestMeasureRegions(t *testing.T) {
	m, err := measureRegions(t.Context(), quiet(), t.TempDir(), 2, regions.Load{Streams: 2, Kbps: 500, Window: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if m.Messages != 10 || m.Missing != 0 || m.Doubled != 0 || len(m.Hops) != 1 || m.Hops[0].P50Ms <= 0 {
		t.Errorf("%+v", m)
	}
}
