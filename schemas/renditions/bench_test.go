package renditions_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/renditions"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
)

// What a multivariant playlist asks, beside few and many other streams.
func BenchmarkOf(b *testing.B) {
	for _, streams := range []int{1, 1000} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) {
			js := bustest.Start(b).JS
			kv, err := js.KeyValue(b.Context(), schemas.BucketRenditions)
			if err != nil {
				b.Fatal(err)
			}
			now := time.Now()
			for i := range streams {
				for _, height := range []int{240, 480, 720} {
					r := schemas.RenditionState{
						App: "live", Stream: fmt.Sprint("s", i), Rendition: fmt.Sprint(height, "p"), Live: true, UpdatedUnixUs: now.UnixMicro(),
						Epoch: schemas.EpochOpen{Epoch: 1, Tracks: []schemas.TrackInfo{{Track: schemas.Video, Height: height}}},
					}
					data, err := json.Marshal(r)
					if err != nil {
						b.Fatal(err)
					}
					if _, err := kv.Put(b.Context(), fmt.Sprintf("live.s%d.%dp", i, height), data); err != nil {
						b.Fatal(err)
					}
				}
			}
			table := renditions.New(nil)
			ctx, cancel := context.WithCancel(b.Context())
			done := make(chan error, 1)
			go func() { done <- table.Run(ctx, js) }()
			b.Cleanup(func() { cancel(); <-done })
			<-table.Ready()
			s := &schemas.StreamState{App: "live", Stream: "s0", Epoch: schemas.EpochOpen{Epoch: 1}}
			b.ReportAllocs()
			for b.Loop() {
				if n := len(table.Of(s, now)); n != 3 {
					b.Fatalf("%d renditions", n)
				}
			}
		})
	}
}
