package publish_test

import (
	"errors"
	"testing"
	"time"

	"github.com/spillway-live/spillway/ingest/publish"
	"github.com/spillway-live/spillway/ingest/publish/publishtest"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
)

// TestTheNewerOfTwoProcessesHasTheStream: the older one sends chunks so fast
// that some come between the newer one's look at the
// numbering and its first epoch. The newer is never the one that gives up, and
// no number is used twice.
func TestTheNewerOfTwoProcessesHasTheStream(t *testing.T) {
	b := bustest.Start(t)
	for i := range 3 {
		older, stopOlder := serve(t, b, nil)
		newer, stopNewer := serve(t, b, nil)
		old := admit(t, older)
		over := make(chan error, 1)
		go func() {
			f := &feed{t: t, p: old}
			err := old.Video(video)
			pace := time.NewTicker(2 * time.Millisecond) // 20 times real time: a chunk every 10 ms
			defer pace.Stop()
			for err == nil {
				<-pace.C
				err = old.WriteVideo(f.frame())
			}
			<-old.Done()
			over <- old.End(old.Err())
		}()
		await.True(t, "the older one publishes", func() bool {
			st, _ := publishtest.State(t, b.JS, demo)
			return st.Live && st.Epoch.Epoch == uint32(2*i+1)
		})
		f := &feed{t: t, p: admit(t, newer)}
		f.must(f.p.Video(video))
		f.run(100, false)
		if err := f.p.End(publish.ErrEnded); err != nil && !errors.Is(err, publish.ErrEnded) {
			t.Fatalf("the newer publisher ended because %v", err)
		}
		if err := <-over; !errors.Is(err, publish.ErrTakenOver) {
			t.Errorf("the older publisher ended because %v", err)
		}
		stopOlder()
		stopNewer()
	}
	r := record(t, b)
	if v := r.check.Tracks[schemas.Video]; v == nil || len(r.samples) == 0 || r.samples[len(r.samples)-1] != 100 {
		t.Errorf("samples by epoch: %v", r.samples)
	}
}
