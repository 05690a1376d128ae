package regions

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/testenv/bus"
	"github.com/spillway-live/spillway/testenv/child"
	"github.com/spillway-live/spillway/testenv/relay"
)

const (
	application = "live"
	startLimit  = time.Minute
	stopGrace   = 8 * time.Second
)

// chain is regions in a row, each a process, and the lines between them.
type chain struct {
	regions []*region
	links   []*relay.Relay // links[i] is between regions i and i+1
}

// region is "spillway up" with its bus, its relay and, in the first one, ingest.
type region struct {
	name    string
	process *child.Process
	output  *child.Tail
	conn    *nats.Conn
	heard   *heard
	ready   struct {
		Push string `json:"push"`
		NATS string `json:"nats"`
		Leaf string `json:"leaf"`
	}
}

// config is a region's file (--region-config).
type config struct {
	Region     string            `json:"region"`
	Listen     string            `json:"listen,omitempty"`
	Neighbours map[string]string `json:"neighbours,omitempty"`
	Remotes    map[string]string `json:"remotes,omitempty"`
	Parent     string            `json:"parent,omitempty"`
}

func (c *chain) first() *region { return c.regions[0] }
func (c *chain) last() *region  { return c.regions[len(c.regions)-1] }

func start(ctx context.Context, s *Settings, dir string) (_ *chain, err error) {
	c := &chain{}
	defer func() {
		if err != nil {
			c.stop()
		}
	}()
	secret := rand.Text()
	name := func(i int) string { return string(rune('a' + i)) }
	for i := range s.Regions {
		f, roles := config{Region: name(i)}, "relay"
		if i == 0 {
			roles = "ingest,relay"
		} else {
			before := c.last()
			link, err := relay.Listen(func() string { return before.ready.Leaf })
			if err != nil {
				return nil, err
			}
			c.links = append(c.links, link)
			f.Parent = before.name
			f.Remotes = map[string]string{before.name: fmt.Sprintf("nats-leaf://%s:%s@%s", f.Region, secret, link.Addr())}
		}
		if i+1 < s.Regions {
			f.Listen, f.Neighbours = "127.0.0.1:0", map[string]string{name(i + 1): secret}
		}
		r := &region{name: f.Region, output: &child.Tail{}}
		c.regions = append(c.regions, r)
		if err := r.start(ctx, s.Binary, filepath.Join(dir, f.Region), roles, f); err != nil {
			return nil, fmt.Errorf("region %s: %w", f.Region, err)
		}
	}
	return c, nil
}

func (r *region) start(ctx context.Context, binary, dir, roles string, f config) error {
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "region.json")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		return err
	}
	args := []string{"up", "--no-demo", "--only", roles, "--region-config", file, "--data", filepath.Join(dir, "data"), "--json", "--log-level", "warn", "--srt", "off", "--whip", "off"}
	for _, port := range []string{"rtmp", "console", "router", "collector", "origin", "nats-port"} {
		args = append(args, "--"+port, "0")
	}
	cmd := exec.Command(binary, args...)
	cmd.Env = append(child.Environ("SPILLWAY_", "XDG_CACHE_HOME="), "XDG_CACHE_HOME="+filepath.Join(dir, "cache"))
	cmd.Stderr = r.output
	if r.process, err = child.StartJSON(ctx, cmd, &r.ready, startLimit); err != nil {
		return err
	}
	if r.conn, err = bus.Connect(r.ready.NATS, "bench", nil); err != nil {
		return err
	}
	r.heard = &heard{at: map[string]chunk{}}
	sub, err := r.conn.Subscribe("chunks.*."+application+".>", r.heard.take)
	if err != nil {
		return err
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return err
	}
	return r.conn.Flush()
}

// stop ends the last region first: what it takes from is there until then.
func (c *chain) stop() {
	for i := len(c.regions) - 1; i >= 0; i-- {
		r := c.regions[i]
		if r.conn != nil {
			r.conn.Close()
		}
		if r.process != nil {
			r.process.Stop(stopGrace)
		}
	}
	for _, l := range c.links {
		l.Close()
	}
}

// output is the end of what each region said.
func (c *chain) output() string {
	var all []string
	for _, r := range c.regions {
		if s := strings.TrimSpace(r.output.String()); s != "" {
			all = append(all, "region "+r.name+": "+s)
		}
	}
	return strings.Join(all, "\n")
}
