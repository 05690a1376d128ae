package geo_test

import (
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spillway-live/spillway/ingest/geo"
	"github.com/spillway-live/spillway/testenv/geodb"
)

func locator(t *testing.T, s geo.Settings) *geo.Locator {
	t.Helper()
	file := filepath.Join(t.TempDir(), "places.mmdb")
	if err := geodb.Write(file, geodb.Default()); err != nil {
		t.Fatal(err)
	}
	s.Files = append(s.Files, file)
	l, err := geo.Open(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func TestLookup(t *testing.T) {
	l := locator(t, geo.Settings{Regions: map[string]string{"DE": "eu-central", "NA": "america"}})
	for _, c := range []struct {
		name, remote, region, isp, forwarded string
		want                                 geo.Place
	}{
		{name: "by address", remote: "127.1.2.3:40", want: geo.Place{Region: "CN-SH", ISP: "Example Telecom", Country: "CN"}},
		{name: "country's region", remote: "198.51.100.9:1", want: geo.Place{Region: "eu-central", ISP: "Example Kabel", Country: "DE"}},
		{name: "continent's region", remote: "203.0.113.77:1", want: geo.Place{Region: "america", ISP: "Example Fiber", Country: "US"}},
		{name: "IPv6", remote: "[2001:db8::5]:1", want: geo.Place{Region: "FR-IDF", ISP: "Example Fibre", Country: "FR"}},
		{name: "IPv4 in IPv6", remote: "[::ffff:127.1.0.1]:1", want: geo.Place{Region: "CN-SH", ISP: "Example Telecom", Country: "CN"}},
		{name: "unknown", remote: "127.0.0.1:1"},
		{name: "not an address", remote: "@"},
		{name: "trusted headers", remote: "127.0.0.1:1", region: "eu", isp: "Deutsche Telekom AG", want: geo.Place{Region: "eu", ISP: "Deutsche Telekom AG"}},
		{name: "untrusted headers", remote: "192.0.2.1:1", region: "eu", isp: "X", want: geo.Place{Region: "CN-SH", ISP: "Example Telecom", Country: "CN"}},
		{name: "hostile header", remote: "127.0.0.1:1", region: "eu\x00\n", isp: "\xff\xfe"},
		{name: "long header", remote: "127.0.0.1:1", region: strings.Repeat("é", 200), want: geo.Place{Region: strings.Repeat("é", 32)}},
		{name: "forwarded", remote: "127.0.0.1:1", forwarded: "192.0.2.7", want: geo.Place{Region: "CN-SH", ISP: "Example Telecom", Country: "CN"}},
		{name: "client's own claim is not believed", remote: "127.0.0.1:1", forwarded: "192.0.2.7, 203.0.113.5, 127.0.0.9", want: geo.Place{Region: "america", ISP: "Example Fiber", Country: "US"}},
		{name: "untrusted forwarder", remote: "203.0.113.5:1", forwarded: "192.0.2.7", want: geo.Place{Region: "america", ISP: "Example Fiber", Country: "US"}},
		{name: "broken forwarded", remote: "127.0.0.1:1", forwarded: "192.0.2.7, ;drop"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = c.remote
			r.Header.Set(geo.HeaderRegion, c.region)
			r.Header.Set(geo.HeaderISP, c.isp)
			if c.forwarded != "" {
				r.Header.Set("X-Forwarded-For", c.forwarded)
			}
			if got := l.Lookup(r); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestOwnTrust(t *testing.T) {
	l := locator(t, geo.Settings{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set(geo.HeaderRegion, "mars")
	r.RemoteAddr = "127.1.0.1:1"
	if got := l.Lookup(r).Region; got != "CN-SH" {
		t.Errorf("loopback is not trusted here, yet its header counted: %q", got)
	}
	r.RemoteAddr = "192.0.2.1:1"
	if got := l.Lookup(r).Region; got != "mars" {
		t.Errorf("header of a trusted proxy did not count: %q", got)
	}
}

func TestOpenBadFile(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.mmdb")
	if err := os.WriteFile(bad, []byte("not a database"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{bad, bad + ".missing"} {
		if _, err := geo.Open(geo.Settings{Files: []string{f}}); err == nil || !strings.Contains(err.Error(), f) {
			t.Errorf("open %s: error %v does not name the file", f, err)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	file := filepath.Join(b.TempDir(), "places.mmdb")
	if err := geodb.Write(file, geodb.Default()); err != nil {
		b.Fatal(err)
	}
	l, err := geo.Open(geo.Settings{Files: []string{file}})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	a := netip.MustParseAddr("127.1.2.3")
	for b.Loop() {
		if l.LookupAddr(a).Country != "CN" {
			b.Fatal("wrong place")
		}
	}
}
