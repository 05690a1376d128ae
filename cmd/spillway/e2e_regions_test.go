package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spillway-live/spillway/ingest/certs/certstest"
	"github.com/spillway-live/spillway/testenv/publisher"
	line "github.com/spillway-live/spillway/testenv/relay"
)

// collected are the parts a player took, by address.
type collected struct {
	mu sync.Mutex
	by map[string][]byte
}

func (c *collected) take(uri string, body []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.by[uri] = body
}

func (c *collected) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.by)
}

// more waits until n parts more were taken.
func (c *collected) more(t *testing.T, n int) {
	t.Helper()
	n += c.count()
	within(t, time.Minute, "the player goes on", func() error {
		if got := c.count(); got < n {
			return fmt.Errorf("it has %d parts of %d", got, n)
		}
		return nil
	})
}

// regionProcess is "spillway up" as one of several regions.
func regionProcess(t *testing.T, env []string, only string, f regionFile, more ...string) *upProgram {
	t.Helper()
	b, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "region.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return up(t, env, dir, append([]string{"--no-demo", "--only", only, "--region-config", path, "--origin", "0"}, more...)...)
}

// TestThreeRegions: publishers in region a, player in region c, b between them,
// each a process with a bus of its own, the link from b to a over TLS. The player,
// who tolerates nothing, does not notice that the relay of c is killed and that the
// link from c to b is cut for a moment, and gets the bytes that region a serves.
// Renditions, encrypted streams and what was recorded are served in c as in a.
func TestThreeRegions(t *testing.T) {
	clip := smallClip(t)
	env := environment(t)
	const secret = "a password of test regions"
	remote := func(region, leaf string) string {
		return "nats-leaf://" + region + ":" + strings.ReplaceAll(secret, " ", "%20") + "@" + leaf
	}
	cert, key := certstest.Write(t, t.TempDir(), "region a")
	store := "file://" + t.TempDir()
	a := regionProcess(t, env, "ingest,origin,transcoder,recorder,relay", regionFile{
		Region: "a", Listen: "127.0.0.1:0", TLSCert: cert, TLSKey: key, Neighbours: map[string]string{"b": secret},
	}, "--store", store)
	b := regionProcess(t, env, "relay", regionFile{
		Region: "b", Listen: "127.0.0.1:0", Neighbours: map[string]string{"c": secret}, TLSCA: cert, Parent: "a",
		Remotes: map[string]string{"a": strings.Replace(remote("b", a.Leaf), "nats-leaf:", "tls:", 1)},
	})
	link := line.Start(t, func() string { return b.Leaf })
	c := regionProcess(t, env, "origin", regionFile{Region: "c", Remotes: map[string]string{"b": remote("c", link.Addr())}, Parent: "b"}, "--store", store)
	startRelay := func() *program {
		p := launch(t, env, "relay", "--data", c.dir, "--nats", c.NATS, "--region", "c", "--neighbours", "b", "--parent", "b")
		p.waitLog(`msg="role runs"`)
		return p
	}
	relay := startRelay()
	regionSettings(t, env, a, c)

	watched := &publisher.Replay{File: clip, URLs: []string{a.Push + "/watched", a.Push + "/unwatched", a.Push + "/made", a.Push + "/sealed"}, Logger: quiet()}
	background(t, "publisher", watched.Run)
	multivariant := c.Origins + "/live/watched/multivariant.m3u8"
	within(t, time.Minute, "the stream is known in region c", func() error {
		if code, _, err := httpGet(multivariant); err != nil || code != 200 {
			return fmt.Errorf("%s: %d %w", multivariant, code, err)
		}
		return nil
	})
	within(t, time.Minute, "the stream is in region c", func() error {
		code, text, err := httpGet(c.Origins + "/live/watched/src/video/playlist.m3u8")
		if err != nil || code != 200 || !strings.Contains(text, "#EXT-X-PART:") {
			return fmt.Errorf("%d %w", code, err)
		}
		return nil
	})
	delays := hopDelays(t, "chunks.*.live.watched.src", a, b, c)
	got := &collected{by: map[string][]byte{}}
	f := &follower{multivariant: multivariant, took: got.take}
	end := follow(t, f)
	got.more(t, 5)

	_, out, _ := command(t, env, nil, "stream", "where", "live/watched", "--nats", c.NATS)
	if !strings.Contains(out, "published in region a") || !strings.Contains(out, "region c has it, by way of a > b > c") {
		t.Errorf("spillway stream where says %q", out)
	}
	_, out, _ = command(t, env, nil, "stream", "where", "live/unwatched", "--nats", c.NATS)
	if !strings.Contains(out, "region c does not have it") {
		t.Errorf("spillway stream where says %q of a stream that nobody watches", out)
	}

	delays()
	relay.kill()
	startRelay()
	got.more(t, 5)
	tried := link.Accepted()
	link.Cut()
	within(t, time.Minute, "the bus of region c misses the link", func() error {
		if link.Accepted() == tried {
			return errors.New("it has not tried to connect again")
		}
		return nil
	})
	link.Pass()
	got.more(t, 10)
	end()
	same(t, got, a.Origins+"/live/watched/src/video/")

	const segment = `(?m)^([0-9]+-[0-9]+\.m4s)$`
	// listed waits until a playlist of region c has what is looked for.
	listed := func(path, what string) (uri string) {
		within(t, time.Minute, "region c lists "+what+" in "+path, func() error {
			code, text, err := httpGet(c.Origins + path)
			if err != nil || code != 200 {
				return fmt.Errorf("%d %w", code, err)
			}
			m := regexp.MustCompile(what).FindStringSubmatch(text)
			if m == nil {
				return fmt.Errorf("%s", tail(text, 400))
			}
			uri = m[len(m)-1]
			return nil
		})
		return uri
	}
	// alike checks that both regions serve the same bytes under a name, once that of the publisher has been asked for the stream.
	alike := func(t *testing.T, dir, playlist string) {
		t.Helper()
		name := listed(dir+playlist, segment)
		code, got, err := httpGet(c.Origins + dir + name)
		if err != nil || code != 200 || got == "" {
			t.Fatalf("%s in region c: %d with %d bytes, %v", name, code, len(got), err)
		}
		var want string
		within(t, time.Minute, "region a serves "+name, func() error {
			if code, _, err := httpGet(a.Origins + dir + playlist); err != nil || code != 200 {
				return fmt.Errorf("its playlist: %d %w", code, err)
			}
			if code, want, err = httpGet(a.Origins + dir + name); err != nil || code != 200 {
				return fmt.Errorf("%d %w", code, err)
			}
			return nil
		})
		if got != want {
			t.Errorf("%s has %d bytes in region c and %d others in region a", name, len(got), len(want))
		}
	}
	t.Run("rendition", func(t *testing.T) {
		listed("/live/made/src/video/playlist.m3u8", "#EXT-X-PART:") // who watches it has it made
		listed("/live/made/multivariant.m3u8", "64p")
		alike(t, "/live/made/64p/video/", "playlist.m3u8")
	})
	t.Run("encrypted", func(t *testing.T) {
		listed("/live/sealed/src/video/playlist.m3u8", "#EXT-X-KEY:METHOD=SAMPLE-AES")
		alike(t, "/live/sealed/src/video/", "playlist.m3u8")
	})
	t.Run("recorded", func(t *testing.T) {
		alike(t, "/live/watched/src/video/", "dvr.m3u8")
	})
}

