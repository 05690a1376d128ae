package clickhouse

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// launcherKept is how long an unused build of the launcher stays in the cache.
const launcherKept = 7 * 24 * time.Hour

// buildLauncher returns a chserver executable made from the sources beside this file, building it when the cache
// has none of the same sources, modules and Go version. Only test binaries need it: they cannot re-execute
// themselves as a launcher.
func buildLauncher(ctx context.Context, cacheDir string) (string, error) {
	src, err := sourceDir(ctx)
	if err != nil {
		return "", err
	}
	key, err := launcherKey(src)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cacheDir, "chserver")
	path := filepath.Join(dir, key)
	if touch(path) == nil {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the cache folder: %w", err)
	}
	lock, err := lockFile(ctx, filepath.Join(dir, "lock"), nil)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if touch(path) == nil { // built while we waited
		return path, nil
	}
	pruneLaunchers(dir)
	tmp := filepath.Join(dir, "building") // safe under the lock
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", tmp, "./chserver")
	cmd.Dir = src
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the ClickHouse launcher: %w: %s", err, lastLines(string(out), 8))
	}
	if err := os.Rename(tmp, path); err != nil {
		return "", fmt.Errorf("build the ClickHouse launcher: %w", err)
	}
	return path, nil
}

// sourceDir is the folder of this package's sources. A binary built with -trimpath does not know it and asks the go
// command, which finds the module from the working directory: that of a test is inside it.
func sourceDir(ctx context.Context) (string, error) {
	_, self, _, ok := runtime.Caller(0)
	if dir := filepath.Dir(self); ok && filepath.IsAbs(dir) {
		return dir, nil
	}
	out, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", "github.com/spillway-live/spillway/testenv/clickhouse").Output()
	if err != nil {
		return "", fmt.Errorf("build the ClickHouse launcher: the sources are not found from here: %w; set Options.LauncherCommand", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// touch marks a cached launcher as used; an error means that it is not there.
func touch(path string) error { return os.Chtimes(path, time.Time{}, time.Now()) }

// launcherKey hashes what the launcher is made of.
func launcherKey(src string) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, runtime.Version())
	mod, err := os.ReadFile(filepath.Join(src, "..", "..", "go.mod"))
	if err != nil {
		return "", fmt.Errorf("read the launcher's sources: %w", err)
	}
	for line := range strings.Lines(string(mod)) { // the two modules it uses; others change more often
		if strings.Contains(line, "ebitengine/purego ") || strings.Contains(line, "golang.org/x/sys ") {
			fmt.Fprint(h, line)
		}
	}
	for _, pattern := range []string{"chserver/*.go", "internal/launcher/*.go"} {
		files, err := filepath.Glob(filepath.Join(src, pattern)) // sorted
		if err != nil || len(files) == 0 {
			return "", fmt.Errorf("read the launcher's sources: none at %s", filepath.Join(src, pattern))
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				return "", fmt.Errorf("read the launcher's sources: %w", err)
			}
			fmt.Fprintln(h, filepath.Base(file), len(b))
			_, _ = h.Write(b)
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:32], nil
}

// pruneLaunchers removes builds that nobody has used for long. The caller holds the lock.
func pruneLaunchers(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && e.Name() != "lock" && time.Since(info.ModTime()) > launcherKept {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}
