package publish_test

import (
	"encoding/json"
	"testing"

	"github.com/spillway-live/spillway/analytics/experiments/assign"
	"github.com/spillway-live/spillway/ingest/publish"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
)

// The part target is that of the stream's arm, or of its settings, and it does not
// change while a playlist of the stream may be open.
func TestPartTargetOfArmAndSettings(t *testing.T) {
	b := bustest.Start(t)
	put := func(bucket, key string, v any) {
		t.Helper()
		kv, err := b.JS.KeyValue(t.Context(), bucket)
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kv.Put(t.Context(), key, data); err != nil {
			t.Fatal(err)
		}
	}
	parts := func(ms string) map[string]string { return map[string]string{schemas.ParamPartTargetMs: ms} }
	x := schemas.Experiment{Name: "parts", Status: schemas.ExperimentRunning, Salt: "s", Unit: schemas.UnitStream, Layer: "packaging", Coverage: 1,
		Arms: []schemas.Arm{{Name: "short", Weight: 1, Params: parts("120")}, {Name: "long", Weight: 1, Params: parts("120")}}}
	arm, _, _ := assign.Assign(&x, demo.String())
	x.Arms[arm].Params = parts("400")
	put(schemas.BucketExperiments, x.Name, x)
	put(schemas.BucketApps, demo.App, schemas.AppSettings{Params: parts("160")})
	once := func() int64 { // publishes two seconds and gives the picture's part target, us
		t.Helper()
		svc, stop := serve(t, b, nil)
		f := &feed{t: t, p: admit(t, svc)}
		f.must(f.p.Video(video))
		f.run(50, false)
		_ = f.p.End(publish.ErrEnded)
		stop()
		r := record(t, b)
		return r.opens[len(r.opens)-1].Tracks[0].PartTargetUs
	}
	if got := once(); got != 400_000 {
		t.Errorf("part target %d us in an arm of 400 ms", got)
	}
	x.Status = schemas.ExperimentStopped
	put(schemas.BucketExperiments, x.Name, x)
	if got := once(); got != 400_000 {
		t.Errorf("part target %d us: it must not change at once, players hold the playlist", got)
	}
	media, err := b.JS.Stream(t.Context(), schemas.StreamMedia)
	if err != nil {
		t.Fatal(err)
	}
	if err := media.Purge(t.Context()); err != nil { // as retention does
		t.Fatal(err)
	}
	if got := once(); got != 133_334 { // four pictures at 30 a second
		t.Errorf("part target %d us after a rest, 160 ms in the settings", got)
	}
}
