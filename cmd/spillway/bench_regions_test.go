package main

import (
	"testing"
	"time"

	"github.com/spillway-live/spillway/testenv/bench/regions"
)

// What is measured has come over all links, once, also over one that was cut meanwhile.
func TestMeasureRegions(t *testing.T) {
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	m, err := regions.Run(t.Context(), regions.Settings{
		Binary: program, TempDir: t.TempDir(), Clip: smallClip(t), Regions: 2, Streams: 2, Window: time.Second, CutFor: 100 * time.Millisecond, Logger: quiet(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if m.Chunks == 0 || m.Missing != 0 || m.Doubled != 0 || len(m.Hops) != 2 || m.Hops[1].P50Ms <= 0 || m.Hops[1].Bytes != m.Hops[0].Bytes || len(m.Regions) != 2 || m.Cut == nil {
		t.Errorf("%+v", m)
	}
}
