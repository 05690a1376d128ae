// Package regions runs the buses of several regions on this machine, joined in a
// chain or as is said.
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

// Chain is some regions and their links.
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
	// Neighbours are the regions at the other ends of its links.
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
	// Links are the regions that are joined, as indices of Names: the one that accepts
	// the connection, and a later one that opens it. Nil joins them in a row.
	Links [][2]int
	// Link, if set, gives the address by which the accepting region of Links[i], which
	// is at target, is reached: that of a relay which fails as networks do.
	Link   func(i int, target string) string
	Logger *slog.Logger // nil is silent
	Bus    schemas.BusSettings
}

// Start runs the regions; its user stops them.
func Start(ctx context.Context, s Settings) (*Chain, error) {
	if s.Links == nil {
		for i := range s.Names[1:] {
			s.Links = append(s.Links, [2]int{i, i + 1})
		}
	}
	c := &Chain{}
	secret := rand.Text()
	for i, name := range s.Names {
		r := &Region{Name: name, logger: s.Logger}
		o := bus.Options{DataDir: filepath.Join(s.Dir, name), Logger: s.Logger, Region: bus.RegionOptions{Name: name}}
		for j, l := range s.Links {
			switch i {
			case l[0]:
				o.Region.Listen = "127.0.0.1:0"
				o.Region.Neighbours = append(o.Region.Neighbours, bus.Neighbour{Region: s.Names[l[1]], Password: secret})
				r.Neighbours = append(r.Neighbours, s.Names[l[1]])
			case l[1]:
				addr := c.Regions[l[0]].Server.LeafAddr()
				if s.Link != nil {
					addr = s.Link(j, addr)
				}
				o.Region.Remotes = append(o.Region.Remotes, bus.Remote{Region: s.Names[l[0]], URL: fmt.Sprintf("nats-leaf://%s:%s@%s", name, secret, addr)})
				r.Neighbours = append(r.Neighbours, s.Names[l[0]])
			}
		}
		if err := c.add(ctx, r, o, s.Bus); err != nil {
			c.Stop()
			return nil, fmt.Errorf("region %s: %w", name, err)
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
