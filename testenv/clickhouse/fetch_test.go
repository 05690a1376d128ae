//go:build linux

package clickhouse

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/spillway-live/spillway/testenv/await"
)

// smallPackage is an archive shaped like the real one, in a file, with what must be pinned for it. The real one
// is fetched by the real npm for every test that starts a server.
func smallPackage(t *testing.T, files map[string]string) (archive string, want pinned) {
	t.Helper()
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	tw := tar.NewWriter(zw)
	for name, content := range files {
		err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content)), Typeflag: tar.TypeReg})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), zw.Close()); err != nil {
		t.Fatal(err)
	}
	archive = filepath.Join(t.TempDir(), "small.tgz")
	if err := os.WriteFile(archive, buf.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	sum512 := sha512.Sum512(buf.Bytes())
	library := files["package/libchdb.so"]
	sum256 := sha256.Sum256([]byte(library))
	return archive, pinned{
		Package: "@example/small", Version: "1.2.3",
		ArchiveSHA512: base64.StdEncoding.EncodeToString(sum512[:]), ArchiveBytes: int64(buf.Len()),
		LibrarySHA256: hex.EncodeToString(sum256[:]), LibraryBytes: int64(len(library)),
	}
}

// npmScript stands in for npm; it logs each call's arguments to a file beside it.
func npmScript(t *testing.T, body string) (npm string, calls func() []string) {
	t.Helper()
	dir := t.TempDir()
	npm, log := filepath.Join(dir, "npm"), filepath.Join(dir, "calls")
	script := fmt.Sprintf("#!/bin/sh\necho \"$@\" >>%s\nfor a in \"$@\"; do case $a in --pack-destination=*) dest=${a#*=};; esac; done\n%s\n", log, body)
	if err := os.WriteFile(npm, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return npm, func() []string {
		b, _ := os.ReadFile(log)
		return strings.Split(strings.TrimSpace(string(b)), "\n")
	}
}

func newFetcher(t *testing.T, want pinned, npm string) (*fetcher, *bytes.Buffer) {
	progress := &bytes.Buffer{}
	return &fetcher{dir: t.TempDir(), want: want, npm: npm, logger: slog.New(slog.DiscardHandler), progress: progress}, progress
}

func TestFetch(t *testing.T) {
	archive, want := smallPackage(t, map[string]string{"package/index.js": "//", "package/libchdb.so": "a library", "package/other.node": "x"})
	npm, calls := npmScript(t, "cp "+archive+" $dest/example-small-1.2.3.tgz")
	f, progress := newFetcher(t, want, npm)
	path, err := f.library(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "a library" {
		t.Fatalf("library holds %q, %v", b, err)
	}
	if got := calls(); len(got) != 1 || !strings.HasPrefix(got[0], "pack ") || !strings.HasSuffix(got[0], " @example/small@1.2.3") {
		t.Errorf("npm was called with %q", got)
	}
	if !strings.Contains(progress.String(), "fetching ClickHouse") {
		t.Errorf("progress = %q", progress)
	}
	names, _ := os.ReadDir(filepath.Dir(path))
	for _, n := range names {
		if n.Name() != "libchdb.so" && n.Name() != "libchdb.so.verified" && n.Name() != "lock" {
			t.Errorf("left behind: %s", n.Name())
		}
	}

	t.Run("again without npm", func(t *testing.T) {
		if _, err := f.library(t.Context()); err != nil || len(calls()) != 1 {
			t.Errorf("error %v after %d calls", err, len(calls()))
		}
	})
	t.Run("copied by hand", func(t *testing.T) { // the marker no longer fits, the content does
		later := time.Now().Add(time.Hour)
		if err := os.Chtimes(path, later, later); err != nil {
			t.Fatal(err)
		}
		if _, err := f.library(t.Context()); err != nil || len(calls()) != 1 || !f.trusted(path) {
			t.Errorf("error %v after %d calls", err, len(calls()))
		}
	})
	t.Run("damaged in the cache", func(t *testing.T) {
		if err := errors.Join(os.Chmod(path, 0o700), os.WriteFile(path, []byte("b library"), 0o700)); err != nil {
			t.Fatal(err)
		}
		if _, err := f.library(t.Context()); err != nil {
			t.Fatal(err)
		}
		if b, _ := os.ReadFile(path); string(b) != "a library" || len(calls()) != 2 {
			t.Errorf("library holds %q after %d calls", b, len(calls()))
		}
	})
}

func TestFetchOnceForAll(t *testing.T) {
	archive, want := smallPackage(t, map[string]string{"package/libchdb.so": "a library"})
	npm, calls := npmScript(t, "sleep 0.2; cp "+archive+" $dest/small.tgz")
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, want.Version, "fetch-of-the-dead"), 0o700); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 { // flock is held by open file, so goroutines exclude each other as processes do
		wg.Go(func() {
			f := &fetcher{dir: dir, want: want, npm: npm, logger: slog.New(slog.DiscardHandler), progress: &bytes.Buffer{}}
			if _, err := f.library(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(calls()); n != 1 {
		t.Errorf("npm was called %d times", n)
	}
	if _, err := os.Stat(filepath.Join(dir, want.Version, "fetch-of-the-dead")); err == nil {
		t.Error("what a killed process left was not removed")
	}
}

func TestFetchRefusesAlteredFiles(t *testing.T) {
	archive, want := smallPackage(t, map[string]string{"package/libchdb.so": "a library"})
	altered, _ := smallPackage(t, map[string]string{"package/libchdb.so": "malware"})
	_, empty := smallPackage(t, map[string]string{"package/libchdb.so": ""})
	without, noLibrary := smallPackage(t, map[string]string{"package/readme": "no library"})
	link, linked := smallPackage(t, map[string]string{"../libchdb.so": "outside"})
	otherLibrary := want
	otherLibrary.LibrarySHA256 = empty.LibrarySHA256
	for name, test := range map[string]struct {
		archive string
		want    pinned
		is      error
		says    string
	}{
		"archive altered":     {altered, want, errIntegrity, "sha512"},
		"library altered":     {archive, otherLibrary, errIntegrity, "sha256"},
		"library not inside":  {without, noLibrary, nil, "find libchdb.so"},
		"library out of tree": {link, linked, nil, "find libchdb.so"},
	} {
		t.Run(name, func(t *testing.T) {
			npm, _ := npmScript(t, "cp "+test.archive+" $dest/small.tgz")
			f, _ := newFetcher(t, test.want, npm)
			_, err := f.library(t.Context())
			if err == nil || (test.is != nil && !errors.Is(err, test.is)) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("error = %v; want %v saying %q", err, test.is, test.says)
			}
			left, _ := filepath.Glob(filepath.Join(f.dir, "*", "*"))
			for _, path := range left {
				if filepath.Base(path) != "lock" {
					t.Errorf("left behind: %s", path)
				}
			}
		})
	}
}

func TestFetchMessages(t *testing.T) {
	_, want := smallPackage(t, map[string]string{"package/libchdb.so": "a library"})
	for name, test := range map[string]struct {
		script string
		says   string
	}{
		"offline":      {"echo 'npm error code ENOTFOUND' >&2; exit 1", "cannot reach its package registry"},
		"proxy":        {"echo 'npm error code ECONNREFUSED' >&2; exit 1", "proxy or mirror"},
		"disk full":    {"echo 'npm error code ENOSPC' >&2; exit 1", "disk is full"},
		"mirror":       {"echo 'npm error code E404' >&2; exit 1", "does not have @example/small@1.2.3"},
		"other":        {"echo 'npm error no idea' >&2; exit 3", "npm error no idea"},
		"wrote no tgz": {"exit 0", "npm left 0 archives"},
	} {
		t.Run(name, func(t *testing.T) {
			npm, _ := npmScript(t, test.script)
			f, _ := newFetcher(t, want, npm)
			_, err := f.library(t.Context())
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Fatalf("error = %v; want it to say %q", err, test.says)
			}
			if test.script != "exit 0" && !strings.Contains(err.Error(), "--clickhouse URL") {
				t.Errorf("error %q names no way out", err)
			}
		})
	}
	t.Run("no npm", func(t *testing.T) {
		f, _ := newFetcher(t, want, "npm-that-is-not-there")
		_, err := f.library(t.Context())
		if err == nil || !strings.Contains(err.Error(), "npm is not installed") || !strings.Contains(err.Error(), "--clickhouse URL") {
			t.Errorf("error = %v", err)
		}
	})
	t.Run("no space", func(t *testing.T) {
		huge := want
		huge.LibraryBytes = 1 << 60
		npm, calls := npmScript(t, "exit 1")
		f, _ := newFetcher(t, huge, npm)
		_, err := f.library(t.Context())
		if err == nil || !strings.Contains(err.Error(), "make room") || !strings.Contains(err.Error(), "--clickhouse URL") {
			t.Errorf("error = %v", err)
		}
		if calls()[0] != "" {
			t.Error("npm was started all the same")
		}
	})
}

func TestFetchCanBeCancelled(t *testing.T) {
	_, want := smallPackage(t, map[string]string{"package/libchdb.so": "a library"})
	npm, calls := npmScript(t, "sleep 600")
	f, _ := newFetcher(t, want, npm)
	ctx, cancel := context.WithCancelCause(t.Context())
	failed := make(chan error)
	go func() {
		_, err := f.library(ctx)
		failed <- err
	}()
	await.True(t, "npm runs", func() bool { return calls()[0] != "" })
	why := errors.New("the user changed their mind")
	cancel(why)
	if err := <-failed; !errors.Is(err, why) {
		t.Errorf("error = %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(f.dir, "*", "fetch-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestPinnedLibraryIsComplete(t *testing.T) {
	p := pinnedLibrary()
	sha, err := base64.StdEncoding.DecodeString(p.ArchiveSHA512)
	if err != nil || len(sha) != sha512.Size {
		t.Errorf("archive hash: %d bytes, %v", len(sha), err)
	}
	if lib, err := hex.DecodeString(p.LibrarySHA256); err != nil || len(lib) != sha256.Size {
		t.Errorf("library hash: %d bytes, %v", len(lib), err)
	}
}
