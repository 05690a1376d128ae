package mirror_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/mirror"
	"github.com/spillway-live/spillway/testenv/await"
)

// What a reader has found to be past is not asked about again before it changes.
func TestRecently(t *testing.T) {
	js, kv := bucket(t)
	put := func(k, v string) {
		t.Helper()
		if _, err := kv.Put(t.Context(), k, []byte(v)); err != nil {
			t.Fatal(err)
		}
	}
	table := mirror.New(schemas.BucketCDNs, text, nil)
	recent := mirror.Recently(table)
	round := func() (given, asked string) {
		var g, a []string
		for k := range recent.All(func(key, v string) bool { a = append(a, key); return v == "old" }) {
			g = append(g, k)
		}
		slices.Sort(g)
		slices.Sort(a)
		return strings.Join(g, " "), strings.Join(a, " ")
	}
	has := func(k, v string) {
		t.Helper()
		await.True(t, k+" is "+v, func() bool { got, ok := table.Get(k); return got == v && ok == (v != "") })
	}
	is := func(given, asked string) {
		t.Helper()
		await.Text(t, "a round gives "+given+" and asks about "+asked, func() string {
			if g, a := round(); g != given || a != asked {
				return "it gives " + g + " and asks about " + a
			}
			return ""
		})
	}
	put("a", "old")
	put("b", "new")
	put("c", "new")
	stop := run(t, table, js)
	has("c", "new")
	if g, a := round(); g != "b c" || a != "a b c" {
		t.Errorf("the first round gives %q, asks about %q", g, a)
	}
	is("b c", "b c")
	put("a", "new")
	has("a", "new")
	is("a b c", "a b c")
	put("b", "old")
	if err := kv.Delete(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	has("b", "old")
	has("c", "")
	is("a", "a")
	stop()
	// Read anew, everything is asked about once more.
	asked := map[string]bool{}
	defer run(t, table, js)()
	await.True(t, "all are asked about again", func() bool {
		for k := range recent.All(func(_, _ string) bool { return false }) {
			asked[k] = true
		}
		return asked["a"] && asked["b"]
	})
}
