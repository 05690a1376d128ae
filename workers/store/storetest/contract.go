// Package storetest holds what every object store must do, and a real S3
// service to try it on.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"

	"github.com/spillway-live/spillway/workers/store"
)

// Contract runs the suite; open gives an empty store.
func Contract(t *testing.T, open func(t *testing.T) store.Objects) {
	for name, f := range map[string]func(*testing.T, store.Objects){
		"objects": objects, "ranges": ranges, "lists": lists, "folders": folders, "delete": remove, "writers": writers, "keys": badKeys,
	} {
		t.Run(name, func(t *testing.T) { f(t, open(t)) })
	}
}

func put(t *testing.T, o store.Objects, key, data string) {
	t.Helper()
	if err := o.Put(t.Context(), key, []byte(data)); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, o store.Objects, key string) string {
	t.Helper()
	b, err := store.Get(t.Context(), o, key, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func objects(t *testing.T, o store.Objects) {
	put(t, o, "a/b/one", "first")
	put(t, o, "a/b/one", "second, longer")
	put(t, o, "a/b/empty", "")
	if s := get(t, o, "a/b/one"); s != "second, longer" {
		t.Errorf("%q", s)
	}
	if s := get(t, o, "a/b/empty"); s != "" {
		t.Errorf("%q", s)
	}
	i, err := o.Stat(t.Context(), "a/b/one")
	if err != nil || i.Size != 14 || i.Key != "a/b/one" || i.Modified.IsZero() {
		t.Errorf("%+v %v", i, err)
	}
	for _, key := range []string{"a/b/none", "a/b", "x/y/z"} {
		if _, err := o.Stat(t.Context(), key); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("stat of %s: %v", key, err)
		}
	}
	if _, err := store.Get(t.Context(), o, "a/b/none", 10); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("read of what is not there: %v", err)
	}
	if _, err := store.Get(t.Context(), o, "a/b/one", 13); err == nil {
		t.Error("more than the limit was read")
	}
}

func ranges(t *testing.T, o store.Objects) {
	put(t, o, "r", "0123456789")
	for _, c := range []struct {
		off, n int64
		want   string
	}{{0, -1, "0123456789"}, {3, -1, "3456789"}, {0, 1, "0"}, {0, 4, "0123"}, {9, 1, "9"}, {8, 100, "89"}, {2, 3, "234"}, {5, 0, ""}} {
		r, err := o.Open(t.Context(), "r", c.off, c.n)
		if err != nil {
			t.Fatalf("%d, %d: %v", c.off, c.n, err)
		}
		b, err := io.ReadAll(r)
		r.Close()
		if err != nil || string(b) != c.want {
			t.Errorf("%d bytes from %d: %q %v, want %q", c.n, c.off, b, err, c.want)
		}
	}
}

func keys(t *testing.T, o store.Objects, prefix, after string, limit int) []string {
	t.Helper()
	l, err := o.List(t.Context(), prefix, after, limit)
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, i := range l {
		out = append(out, i.Key)
	}
	return out
}

func lists(t *testing.T, o store.Objects) {
	if l := keys(t, o, "", "", 10); len(l) != 0 {
		t.Fatalf("the store is not empty: %v", l)
	}
	all := []string{"a-b/x", "a/1/a", "a/1/b", "a/2", "a/2-1/z", "a/3", "b"}
	for _, k := range all {
		put(t, o, k, k)
	}
	for _, c := range []struct {
		prefix, after string
		limit         int
		want          []string
	}{
		{"", "", 100, all},
		{"a/", "", 100, all[1:6]},
		{"a", "", 100, all[:6]},
		{"a/2", "", 100, all[3:5]},
		{"a/", "a/1/a", 100, all[2:6]},
		{"a/", "a/2", 2, all[4:6]},
		{"a/", "a/1", 1, all[1:2]},
		{"a/", "a/1/zz", 100, all[3:6]},
		{"a/", "zz", 100, []string{}},
		{"none/", "", 100, []string{}},
	} {
		if got := keys(t, o, c.prefix, c.after, c.limit); !slices.Equal(got, c.want) {
			t.Errorf("prefix %q after %q limit %d: %v, want %v", c.prefix, c.after, c.limit, got, c.want)
		}
	}
	l, err := o.List(t.Context(), "a/2", "", 1)
	if err != nil || len(l) != 1 || l[0].Size != 3 {
		t.Errorf("%+v %v", l, err)
	}
}

func folders(t *testing.T, o store.Objects) {
	for _, k := range []string{"m/b/c/1", "m/b/c/2", "m/a/1", "m/file", "n/x/1"} {
		put(t, o, k, k)
	}
	for prefix, want := range map[string][]string{"": {"m", "n"}, "m/": {"a", "b"}, "m/b/": {"c"}, "m/b/c/": nil, "zz/": nil} {
		got, err := o.Dirs(t.Context(), prefix)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("folders of %q: %v %v, want %v", prefix, got, err, want)
		}
	}
}

func remove(t *testing.T, o store.Objects) {
	for _, k := range []string{"d/1/a", "d/1/b", "d/2/c"} {
		put(t, o, k, k)
	}
	if err := o.Delete(t.Context(), "d/1/a", "d/1/b", "d/1/never"); err != nil {
		t.Fatal(err)
	}
	if got := keys(t, o, "d/", "", 10); !slices.Equal(got, []string{"d/2/c"}) {
		t.Errorf("%v", got)
	}
	if got, err := o.Dirs(t.Context(), "d/"); err != nil || !slices.Equal(got, []string{"2"}) {
		t.Errorf("%v %v", got, err)
	}
	if err := o.Delete(t.Context()); err != nil {
		t.Error(err)
	}
}

// Writers of the same object, readers and a deleter at once: what is read is whole.
func writers(t *testing.T, o store.Objects) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	data := func(i int) []byte { return bytes.Repeat([]byte{byte('a' + i)}, 100_000+i) }
	var writing, reading sync.WaitGroup
	for i := range 4 {
		writing.Go(func() {
			for range 10 {
				if err := o.Put(ctx, "w/deep/folder/same", data(i)); err != nil {
					t.Error(err)
				}
				if err := o.Put(ctx, fmt.Sprintf("w/deep/other%d", i), data(i)); err != nil {
					t.Error(err)
				}
				if err := o.Delete(ctx, fmt.Sprintf("w/deep/other%d", i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	reading.Go(func() {
		for ctx.Err() == nil {
			b, err := store.Get(ctx, o, "w/deep/folder/same", 1<<20)
			if errors.Is(err, store.ErrNotFound) || ctx.Err() != nil {
				continue
			}
			if err != nil {
				t.Error(err)
				return
			}
			if i := int(b[0] - 'a'); !bytes.Equal(b, data(i)) {
				t.Errorf("%d bytes that are no writer's", len(b))
				return
			}
		}
	})
	writing.Wait()
	cancel()
	reading.Wait()
	if got := keys(t, o, "", "", 10); !slices.Equal(got, []string{"w/deep/folder/same"}) {
		t.Errorf("left: %v", got)
	}
}

func badKeys(t *testing.T, o store.Objects) {
	for _, key := range []string{"", "/a", "a/", "a//b", "../a", "a/../b", ".hidden", "a/.b", "a b", "a\x00", "ä", "a%2fb"} {
		if err := o.Put(t.Context(), key, nil); err == nil {
			t.Errorf("%q was taken", key)
		}
		if _, err := o.Open(t.Context(), key, 0, -1); err == nil {
			t.Errorf("%q was opened", key)
		}
		if err := o.Delete(t.Context(), key); err == nil {
			t.Errorf("%q was deleted", key)
		}
	}
}
