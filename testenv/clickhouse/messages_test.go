//go:build linux

package clickhouse

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckPlatform(t *testing.T) {
	if err := checkPlatform("linux", "amd64", true); err != nil {
		t.Errorf("a machine that can run it was refused: %v", err)
	}
	for _, test := range []struct {
		goos, goarch string
		avx2         bool
		says         string
	}{
		{"darwin", "arm64", false, "darwin/arm64"},
		{"linux", "arm64", false, "linux/arm64"},
		{"windows", "amd64", true, "windows/amd64"},
		{"linux", "amd64", false, "AVX2"},
	} {
		err := checkPlatform(test.goos, test.goarch, test.avx2)
		if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), "--clickhouse URL") {
			t.Errorf("%s/%s avx2=%v: %v", test.goos, test.goarch, test.avx2, err)
		}
	}
}

func TestBadOptions(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	library := file // never loaded: each case fails before
	for name, test := range map[string]struct {
		opts Options
		says string
	}{
		"no data directory":       {Options{Library: library}, "no data directory"},
		"listen host":             {Options{Library: library, DataDir: dir, ListenHost: "example.com"}, `"example.com" is not an IP address`},
		"port":                    {Options{Library: library, DataDir: dir, TCPPort: 70000}, "port 70000"},
		"memory":                  {Options{Library: library, DataDir: dir, MemoryLimitBytes: 1}, "at least 536870912"},
		"log level":               {Options{Library: library, DataDir: dir, LogLevel: "loud"}, `log level "loud"`},
		"library missing":         {Options{Library: filepath.Join(dir, "none.so"), DataDir: dir}, "none.so"},
		"library not a library":   {Options{Library: library, DataDir: filepath.Join(dir, "d1")}, "load the ClickHouse library"},
		"data directory a file":   {Options{Library: library, DataDir: file}, "make the data directory"},
		"launcher missing":        {Options{Library: library, DataDir: filepath.Join(dir, "d2"), LauncherCommand: []string{file}}, "run the launcher"},
		"launcher does not help":  {Options{Library: library, DataDir: filepath.Join(dir, "d3"), LauncherCommand: []string{"/bin/true"}}, "does it call clickhouse.RunLauncher?"},
		"launcher says something": {Options{Library: library, DataDir: filepath.Join(dir, "d4"), LauncherCommand: []string{"/bin/sh", "-c", "echo no such command >&2; exit 1"}}, "no such command"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Start(t.Context(), test.opts)
			if err == nil {
				_ = s.Kill()
				t.Fatal("it started")
			}
			if !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %q does not say %q", err, test.says)
			}
		})
	}
}

func TestDamagedPasswordFile(t *testing.T) {
	dir := t.TempDir()
	path := layout{dir}.credentials()
	if err := os.WriteFile(path, []byte(`{"admin":""}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadCredentials(path); err == nil || !strings.Contains(err.Error(), "delete it") {
		t.Errorf("error = %v; want one that says what to do", err)
	}
}

func TestLauncherThatIsNotOne(t *testing.T) {
	t.Setenv(inLauncher, "1")
	_, err := Start(t.Context(), Options{DataDir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "RunLauncher") {
		t.Errorf("error = %v; want one that names RunLauncher", err)
	}
}

func TestTelling(t *testing.T) {
	noise := strings.Repeat("Query id: 1\n\nOk.\n", 20)
	got := telling(noise + "Code: 210. DB::Exception: Listen failed\n" + noise)
	if got != "Code: 210. DB::Exception: Listen failed" {
		t.Errorf("telling = %q", got)
	}
	if got := telling(strings.Repeat("a\n", 100)); got != strings.TrimSuffix(strings.Repeat("a | ", 8), " | ") {
		t.Errorf("telling = %q; want the last eight lines", got)
	}
	if got := telling(""); got != "nothing" {
		t.Errorf("telling = %q", got)
	}
	if got := telling("Exception: " + strings.Repeat("x", 10_000)); len(got) > 600 {
		t.Errorf("telling kept %d bytes of one line", len(got))
	}
}

func TestLockIsExclusive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, err := lockFile(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	waited := false
	_, err = lockFile(ctx, path, func() { waited = true; cancel() })
	if !waited || !errors.Is(err, errLocked) || !errors.Is(err, context.Canceled) {
		t.Errorf("second lock: waited = %v, error = %v", waited, err)
	}
	_ = first.Close()
	second, err := lockFile(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = second.Close()
}
