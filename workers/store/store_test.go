package store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/workers/store"
	"github.com/spillway-live/spillway/workers/store/storetest"
)

func TestFolder(t *testing.T) {
	t.Parallel()
	storetest.Contract(t, func(t *testing.T) store.Objects {
		f, err := store.NewFolder(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		return f
	})
}

func TestS3(t *testing.T) {
	t.Parallel()
	s := storetest.Start(t)
	n := 0
	storetest.Contract(t, func(*testing.T) store.Objects {
		n++
		return s.Store(fmt.Sprintf("tenant-%d/", n))
	})
}

// A service that is away is an error at once, and works again when it is back.
func TestS3ServiceRestarts(t *testing.T) {
	t.Parallel()
	s := storetest.Start(t)
	o := s.Store("")
	if err := o.Put(t.Context(), "a/b", []byte("x")); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	if err := o.Put(t.Context(), "a/c", []byte("y")); err == nil {
		t.Error("a service that is away took an object")
	}
	if _, err := o.List(t.Context(), "", "", 10); err == nil {
		t.Error("a service that is away gave a list")
	}
	s.Run()
	if b, err := store.Get(t.Context(), o, "a/b", 10); err != nil || string(b) != "x" {
		t.Errorf("%q %v", b, err)
	}
}

// What a killed writer left is not listed, and goes away in time.
func TestFolderForgetsUnfinished(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, err := store.NewFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(dir, ".writing", "o-123")
	if err := os.WriteFile(left, []byte("half"), 0o644); err != nil {
		t.Fatal(err)
	}
	if l, err := f.List(t.Context(), "", "", 10); err != nil || len(l) != 0 {
		t.Errorf("%v %v", l, err)
	}
	old := time.Now().Add(-48 * time.Hour)
	if err := os.Chtimes(left, old, old); err != nil {
		t.Fatal(err)
	}
	if _, err := store.NewFolder(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestOpenURL(t *testing.T) {
	t.Parallel()
	if _, err := store.OpenURL(t.Context(), "file://"+t.TempDir()); err != nil {
		t.Error(err)
	}
	if _, err := store.OpenURL(t.Context(), "s3://bucket/some/prefix?endpoint=http://127.0.0.1:9&region=x"); err != nil {
		t.Error(err)
	}
	for u, want := range map[string]string{
		"ftp://x/y": "scheme", "file://host/x": "file:///PATH", "s3:///x": "bucket", "s3://b/p?endpoint=nowhere": "endpoint",
		"s3://b?secret=x": "secret", "s3://b/a//b": "prefix", "s3://user:pass@b/": "environment", "%zz": "URL", "": "scheme",
	} {
		_, err := store.OpenURL(t.Context(), u)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", u, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "pass") {
			t.Errorf("%v shows the password", err)
		}
	}
}