// regionSettings has a stream of region a recorded, one transcoded and one encrypted, and waits until region c knows.
func regionSettings(t *testing.T, env []string, a, c *upProgram) {
	t.Helper()
	keys := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(keys, []byte(`{"secret":"`+base64.StdEncoding.EncodeToString(make([]byte, 32))+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, set := range [][]string{
		{"live/watched", "--dvr", "1h"}, {"live/made", "--ladder", "64p:40k"}, {"live/sealed", "--encrypt", "cbcs", "--key-url", "file://" + keys},
	} {
		if code, out, log := command(t, env, nil, append(append([]string{"app", "set"}, set...), "--nats", a.NATS)...); code != 0 {
			t.Fatalf("app set %v: %d %s%s", set, code, out, log)
		}
	}
	within(t, time.Minute, "the settings are in region c", func() error {
		_, out, log := command(t, env, nil, "app", "list", "--nats", c.NATS)
		if !strings.Contains(out, "live/sealed") || !strings.Contains(out, "live/watched") {
			return errors.New(out + log)
		}
		return nil
	})
}

// same checks that an origin serves what a player took.
func same(t *testing.T, c *collected, base string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for uri, body := range c.by {
		code, text, err := httpGet(base + uri)
		if err != nil || code != 200 || text != string(body) {
			t.Errorf("%s: %d bytes in region c; region a answers %d with %d bytes (%v)", uri, len(body), code, len(text), err)
		}
	}
}
