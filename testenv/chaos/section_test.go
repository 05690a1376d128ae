package chaos

import (
	"os"
	"path/filepath"
	"testing"
)

func TestWriteSection(t *testing.T) {
	path := filepath.Join(t.TempDir(), "page.md")
	for _, step := range []struct{ title, text, want string }{
		{"Media", "one", "# Reliability\n\n## Media\n\none\n"},
		{"Telemetry", "two\n", "# Reliability\n\n## Media\n\none\n\n## Telemetry\n\ntwo\n"},
		{"Media", "three\n\n### more", "# Reliability\n\n## Media\n\nthree\n\n### more\n\n## Telemetry\n\ntwo\n"},
		{"Telemetry", "four", "# Reliability\n\n## Media\n\nthree\n\n### more\n\n## Telemetry\n\nfour\n"},
	} {
		if err := WriteSection(path, step.title, step.text); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != step.want {
			t.Fatalf("%v\n%q, want\n%q", err, got, step.want)
		}
	}
}
