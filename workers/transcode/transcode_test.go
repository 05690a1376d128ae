package transcode

import (
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

// Every rung has the source's segments and parts, decodes, and is announced.
func TestRenditionsAreAligned(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	setLadder(t, b.JS, key.App, ladder)
	src := follow(t, b.JS, key, schemas.SourceRendition)
	rungs := map[string]*follower{"144p": follow(t, b.JS, key, "144p"), "90p": follow(t, b.JS, key, "90p")}
	stop := pushing(t, b.JS, &media.Publisher{Clip: media.Load(t), Key: key, FirstMSN: 7, Start: time.Now()})
	watch(t, b.Conn, key)
	start(t, &Worker{JetStream: b.JS, LeaseTTL: 400 * time.Millisecond})
	got := map[string][]made{}
	for name, f := range rungs {
		got[name] = f.next(32)
	}
	state := stateOf(t, b.JS, key, "144p")
	stop()
	source := bySeq(src.next(len(src.chunks)))
	for name, chunks := range got {
		if first := &chunks[0].Fragments[0]; !first.SegmentStart {
			t.Errorf("%s begins in the middle of segment %d", name, first.MSN)
		}
		if n := compare(t, b.JS, chunks, source); n != 32*media.PartFrames {
			t.Errorf("%s has %d frames", name, n)
		}
	}
	if state == nil || !state.Live || state.AverageBps <= 0 || state.PeakBps < state.AverageBps || len(state.Epoch.Tracks) != 1 {
		t.Fatalf("state %+v", state)
	}
	if v := state.Epoch.Tracks[0]; v.Width != 256 || v.Height != 144 || v.FPS != media.FPS || v.FirstMSN < 7 || v.InitID != got["144p"][0].Fragments[0].InitID {
		t.Errorf("track %+v", v)
	}
	if stateOf(t, b.JS, key, "720p") != nil {
		t.Error("a rung higher than the source was made")
	}
}
