package main

import (
	"flag"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestFlagsBeforeAndBehindArguments(t *testing.T) {
	for _, c := range []struct {
		args  string
		alone []string
		rate  string
		wait  time.Duration
	}{
		{"b", []string{"b"}, "", time.Second},
		{"b --rate 300kbps", []string{"b"}, "300kbps", time.Second},
		{"--wait 2s b --rate 300kbps", []string{"b"}, "300kbps", 2 * time.Second},
		{"--rate 1Mbps b draining --wait=3s", []string{"b", "draining"}, "1Mbps", 3 * time.Second},
		{"b --rate 300kbps draining --wait 2s", []string{"b", "draining"}, "300kbps", 2 * time.Second},
		{"- --rate x", []string{"-"}, "x", time.Second},
		{"b -- --rate", []string{"b", "--rate"}, "", time.Second},
	} {
		fs := flag.NewFlagSet("test", flag.ContinueOnError)
		fs.SetOutput(io.Discard)
		rate, wait := fs.String("rate", "", ""), fs.Duration("wait", time.Second, "")
		fs.String("config", "", "")
		if err := fs.Parse(strings.Fields(c.args)); err != nil {
			t.Fatal(err)
		}
		alone, err := parseTrailing(fs, fs.Args())
		if err != nil || !slices.Equal(alone, c.alone) || *rate != c.rate || *wait != c.wait {
			t.Errorf("%q: got %q, rate %q, wait %s, %v; want %q, %q, %s", c.args, alone, *rate, *wait, err, c.alone, c.rate, c.wait)
		}
	}
}

// TestDocumentedKeyCommand runs the form of the operator's page: flags behind the name.
func TestDocumentedKeyCommand(t *testing.T) {
	dir := t.TempDir()
	var out, log strings.Builder
	if code := run(t.Context(), []string{"key", "live/match", "--valid", "1h", "--data", dir}, strings.NewReader(""), &out, &log); code != 0 {
		t.Fatalf("exit code %d: %s", code, log.String())
	}
	sec, err := loadSecrets(dir) // of the directory named behind the argument
	if err != nil {
		t.Fatal(err)
	}
	s, err := sec.signer()
	if err != nil {
		t.Fatal(err)
	}
	k, err := s.ParsePublish(strings.TrimSpace(out.String()), time.Now(), "live", "match")
	if err != nil || k.App != "live" || k.Stream != "match" {
		t.Fatalf("key %+v, %v", k, err)
	}
	if left := time.Until(time.Unix(k.ExpiresUnix, 0)); left > time.Hour || left < 50*time.Minute {
		t.Errorf("the key is good for %s, not for the hour asked for", left)
	}
	for _, args := range [][]string{{"key"}, {"key", "a", "b"}, {"key", "live", "--valid", "never"}, {"key", "live", "--nosuch"}, {"cdn", "fault", "--rate", "1kbps"}} {
		if code := run(t.Context(), args, strings.NewReader(""), &out, &log); code == 0 {
			t.Errorf("spillway %q is taken", args)
		}
	}
}

func TestUpRefusesUnknownRoles(t *testing.T) {
	for _, only := range []string{"packagr", "ingest,", "ingest packager"} {
		var out, log strings.Builder
		if code := run(t.Context(), []string{"up", "--data", t.TempDir(), "--only", only}, strings.NewReader(""), &out, &log); code != 1 || !strings.Contains(log.String(), "there is no role") {
			t.Errorf("--only %q: exit code %d, %q", only, code, log.String())
		}
	}
	for _, only := range []string{"", "ingest,packager, origin"} {
		f := upFlags{only: only}
		if err := f.check(); err != nil {
			t.Errorf("--only %q: %v", only, err)
		}
	}
}
