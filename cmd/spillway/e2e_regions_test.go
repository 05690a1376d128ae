package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

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
func regionProcess(t *testing.T, env []string, only string, f regionFile) *upProgram {
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
	return up(t, env, dir, "--no-demo", "--only", only, "--region-config", path, "--origin", "0")
}

// TestThreeRegions: publisher in region a, player in region c, b between them,
// each a process with a bus of its own. The player, who tolerates nothing, does
// not notice that the relay of c is killed and that the link from c to b is cut
// for a moment, and gets the bytes that region a serves.
func TestThreeRegions(t *testing.T) {
	clip := smallClip(t)
	env := environment(t)
	const secret = "a password of test regions"
	remote := func(region, leaf string) string {
		return "nats-leaf://" + region + ":" + strings.ReplaceAll(secret, " ", "%20") + "@" + leaf
	}
	a := regionProcess(t, env, "ingest,origin,relay", regionFile{Region: "a", Listen: "127.0.0.1:0", Neighbours: map[string]string{"b": secret}})
	b := regionProcess(t, env, "relay", regionFile{
		Region: "b", Listen: "127.0.0.1:0", Neighbours: map[string]string{"c": secret}, Remotes: map[string]string{"a": remote("b", a.Leaf)}, Parent: "a",
	})
	link := line.Start(t, func() string { return b.Leaf })
	c := regionProcess(t, env, "origin", regionFile{Region: "c", Remotes: map[string]string{"b": remote("c", link.Addr())}, Parent: "b"})
	startRelay := func() *program {
		p := launch(t, env, "relay", "--data", c.dir, "--nats", c.NATS, "--region", "c", "--neighbours", "b", "--parent", "b")
		p.waitLog(`msg="role runs"`)
		return p
	}
	relay := startRelay()

	watched := &publisher.Replay{File: clip, URLs: []string{a.Push + "/watched", a.Push + "/unwatched"}, Logger: quiet()}
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
