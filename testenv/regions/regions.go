// Package regions runs the buses of several regions on this machine, joined in a
// chain.
package regions

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/bus"
)

// Chain is a row of regions; each is a leaf of the one before it.
type Chain struct {
	Regions []*Region
}

// Region is one bus.
type Region struct {
	Name   string
	Server *bus.Server
	// Conn is an ordinary connection, JS its JetStream; every stream and bucket is made.
	Conn *nats.Conn
	JS   jetstream.JetStream
	// Neighbours are the regions before and behind it.
	Neighbours []string
	logger     *slog.Logger
}

// Relay opens a connection for a relay of the region; its user closes it.
func (r *Region) Relay() (*nats.Conn, error) {
	return r.Server.ConnectRegion("relay", r.Name, r.logger)
}

// Settings of a chain.
type Settings struct {
	Dir   string // for the stores
	Names []string
	// Link, if set, gives the address by which region i+1 reaches region i, which is
	// at target: that of a relay which fails as networks do.
	Link   func(i int, target string) string
	Logger *slog.Logger // nil is silent
	Bus    schemas.BusSettings
}

// Start runs the chain; its user stops it.
func Start(ctx context.Context, s Settings) (*Chain, error) {
	c := &Chain{}
	var toward bus.Remote
	for i, name := range s.Names {
		o := bus.Options{DataDir: filepath.Join(s.Dir, name), Logger: s.Logger, Region: bus.RegionOptions{Name: name}}
		r := &Region{Name: name, logger: s.Logger}
		if i > 0 {
			o.Region.Remotes = []bus.Remote{toward}
			r.Neighbours = append(r.Neighbours, s.Names[i-1])
		}
		secret := rand.Text()
		if i+1 < len(s.Names) {
			o.Region.Listen, o.Region.Neighbours = "127.0.0.1:0", []bus.Neighbour{{Region: s.Names[i+1], Password: secret}}
			r.Neighbours = append(r.Neighbours, s.Names[i+1])
		}
		err := c.add(ctx, r, o, s.Bus)
		if err != nil {
			c.Stop()
			return nil, fmt.Errorf("region %s: %w", name, err)
		}
		if i+1 < len(s.Names) {
			addr := r.Server.LeafAddr()
			if s.Link != nil {
				addr = s.Link(i, addr)
			}
			toward = bus.Remote{Region: name, URL: fmt.Sprintf("nats-leaf://%s:%s@%s", s.Names[i+1], secret, addr)}
		}
	}
	return c, nil
}

func (c *Chain) add(ctx context.Context, r *Region, o bus.Options, s schemas.BusSettings) (err error) {
	if r.Server, err = bus.Start(o); err != nil {
		return err
	}
	c.Regions = append(c.Regions, r)
	if r.Conn, err = r.Server.Connect(r.Name, o.Logger); err != nil {
		return err
	}
	r.JS, err = bus.JetStream(ctx, r.Conn, s)
	return err
}

// Stop ends all of it.
func (c *Chain) Stop() {
	for _, r := range c.Regions {
		if r.Conn != nil {
			r.Conn.Close()
		}
		r.Server.Stop()
	}
}
