// Package geodb makes small place databases in MaxMind format, so that tests
// and a system on one machine read places through the same code as production.
package geodb

import (
	"fmt"
	"net/netip"
	"os"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
	"go4.org/netipx"
)

// Network places a range of addresses. Region is an ISO 3166-2 subdivision
// without its country ("BE"); empty fields are left out of the record.
type Network struct {
	Prefix    string
	Continent string
	Country   string
	Region    string
	ISP       string
}

// Default are ranges that no real viewer has: loopback, whose addresses
// 127.1.0.0 and up Linux lets a client bind to, and the documentation ranges
// of RFC 5737 and RFC 3849. 127.0.0.0/16 is left out: the usual loopback
// address is nowhere.
func Default() []Network {
	return []Network{
		{"127.1.0.0/16", "AS", "CN", "SH", "Example Telecom"},
		{"127.2.0.0/16", "AS", "CN", "GD", "Example Mobile"},
		{"127.3.0.0/16", "EU", "DE", "BE", "Example Kabel"},
		{"127.4.0.0/16", "NA", "US", "CA", "Example Fiber"},
		{"192.0.2.0/24", "AS", "CN", "SH", "Example Telecom"},
		{"198.51.100.0/24", "EU", "DE", "BE", "Example Kabel"},
		{"203.0.113.0/24", "NA", "US", "", "Example Fiber"},
		{"2001:db8::/32", "EU", "FR", "IDF", "Example Fibre"},
	}
}

// Write makes a database at path with the layouts of City and ISP in one record.
func Write(path string, networks []Network) error {
	tree, err := mmdbwriter.New(mmdbwriter.Options{
		DatabaseType: "Spillway-Test-City-ISP", RecordSize: 24, IncludeReservedNetworks: true,
	})
	if err != nil {
		return fmt.Errorf("make place database: %w", err)
	}
	for _, n := range networks {
		p, err := netip.ParsePrefix(n.Prefix)
		if err != nil {
			return fmt.Errorf("make place database: network %q: %w", n.Prefix, err)
		}
		if err := tree.Insert(netipx.PrefixIPNet(p), n.record()); err != nil {
			return fmt.Errorf("make place database: network %s: %w", n.Prefix, err)
		}
	}
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("make place database: %w", err)
	}
	if _, err := tree.WriteTo(f); err != nil {
		f.Close()
		return fmt.Errorf("write place database %s: %w", path, err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("write place database %s: %w", path, err)
	}
	return nil
}

func (n Network) record() mmdbtype.Map {
	m := mmdbtype.Map{}
	if n.Continent != "" {
		m["continent"] = mmdbtype.Map{"code": mmdbtype.String(n.Continent)}
	}
	if n.Country != "" {
		m["country"] = mmdbtype.Map{"iso_code": mmdbtype.String(n.Country)}
	}
	if n.Region != "" {
		m["subdivisions"] = mmdbtype.Slice{mmdbtype.Map{"iso_code": mmdbtype.String(n.Region)}}
	}
	if n.ISP != "" {
		m["isp"] = mmdbtype.String(n.ISP)
	}
	return m
}
