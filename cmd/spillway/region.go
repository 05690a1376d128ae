package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/bus"
	"github.com/spillway-live/spillway/workers/relay"
)

// regionFile says which region this is and to which others it has links. It holds
// passwords, so it is a file and no flags.
type regionFile struct {
	// Region is the name, which is also that of the bus's JetStream domain.
	Region string `json:"region"`
	// Listen is where neighbours connect, HOST:PORT; TLSCert and TLSKey are PEM files.
	Listen  string `json:"listen,omitempty"`
	TLSCert string `json:"tls_cert,omitempty"`
	TLSKey  string `json:"tls_key,omitempty"`
	// Neighbours that connect here, and their passwords.
	Neighbours map[string]string `json:"neighbours,omitempty"`
	// Remotes that are connected to: nats-leaf:// or tls://REGION:PASSWORD@HOST:PORT.
	Remotes map[string]string `json:"remotes,omitempty"`
	// TLSCA is a PEM file of authorities for remotes with tls://; empty: the system's.
	TLSCA string `json:"tls_ca,omitempty"`
	// Parent is the neighbour whose settings hold here and that gets the telemetry.
	Parent string `json:"parent,omitempty"`
	// ParentCDNs and OwnCDNs are as the relay's flags.
	ParentCDNs bool     `json:"parent_cdns,omitempty"`
	OwnCDNs    []string `json:"own_cdns,omitempty"`
	// HotRegions, HotViewers and LingerSec are as the relay's flags.
	HotRegions int `json:"hot_regions,omitempty"`
	HotViewers int `json:"hot_viewers,omitempty"`
	LingerSec  int `json:"linger_sec,omitempty"`
}

func readRegionFile(path string) (*regionFile, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("--region-config: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("--region-config: %s holds passwords and others may read it: chmod 600", path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--region-config: %w", err)
	}
	var f regionFile
	if err := schemas.UnmarshalStrict(b, &f); err != nil {
		return nil, fmt.Errorf("--region-config %s: %w", path, err)
	}
	return &f, nil
}

// neighbours are the regions at the ends of all links.
func (f *regionFile) neighbours() []string {
	return slices.Sorted(maps.Keys(merged(f.Neighbours, f.Remotes)))
}

func merged(a, b map[string]string) map[string]string {
	out := maps.Clone(a)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, b)
	return out
}

// bus gives the embedded server's part.
func (f *regionFile) bus() (o bus.RegionOptions, err error) {
	o = bus.RegionOptions{Name: f.Region, Listen: f.Listen}
	for _, n := range slices.Sorted(maps.Keys(f.Neighbours)) {
		o.Neighbours = append(o.Neighbours, bus.Neighbour{Region: n, Password: f.Neighbours[n]})
	}
	for _, n := range slices.Sorted(maps.Keys(f.Remotes)) {
		o.Remotes = append(o.Remotes, bus.Remote{Region: n, URL: f.Remotes[n]})
	}
	if (f.TLSCert == "") != (f.TLSKey == "") {
		return o, errors.New("--region-config: tls_cert and tls_key go together")
	}
	if f.TLSCert != "" {
		c, err := tls.LoadX509KeyPair(f.TLSCert, f.TLSKey)
		if err != nil {
			return o, fmt.Errorf("--region-config: %w", err)
		}
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{c}}
	}
	o.RemoteTLS = &tls.Config{MinVersion: tls.VersionTLS12}
	if f.TLSCA != "" {
		if o.RemoteTLS.RootCAs, err = addAuthorities(x509.NewCertPool(), f.TLSCA); err != nil {
			return o, fmt.Errorf("--region-config: tls_ca: %w", err)
		}
	}
	return o, nil
}

// addAuthorities adds the certificates of a PEM file.
func addAuthorities(pool *x509.CertPool, file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate", file)
	}
	return pool, nil
}

// relay gives the relay's part.
func (f *regionFile) relay(d *deps, nc *nats.Conn) *relay.Relay {
	return &relay.Relay{
		Conn: nc, Region: f.Region, Neighbours: f.neighbours(), Parent: f.Parent, ParentCDNs: f.ParentCDNs, OwnCDNs: f.OwnCDNs, HotRegions: f.HotRegions, HotViewers: f.HotViewers,
		Linger: time.Duration(f.LingerSec) * time.Second, Logger: d.log(relay.Role), Registerer: d.reg,
	}
}

