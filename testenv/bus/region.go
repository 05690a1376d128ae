package bus

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/spillway-live/spillway/schemas"
)

// RegionOptions join servers of several regions by leaf node connections. Each
// region has a JetStream domain of its own, named after it, so nothing is stored
// in two regions by itself: what goes over a link is what [schemas.RegionAllows]
// lets through, and relays carry the rest.
type RegionOptions struct {
	// Name of the region and of its JetStream domain; empty: one region, no links.
	Name string
	// Listen is HOST:PORT where neighbours connect; empty: none do. Port 0 takes a free one.
	Listen string
	// Neighbours are the regions that may connect to Listen, each with its password.
	Neighbours []Neighbour
	// Remotes are the regions that are connected to.
	Remotes []Remote
	// TLS secures Listen, RemoteTLS the connections to Remotes whose URL is tls://;
	// nil: in the clear at Listen, and the system's authorities for tls://.
	TLS, RemoteTLS *tls.Config
}

// Neighbour is a region that may connect.
type Neighbour struct {
	Region   string
	Password string
}

// Remote is a region that is connected to.
type Remote struct {
	Region string
	// URL is nats-leaf://REGION:PASSWORD@HOST:PORT or, encrypted, tls://...; the
	// user is this region's name and the password what the remote expects of it.
	URL string
}

// minPassword of a leaf connection, in bytes.
const minPassword = 16

// leafPing finds dead links; two unanswered pings end one.
const leafPing = 5 * time.Second

func (r *RegionOptions) check() error {
	if r.Name == "" {
		if r.Listen != "" || len(r.Neighbours) > 0 || len(r.Remotes) > 0 {
			return errors.New("links to other regions need this region's name")
		}
		return nil
	}
	if err := schemas.CheckRegion(r.Name); err != nil {
		return err
	}
	if r.Listen == "" && len(r.Neighbours) > 0 {
		return errors.New("regions may connect and there is no address to connect to")
	}
	if r.Listen != "" {
		if _, _, err := net.SplitHostPort(r.Listen); err != nil {
			return fmt.Errorf("address for neighbouring regions: %w: give HOST:PORT", err)
		}
		if len(r.Neighbours) == 0 {
			return errors.New("an address for neighbouring regions and no region that may connect: nobody would be asked for a password")
		}
	}
	seen := map[string]bool{r.Name: true}
	for _, n := range r.Neighbours {
		if err := schemas.CheckRegion(n.Region); err != nil {
			return err
		}
		if seen[n.Region] {
			return fmt.Errorf("region %s is named twice", n.Region)
		}
		seen[n.Region] = true
		if len(n.Password) < minPassword {
			return fmt.Errorf("the password of region %s has %d bytes: give at least %d", n.Region, len(n.Password), minPassword)
		}
	}
	for _, m := range r.Remotes {
		if err := schemas.CheckRegion(m.Region); err != nil {
			return err
		}
		if seen[m.Region] {
			return fmt.Errorf("region %s is named twice: one link between two regions, from one side", m.Region)
		}
		seen[m.Region] = true
		u, err := url.Parse(m.URL)
		if err != nil || u.Host == "" || (u.Scheme != "nats-leaf" && u.Scheme != "tls") || u.User.Username() != r.Name {
			return fmt.Errorf("the address of region %s is not nats-leaf:// or tls://%s:PASSWORD@HOST:PORT", m.Region, r.Name)
		}
	}
	return nil
}

// apply adds the region to a server's options, checked before.
func (r *RegionOptions) apply(o *server.Options) {
	if r.Name == "" {
		return
	}
	o.ServerName, o.JetStreamDomain, o.PingInterval, o.MaxPingsOut = "spillway-"+r.Name, r.Name, leafPing, 2
	o.LeafNode.ReconnectInterval = 500 * time.Millisecond
	// Video does not compress.
	o.LeafNode.Compression.Mode = server.CompressionOff
	if r.Listen != "" {
		host, port, _ := net.SplitHostPort(r.Listen)
		o.LeafNode.Host, o.LeafNode.TLSConfig, o.LeafNode.NoAdvertise = host, r.TLS, true
		if o.LeafNode.Port, _ = strconv.Atoi(port); o.LeafNode.Port == 0 {
			o.LeafNode.Port = server.RANDOM_PORT
		}
		if r.TLS != nil {
			o.LeafNode.TLSTimeout = 5
		}
		for _, n := range r.Neighbours {
			o.Users = append(o.Users, &server.User{
				Username: n.Region, Password: n.Password, AllowedConnectionTypes: kinds(jwt.ConnectionTypeLeafnode),
				Permissions: &server.Permissions{
					Publish:   &server.SubjectPermission{Allow: schemas.RegionAllows(r.Name, n.Region)},
					Subscribe: &server.SubjectPermission{Allow: schemas.RegionAllows(n.Region, r.Name)},
				},
			})
		}
	}
	for _, m := range r.Remotes {
		u, _ := url.Parse(m.URL)
		remote := &server.RemoteLeafOpts{
			URLs: []*url.URL{u}, Compression: server.CompressionOpts{Mode: server.CompressionOff},
			// The remote side limits this region; this is what it must not do here.
			DenyImports: schemas.RegionDenies(), DenyExports: schemas.RegionDenies(),
		}
		if u.Scheme == "tls" {
			remote.TLS, remote.TLSConfig, remote.TLSTimeout = true, r.RemoteTLS, 5
		}
		o.LeafNode.Remotes = append(o.LeafNode.Remotes, remote)
	}
}

func kinds(names ...string) map[string]struct{} {
	m := map[string]struct{}{}
	for _, n := range names {
		m[n] = struct{}{}
	}
	return m
}

// LeafAddr is where neighbouring regions connect, HOST:PORT; empty: nowhere.
func (s *Server) LeafAddr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.o.Region.Listen
}
