package mirror_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/mirror"
	"github.com/spillway-live/spillway/testenv/await"
)

// Groups follow what is put, deleted and not understood, and what changed while nobody followed.
func TestGroups(t *testing.T) {
	js, kv := bucket(t)
	put := func(k, v string) {
		t.Helper()
		if _, err := kv.Put(t.Context(), k, []byte(v)); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(k string) {
		t.Helper()
		if err := kv.Delete(t.Context(), k); err != nil {
			t.Fatal(err)
		}
	}
	table := mirror.New(schemas.BucketCDNs, text, nil)
	groups := mirror.Group(table, func(key string) string { group, _, _ := strings.Cut(key, "."); return group })
	is := func(group string, want ...string) {
		t.Helper()
		await.True(t, group+" has "+strings.Join(want, " "), func() bool {
			got := groups.Keys(group)
			slices.Sort(got)
			return slices.Equal(got, want)
		})
	}
	put("a.1", "x")
	put("b.1", "x")
	put("a.0", "bad")
	stop := run(t, table, js)
	is("a", "a.1")
	is("b", "b.1")
	is("c")
	put("a.2", "x")
	put("a.1", "y")
	put("a.3", "bad")
	put("c.1", "x")
	is("c", "c.1")
	is("a", "a.1", "a.2")
	put("a.2", "bad") // what was known stays
	remove("c.1")
	is("c")
	is("a", "a.1", "a.2")
	remove("a.9") // was never there
	remove("b.1")
	is("b")
	stop()

	remove("a.1")
	put("b.2", "x")
	defer run(t, table, js)()
	is("b", "b.2")
	is("a", "a.2")
}
