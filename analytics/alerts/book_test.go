package alerts

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/dashboards/queries"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
)

// TestBus runs on one server what needs a real one.
func TestBus(t *testing.T) {
	b := bustest.Start(t)
	t.Run("book", func(t *testing.T) { testBook(t, b) })
	t.Run("raised before", func(t *testing.T) { testRaisedBefore(t, b) })
	t.Run("raised and purged", func(t *testing.T) { testRaisedAndPurged(t, b) })
	t.Run("ClickHouse hangs", func(t *testing.T) { testHang(t, b) })
}

// testBook: entries that cannot be read are written over, those that the bucket let go of are written anew, and
// those of another process are not touched.
func testBook(t *testing.T, b *bustest.Bus) {
	kv, err := b.JS.KeyValue(t.Context(), schemas.BucketAlerts)
	if err != nil {
		t.Fatal(err)
	}
	alert := func(subject, state string) (string, *schemas.Alert) {
		return schemas.AlertKey(queries.AlertBalance, subject), &schemas.Alert{Rule: queries.AlertBalance, Subject: subject, State: state}
	}
	unread, a := alert("unread", schemas.AlertOpen)
	if _, err := kv.Put(t.Context(), unread, []byte("{")); err != nil {
		t.Fatal(err)
	}
	deleted, d := alert("deleted", schemas.AlertPending)
	if _, err := kv.Put(t.Context(), deleted, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if err := kv.Delete(t.Context(), deleted); err != nil {
		t.Fatal(err)
	}
	own, err := openBook(t.Context(), kv)
	if err != nil {
		t.Fatal(err)
	}
	put := func(why, key string, a *schemas.Alert) {
		t.Helper()
		if err := own.put(t.Context(), key, a); err != nil {
			t.Errorf("%s: %v", why, err)
		}
		e, err := kv.Get(t.Context(), key)
		if a == nil {
			if !errors.Is(err, jetstream.ErrKeyNotFound) {
				t.Errorf("%s: still there, %v", why, err)
			}
			return
		}
		if err != nil {
			t.Fatalf("%s: %v", why, err)
		}
		if got, err := schemas.ParseAlert(key, e.Value()); err != nil || got.State != a.State || own.all[key].revision != e.Revision() {
			t.Errorf("%s: %+v at %d, %v; %d in memory", why, got, e.Revision(), err, own.all[key].revision)
		}
	}
	put("over what cannot be read", unread, a)
	put("after a deletion", deleted, d)
	put("a deletion", deleted, nil)
	put("after an own deletion", deleted, d)

	aged, r := alert("aged", schemas.AlertResolved)
	put("new", aged, r)
	st, err := b.JS.Stream(t.Context(), "KV_"+schemas.BucketAlerts)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Purge(t.Context(), jetstream.WithPurgeSubject("$KV."+schemas.BucketAlerts+"."+aged)); err != nil { // as the bucket's age limit does
		t.Fatal(err)
	}
	_, again := alert("aged", schemas.AlertPending)
	put("after the bucket let it go", aged, again)

	if _, err := kv.Put(t.Context(), aged, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if err := own.put(t.Context(), aged, r); !errors.Is(err, errOvertaken) {
		t.Errorf("over another's entry: %v", err)
	}
}

// TestForget: memory keeps of what is over no more than the bucket does.
func TestForget(t *testing.T) {
	now := time.Unix(1_795_000_000, 0)
	over := func(ago time.Duration, told bool) entry {
		return entry{&schemas.Alert{State: schemas.AlertResolved, ResolvedUs: now.Add(-ago).UnixMicro(), Told: told}, 1}
	}
	b := &book{all: map[string]entry{
		"old": over(8*24*time.Hour, true), "not told": over(8*24*time.Hour, false), "of late": over(6*24*time.Hour, true),
		"unread": {nil, 1}, "open": {&schemas.Alert{State: schemas.AlertOpen}, 1},
	}}
	b.forget(now)
	if _, has := b.all["old"]; has || len(b.all) != 4 {
		t.Errorf("kept: %v", b.all)
	}
}
