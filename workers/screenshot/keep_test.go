package screenshot

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers"
	"github.com/spillway-live/spillway/workers/store"
	"github.com/spillway-live/spillway/workers/store/storetest"
)

// Pictures of streams that want it are kept, twice delivered ones once, and go
// when their time is over; those of others are not kept. In a folder as in an S3 service.
func TestPicturesAreKept(t *testing.T) {
	folder, err := store.NewFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Run("folder", func(t *testing.T) { keepsPictures(t, folder) })
	t.Run("S3", func(t *testing.T) { keepsPictures(t, storetest.Start(t).Store("tenant/")) })
}

func keepsPictures(t *testing.T, o store.Objects) {
	now := time.Date(2026, 5, 6, 12, 34, 0, 0, time.UTC)
	keep := func(k schemas.StreamKey) time.Duration {
		if k == key {
			return time.Hour
		}
		return 0
	}
	message := func(k schemas.StreamKey, at time.Time) workers.Message {
		head, err := json.Marshal(schemas.Picture{Version: 1, App: k.App, Stream: k.Stream, WallUnixUs: at.UnixMicro(), Hash: 5})
		if err != nil {
			t.Fatal(err)
		}
		return workers.Message{Subject: schemas.PictureSubject(k), Header: nats.Header{schemas.HeaderPicture: {string(head)}}, Data: []byte("jpeg")}
	}
	for _, m := range []workers.Message{
		message(key, now), message(key, now), message(key, now.Add(-2*time.Hour)), message(schemas.StreamKey{App: "live", Stream: "two"}, now),
	} {
		if err := keepOne(t.Context(), o, m, keep); err != nil {
			t.Fatal(err)
		}
	}
	count := func() int {
		list, err := o.List(t.Context(), classPictures+"/", "", 100)
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	if n := count(); n != 2 {
		t.Fatalf("%d pictures are kept, want 2", n)
	}
	if err := SweepPictures(t.Context(), o, now, keep); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 1 {
		t.Errorf("%d pictures after the sweep, want 1", n)
	}
	if b, err := store.Get(t.Context(), o, "pictures/live/one/20260506T1230Z/1778070840000000_0000000000000005.jpg", 100); err != nil || string(b) != "jpeg" {
		t.Errorf("%q %v", b, err)
	}
	if err := keepOne(t.Context(), o, workers.Message{Subject: "pictures.live.one"}, keep); !workers.Rejected(err) {
		t.Errorf("a message without a picture: %v", err)
	}
}
