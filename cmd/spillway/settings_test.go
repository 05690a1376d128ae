package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/bus/bustest"
)

// cli runs commands against one bus.
type cli struct {
	t   testing.TB
	bus *bustest.Bus
	dir string
}

func newCLI(t testing.TB) *cli {
	t.Helper()
	return &cli{t, bustest.Start(t), t.TempDir()}
}

func (c *cli) run(args ...string) (code int, out, errs string) {
	c.t.Helper()
	var o, e strings.Builder
	code = run(c.t.Context(), append(args, "--nats", c.bus.Server.URL(), "--data", c.dir), strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

func (c *cli) ok(args ...string) string {
	c.t.Helper()
	code, out, errs := c.run(args...)
	if code != 0 {
		c.t.Fatalf("%q: exit code %d: %s", args, code, errs)
	}
	return out
}

func (c *cli) refused(want string, args ...string) {
	c.t.Helper()
	code, _, errs := c.run(args...)
	if code == 0 || !strings.Contains(errs, want) {
		c.t.Errorf("%q: exit code %d, error %q, want one with %q", args, code, errs, want)
	}
}

func TestAppSettingsCommands(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	show := func(name string) (a schemas.AppSettings) {
		t.Helper()
		if err := json.Unmarshal([]byte(c.ok("app", "show", name, "--json")), &a); err != nil {
			t.Fatal(err)
		}
		return a
	}
	c.ok("app", "set", "home", "--private", "--dvr", "1h", "--ladder", "720p:2500k,480p:1000k")
	c.ok("app", "set", "home", "--second-publisher", "refuse")
	a := show("home")
	if !a.Private || a.DVRSec != 3600 || a.SecondPublisher != schemas.SecondRefused || len(a.Ladder) != 2 ||
		a.Ladder[0] != (schemas.Rung{Name: "720p", Height: 720, BitrateBps: 2_500_000}) {
		t.Fatalf("settings %+v", a)
	}
	// Setting one thing of a stream keeps what its application says of the rest.
	c.ok("app", "set", "home/door", "--encrypt", "cbcs", "--key-url", "file:///keys/door", "--rotate-segments", "30")
	door := show("home/door")
	if !door.Private || door.DVRSec != 3600 || door.Encryption == nil || door.Encryption.RotateSegments != 30 {
		t.Fatalf("settings of the stream %+v", door)
	}
	if show("home/garden").Encryption != nil {
		t.Error("another stream has the settings of home/door")
	}
	c.ok("app", "set", "home/door", "--encrypt", "none", "--private=false", "--ladder", "")
	if door = show("home/door"); door.Encryption != nil || door.Private || door.Ladder != nil {
		t.Errorf("after taking back: %+v", door)
	}
	if out := c.ok("app", "list"); !strings.Contains(out, "home/door") || !strings.Contains(out, "--ladder 720p:2500k,480p:1000k") {
		t.Errorf("list:\n%s", out)
	}
	c.ok("app", "unset", "home/door")
	if door = show("home/door"); !door.Private {
		t.Error("the application's settings do not hold again")
	}
	file := filepath.Join(t.TempDir(), "settings.json")
	if err := os.WriteFile(file, []byte(`{"dvr_sec":60}`), 0o600); err != nil {
		t.Fatal(err)
	}
	c.ok("app", "set", "home", "--file", file)
	if a = show("home"); a.Private || a.DVRSec != 60 {
		t.Errorf("settings of the file %+v", a)
	}
	c.ok("app", "set", "home", "--publisher-behind", "0.25")
	if p := show("home").PublisherPolicy; p == nil || *p != (schemas.PublisherPolicy{BehindShare: 0.25, WindowSec: 20, LowerPercent: 30, MinBitrateBps: 400_000}) {
		t.Errorf("policy for publishers %+v", p)
	}
	c.ok("app", "set", "home", "--publisher-window", "10s", "--publisher-lower", "50", "--publisher-min-bitrate", "1.2Mbps", "--publisher-min-fps", "12.5")
	if p := show("home").PublisherPolicy; p == nil || *p != (schemas.PublisherPolicy{BehindShare: 0.25, WindowSec: 10, LowerPercent: 50, MinBitrateBps: 1_200_000, MinFPS: 12.5}) {
		t.Errorf("policy for publishers %+v", p)
	}
	if out := c.ok("app", "list"); !strings.Contains(out, "--publisher-behind 0.25  --publisher-window 10s  --publisher-lower 50  --publisher-min-bitrate 1200000  --publisher-min-fps 12.5") {
		t.Errorf("list:\n%s", out)
	}
	c.refused("publisher_policy.behind_share", "app", "set", "home", "--publisher-behind", "1.5")
	c.refused("publisher_policy.lower_percent", "app", "set", "home", "--publisher-lower", "95")
	c.refused("is not a rate", "app", "set", "home", "--publisher-min-bitrate", "much")
	c.refused("whole seconds", "app", "set", "home", "--publisher-window", "2500ms")
	c.ok("app", "set", "home", "--publisher-behind", "0")
	if p := show("home").PublisherPolicy; p != nil {
		t.Errorf("policy that was taken back: %+v", p)
	}
	c.refused("--publisher-behind", "app", "set", "home", "--publisher-lower", "40")
	c.refused("say what to set", "app", "set", "home")
	c.refused("ladder[0].height", "app", "set", "home", "--ladder", "481p:1M")
	c.refused("720p:2500k", "app", "set", "home", "--ladder", "best")
	c.refused("second_publisher", "app", "set", "home", "--second-publisher", "maybe")
	c.refused("key_url", "app", "set", "home", "--encrypt", "cbcs")
	c.refused("there are: home", "app", "unset", "away")
	c.refused("stream name", "app", "show", "home/")
}

func TestSourceCommands(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.refused("needs --url", "source", "set", "home/door", "--on-demand")
	c.ok("source", "set", "home/door", "--url", "rtsp://admin:hunter2@10.0.0.9/ch1", "--on-demand", "--grace", "20s")
	c.ok("source", "set", "home/door", "--transport", "udp")
	for _, out := range []string{c.ok("source", "list"), c.ok("source", "list", "--json")} {
		if strings.Contains(out, "hunter2") || !strings.Contains(out, "home/door") || !strings.Contains(out, "udp") {
			t.Errorf("list:\n%s", out)
		}
	}
	c.refused("grace_sec", "source", "set", "home/door", "--grace", "-1s")
	c.refused("rtsp://", "source", "set", "home/door", "--url", "http://camera/")
	c.refused("not APP/STREAM", "source", "remove", "home")
	c.ok("source", "remove", "home/door")
	c.refused("there are none", "source", "remove", "home/door")
}

func TestShareCommands(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	alias := strings.TrimSpace(c.ok("share", "create", "home/door"))
	if !strings.HasPrefix(alias, "home/s-") || len(alias) < len("home/s-")+20 {
		t.Errorf("alias %q can be guessed", alias)
	}
	c.ok("share", "create", "home/door", "--as", "public/door", "--for", "1h")
	c.refused("taken by a share", "share", "create", "home/garden", "--as", "public/door")
	c.refused("is itself a share", "share", "create", "public/door")
	c.ok("share", "withdraw", "public/door")
	if out := c.ok("share", "list"); !strings.Contains(out, "this share was withdrawn") || !strings.Contains(out, "until withdrawn") {
		t.Errorf("list:\n%s", out)
	}
	c.refused("taken by a share", "share", "create", "home/door", "--as", "public/door")
	c.refused("there is no share", "share", "withdraw", "public/gate")
	kv, err := c.bus.JS.KeyValue(t.Context(), schemas.BucketStreams)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), "public.news", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	c.refused("a stream of its own", "share", "create", "home/door", "--as", "public/news")
}

func TestPlayKeyCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := func(args ...string) string {
		t.Helper()
		var out, errs strings.Builder
		if code := run(t.Context(), append([]string{"key"}, append(args, "--data", dir)...), strings.NewReader(""), &out, &errs); code != 0 {
			t.Fatalf("%q: exit code %d: %s", args, code, errs.String())
		}
		return strings.TrimSpace(out.String())
	}
	k := key("play", "home/door", "--for", "2h", "--viewer", "ann")
	sec, err := loadSecrets(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := sec.signer()
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.ParsePlay(k, time.Now(), "home", "door")
	if err != nil || p.ViewerID == "" || p.ViewerID == "ann" {
		t.Fatalf("play key %+v, %v", p, err)
	}
	if _, err := s.ParsePublish(key("publish", "play"), time.Now(), "play", "x"); err != nil {
		t.Errorf("publish key of an application named play: %v", err)
	}
}
