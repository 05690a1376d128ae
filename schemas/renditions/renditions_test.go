package renditions_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/renditions"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
)

func TestWhatIsMade(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	kv, err := b.JS.KeyValue(t.Context(), schemas.BucketRenditions)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	put := func(stream, name string, height int, epoch uint32, live bool, age time.Duration) {
		t.Helper()
		data, err := json.Marshal(schemas.RenditionState{
			App: "live", Stream: stream, Rendition: name, Live: live, UpdatedUnixUs: now.Add(-age).UnixMicro(),
			Epoch: schemas.EpochOpen{Epoch: epoch, Tracks: []schemas.TrackInfo{{Track: schemas.Video, Height: height}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kv.Put(t.Context(), "live."+stream+"."+name, data); err != nil {
			t.Fatal(err)
		}
	}
	put("one", "240p", 240, 2, true, time.Second)
	put("one", "480p", 480, 2, true, 4*time.Second)
	put("one", "stale", 360, 2, true, 6*time.Second)
	put("one", "ended", 360, 2, false, 0)
	put("one", "before", 360, 1, true, 0)
	put("one2", "240p", 240, 2, true, 0)
	if _, err := kv.Put(t.Context(), "live.one.bad", []byte(`{"app":"live","stream":"one","rendition":"bad"}`)); err != nil {
		t.Fatal(err)
	}
	table := renditions.New(nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- table.Run(ctx, b.JS) }()
	t.Cleanup(func() { cancel(); <-done })
	select {
	case <-table.Ready():
	case <-time.After(20 * time.Second):
		t.Fatal("not read")
	}
	s := &schemas.StreamState{App: "live", Stream: "one", Epoch: schemas.EpochOpen{Epoch: 2}}
	var names []string
	for _, r := range table.Of(s, now) {
		names = append(names, r.Rendition)
	}
	if len(names) != 2 || names[0] != "480p" || names[1] != "240p" {
		t.Errorf("made are %v", names)
	}
	for name, want := range map[string]bool{"240p": false, "before": false, "stale": true, "ended": true, "never": false} {
		if got := table.Retired(s.Key(), name, now); got != want {
			t.Errorf("%s: retired %t", name, got)
		}
	}
}