// relayCommand is the role that joins this region's bus to others'.
func (c *commands) relayCommand() *ffcli.Command {
	f := &roleFlags{}
	var r regionFile
	var path, neighbours, own string
	var linger time.Duration
	return c.command("relay", "", "bring streams that are watched in this region from neighbouring regions", 0, func(fs *flag.FlagSet) {
		f.register(fs)
		fs.StringVar(&path, "region-config", "", "`file` that says which region this is and to which it has links, as for \"spillway up\"; instead of the flags below")
		fs.StringVar(&r.Region, "region", "", "`name` of this region, which is the JetStream domain of its bus")
		fs.StringVar(&neighbours, "neighbours", "", "`regions` at the other ends of the links, comma-separated")
		fs.StringVar(&r.Parent, "parent", "", "the `neighbour` whose settings hold here and that gets telemetry, events and decisions (default: none, this region has its own)")
		fs.BoolVar(&r.ParentCDNs, "parent-cdns", false, "the registry of CDNs is the parent's, too, with what they delivered by month (default: this region has its own)")
		fs.StringVar(&own, "own-cdns", "", "`names` of CDNs, comma-separated, of which this region has entries of its own all the same, or none")
		fs.IntVar(&r.HotRegions, "hot-regions", 0, "bring a stream that is watched in so many regions before anybody here watches it; 0: never")
		fs.IntVar(&r.HotViewers, "hot-viewers", 0, "bring a stream that so many sessions watch, in all regions together, before anybody here watches it; 0: never")
		fs.DurationVar(&linger, "linger", 30*time.Second, "how long a stream is brought after nobody watches it any more")
	}, func(ctx ctx, _ []string) error {
		file := &r
		if path != "" {
			var err error
			if file, err = readRegionFile(path); err != nil {
				return err
			}
		} else {
			r.Neighbours = map[string]string{}
			for _, n := range splitList(neighbours) {
				r.Neighbours[n] = ""
			}
			r.OwnCDNs = splitList(own)
			r.LingerSec = int(max(linger, time.Second) / time.Second)
		}
		u, err := f.natsURL()
		if err != nil {
			return err
		}
		var nc *nats.Conn
		defer func() {
			if nc != nil {
				nc.Close()
			}
		}()
		return c.serveRole(ctx, f, relay.Role, func(d *deps) ([]role, error) {
			if nc, err = bus.ConnectRegion(u, "spillway-relay", file.Region, d.logger); err != nil {
				return nil, err
			}
			return []role{{relay.Role, file.relay(d, nc).Run}}, nil
		})
	})
}

// startRelay joins the bus to other regions', where --region-config says which.
func (s *system) startRelay(ctx) error {
	if s.region == nil {
		return nil
	}
	nc, err := s.connectRegion()
	if err != nil {
		return err
	}
	r := s.region.relay(s.d, nc)
	s.g.start(relay.Role, func(ctx context.Context) error {
		defer nc.Close()
		return r.Run(ctx)
	})
	return nil
}

func (s *system) connectRegion() (*nats.Conn, error) {
	if s.bus != nil {
		return s.bus.ConnectRegion("spillway-relay", s.region.Region, s.logger)
	}
	return bus.ConnectRegion(s.f.nats, "spillway-relay", s.region.Region, s.logger)
}

// regionCommand helps to configure NATS servers that spillway does not run.
func (c *commands) regionCommand() *ffcli.Command {
	return c.parent("region", "links between regions whose NATS servers are your own",
		c.command("region rights", "HERE NEIGHBOUR", "print what the user of a NEIGHBOUR's leaf node connection may do at the server of region HERE, as permissions in nats-server's configuration", 2, nil, func(_ ctx, a []string) error {
			for _, name := range a {
				if err := schemas.CheckRegion(name); err != nil {
					return err
				}
			}
			return c.printJSON(map[string]any{"permissions": map[string]any{
				"publish":   map[string]any{"allow": schemas.RegionAllows(a[0], a[1])},
				"subscribe": map[string]any{"allow": schemas.RegionAllows(a[1], a[0])},
			}})
		}),
	)
}
