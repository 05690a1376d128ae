package publish_test

import (
	"errors"
	"testing"

	"github.com/spillway-live/spillway/ingest/publish"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
)

// Nobody publishes to the address of a share, and only the puller to a camera's stream.
func TestReservedNamesAreRefused(t *testing.T) {
	b := bustest.Start(t)
	for bucket, entry := range map[string][2]string{
		schemas.BucketShares:  {"live.link", `{"app":"live","stream":"demo"}`},
		schemas.BucketSources: {"live.door", `{"url":"rtsp://127.0.0.1/door"}`},
	} {
		kv, err := b.JS.KeyValue(t.Context(), bucket)
		if err == nil {
			_, err = kv.Put(t.Context(), entry[0], []byte(entry[1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	svc, _ := serve(t, b, nil)
	for stream, code := range map[string]string{"link": "share", "door": "source"} {
		r := here
		r.Key.Stream = stream
		var why *publish.Refused
		if _, err := svc.Admit(t.Context(), r); !errors.As(err, &why) || why.Code != code {
			t.Errorf("%s: %v", stream, err)
		}
	}
	camera := here
	camera.Key.Stream, camera.Trusted = "door", true
	p, err := svc.Admit(t.Context(), camera)
	if err != nil {
		t.Fatal(err)
	}
	_ = p.End(publish.ErrEnded)
	_ = admit(t, svc).End(publish.ErrEnded)
}
