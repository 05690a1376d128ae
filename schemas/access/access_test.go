package access_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/access"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
)

func put(t *testing.T, js jetstream.JetStream, bucket, key, value string) {
	t.Helper()
	kv, err := js.KeyValue(t.Context(), bucket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), key, []byte(value)); err != nil {
		t.Fatal(err)
	}
}

func TestWhatAnAddressIs(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	put(t, b.JS, schemas.BucketApps, "home", `{"private":true}`)
	put(t, b.JS, schemas.BucketApps, "home.lobby", `{}`)
	put(t, b.JS, schemas.BucketApps, "odd", `not JSON`)
	put(t, b.JS, schemas.BucketApps, "newer", `{"private":false,"something_new":1}`)
	put(t, b.JS, schemas.BucketShares, "home.link", `{"app":"home","stream":"door","until":2000}`)
	put(t, b.JS, schemas.BucketShares, "pub.gone", `{"app":"home","stream":"door","withdrawn":1000}`)
	a := access.New(nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx, b.JS) }()
	t.Cleanup(func() { cancel(); <-done })
	if err := a.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	door := schemas.StreamKey{App: "home", Stream: "door"}
	now := time.Unix(1500, 0)
	for _, c := range []struct {
		app, stream string
		now         time.Time
		want        access.Access
	}{
		{"home", "door", now, access.Access{Key: door, Private: true}},
		{"home", "lobby", now, access.Access{Key: schemas.StreamKey{App: "home", Stream: "lobby"}}},
		{"live", "demo", now, access.Access{Key: schemas.StreamKey{App: "live", Stream: "demo"}}},
		{"odd", "x", now, access.Access{Key: schemas.StreamKey{App: "odd", Stream: "x"}, Private: true}},
		{"newer", "x", now, access.Access{Key: schemas.StreamKey{App: "newer", Stream: "x"}}},
		{"home", "link", now, access.Access{Key: door, Shared: true, UntilUnix: 2000}},
		{"home", "link", time.Unix(2000, 0), access.Access{Key: door, Shared: true, UntilUnix: 2000, Ended: "this share ended at 1970-01-01T00:33:20Z"}},
		{"pub", "gone", now, access.Access{Key: door, Shared: true, Ended: "this share was withdrawn"}},
	} {
		if got := a.Of(schemas.StreamKey{App: c.app, Stream: c.stream}, c.now); got != c.want {
			t.Errorf("%s/%s: %+v, want %+v", c.app, c.stream, got, c.want)
		}
	}
	limit := time.After(await.Limit)
	put(t, b.JS, schemas.BucketShares, "home.link", `{"app":"home","stream":"door","withdrawn":1500}`)
	for {
		changed := a.SharesChanged()
		got := a.Of(schemas.StreamKey{App: "home", Stream: "link"}, now)
		if got.Ended != "" {
			break
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("the withdrawal is not told: %+v", got)
		}
	}
}
