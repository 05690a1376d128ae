package router_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
)

// The hot list has what is live and worth showing, changes with the bucket, and
// tells nothing of private streams.
func TestHotList(t *testing.T) {
	t.Parallel()
	b := world(t)
	for _, name := range []string{"frozen", "gone", "other"} {
		s := state(schemas.StreamKey{App: key.App, Stream: name}, "a")
		s.UpdatedUnixUs = time.Now().Add(time.Hour).UnixMicro() // stays fresh
		s.Live = name != "gone"
		put(t, b.JS, schemas.BucketStreams, s.Key().KVKey(), s)
	}
	fresh := state(key, "a")
	fresh.UpdatedUnixUs = time.Now().Add(time.Hour).UnixMicro()
	put(t, b.JS, schemas.BucketStreams, key.KVKey(), fresh)
	put(t, b.JS, schemas.BucketStreams, door.KVKey(), state(door, "a"))
	put(t, b.JS, schemas.BucketApps, door.App, schemas.AppSettings{Private: true})
	off := schemas.HotState{App: key.App, Stream: "frozen", Off: true, Reasons: []string{schemas.HotFrozen}, SinceUs: time.Now().UnixMicro()}
	put(t, b.JS, schemas.BucketHot, key.App+".frozen", off)
	r := start(t, b.JS)
	list := func(query string) (names, left string) {
		a := r.get(t, "/v1/hot?app="+query)
		var l schemas.HotList
		if a.status != 200 || json.Unmarshal([]byte(a.body), &l) != nil {
			t.Fatalf("%d %s", a.status, a.body)
		}
		var on, out []string
		for _, s := range l.Streams {
			on = append(on, s.Stream)
		}
		for _, s := range l.Left {
			out = append(out, s.Stream+":"+strings.Join(s.Reasons, "+"))
		}
		return strings.Join(on, ","), strings.Join(out, ",")
	}
	if on, left := list(key.App + "&all=1"); on != key.Stream+",other" || left != "frozen:frozen" {
		t.Errorf("hot list %q, left %q", on, left)
	}
	if on, left := list(key.App); on != key.Stream+",other" || left != "" {
		t.Errorf("hot list %q, left %q", on, left)
	}
	if on, _ := list(door.App); on != "" {
		t.Errorf("private streams are listed: %q", on)
	}
	off.Off = false
	put(t, b.JS, schemas.BucketHot, key.App+".frozen", off)
	await.True(t, "the stream is back", func() bool { on, _ := list(key.App); return on == key.Stream+",frozen,other" })
	again := state(schemas.StreamKey{App: key.App, Stream: "gone"}, "a") // was passed over while it was not live
	again.UpdatedUnixUs = fresh.UpdatedUnixUs
	put(t, b.JS, schemas.BucketStreams, again.Key().KVKey(), again)
	await.True(t, "the stream that was not live is listed", func() bool { on, _ := list(key.App); return on == key.Stream+",frozen,gone,other" })
	if a := r.get(t, "/v1/hot"); a.status != 400 || !strings.Contains(a.body, "/v1/hot?app=") {
		t.Errorf("%d %s", a.status, a.body)
	}
}
