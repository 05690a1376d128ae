// Package geo says where a viewer is: region, internet provider, country. The
// router and the collector use it, tests and production alike.
//
// It promises that addresses are only looked at, never kept or logged, and that
// headers which claim a place count only when they come from a proxy that is
// trusted. It does not download or update databases; those are files in MaxMind
// format that the operator supplies.
package geo

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/oschwald/maxminddb-golang/v2"
)

// Headers by which a trusted proxy, such as an edge, says where its client is.
const (
	HeaderRegion = "X-Spillway-Region"
	HeaderISP    = "X-Spillway-ISP"
)

// maxText bounds region and provider names, in bytes: they travel in tokens.
const maxText = 64

// maxHops bounds how many addresses of X-Forwarded-For are looked at.
const maxHops = 16

// Place is what is known of a viewer's whereabouts. Unknown parts are empty.
type Place struct {
	// Region is the operator's name of it (Settings.Regions), or an ISO 3166-2
	// subdivision ("DE-BE"), or a country.
	Region string
	// ISP is the provider's name, or the organisation of the autonomous system.
	ISP string
	// Country is ISO 3166-1 alpha-2.
	Country string
}

// Settings of a Locator. The zero value knows only what loopback proxies say.
type Settings struct {
	// Files are databases in MaxMind format (City, Country, ISP, ASN layouts); a
	// later file fills in what earlier ones left open.
	Files []string
	// TrustedProxies may speak for their clients; default 127.0.0.0/8 and ::1.
	TrustedProxies []netip.Prefix
	// Regions maps ISO 3166-2 subdivisions, countries or continent codes to the
	// operator's names of regions; the most specific entry wins.
	Regions map[string]string
}

// Loopback is what Settings.TrustedProxies is where nothing else is said.
func Loopback() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
}

// Locator answers lookups. Safe for concurrent use.
type Locator struct {
	readers []*maxminddb.Reader
	trusted []netip.Prefix
	regions map[string]string
}

// Open opens the databases. Errors name the file.
func Open(s Settings) (*Locator, error) {
	l := &Locator{trusted: s.TrustedProxies, regions: s.Regions}
	if l.trusted == nil {
		l.trusted = Loopback()
	}
	for _, f := range s.Files {
		r, err := maxminddb.Open(f)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open place database %s: %w", f, err), l.Close())
		}
		l.readers = append(l.readers, r)
	}
	return l, nil
}

// Close releases the databases.
func (l *Locator) Close() error {
	var errs []error
	for _, r := range l.readers {
		errs = append(errs, r.Close())
	}
	return errors.Join(errs...)
}

// Trusted reports whether addr may speak for its clients.
func (l *Locator) Trusted(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	for _, p := range l.trusted {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// Client gives the address a request came from: the peer's, or, behind trusted
// proxies, the last one in X-Forwarded-For that is not itself trusted. It is
// for looking up and for limiting rates only: do not store it. The zero Addr
// means that the peer is not an IP address.
func (l *Locator) Client(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := ap.Addr().Unmap().WithZone("")
	if !l.Trusted(addr) {
		return addr
	}
	lines := r.Header["X-Forwarded-For"]
	hops := 0
	for i := len(lines) - 1; i >= 0; i-- {
		for rest, more := lines[i], true; more; hops++ {
			var hop string
			if at := strings.LastIndexByte(rest, ','); at >= 0 {
				rest, hop = rest[:at], rest[at+1:]
			} else {
				hop, more = rest, false
			}
			a, err := netip.ParseAddr(strings.TrimSpace(hop))
			if err != nil || hops == maxHops {
				return addr // what lies before a broken entry was not written by a proxy of ours
			}
			addr = a.Unmap().WithZone("")
			if !l.Trusted(addr) {
				return addr
			}
		}
	}
	return addr
}

// Lookup says where the client of a request is.
func (l *Locator) Lookup(r *http.Request) Place { return l.LookupClient(r, l.Client(r)) }

// LookupClient is Lookup where the client's address is known already.
func (l *Locator) LookupClient(r *http.Request, client netip.Addr) Place {
	p := l.LookupAddr(client)
	if peer, err := netip.ParseAddrPort(r.RemoteAddr); err == nil && l.Trusted(peer.Addr()) {
		if v := clean(r.Header.Get(HeaderRegion)); v != "" {
			p.Region = v
		}
		if v := clean(r.Header.Get(HeaderISP)); v != "" {
			p.ISP = v
		}
	}
	return p
}

type record struct {
	Continent struct {
		Code string `maxminddb:"code"`
	} `maxminddb:"continent"`
	Country struct {
		ISOCode string `maxminddb:"iso_code"`
	} `maxminddb:"country"`
	Subdivisions []struct {
		ISOCode string `maxminddb:"iso_code"`
	} `maxminddb:"subdivisions"`
	ISP   string `maxminddb:"isp"`
	ASOrg string `maxminddb:"autonomous_system_organization"`
}

// LookupAddr says where an address is, by the databases alone. A record that
// cannot be read counts as unknown: a damaged entry must not refuse a viewer.
func (l *Locator) LookupAddr(addr netip.Addr) Place {
	var p Place
	if !addr.IsValid() {
		return p
	}
	for _, db := range l.readers {
		var rec record
		if err := db.Lookup(addr).Decode(&rec); err != nil {
			continue
		}
		if p.Country == "" {
			p.Country = clean(rec.Country.ISOCode)
		}
		if p.Region == "" {
			p.Region = l.region(&rec)
		}
		if p.ISP == "" {
			if p.ISP = clean(rec.ISP); p.ISP == "" {
				p.ISP = clean(rec.ASOrg)
			}
		}
	}
	return p
}

func (l *Locator) region(rec *record) string {
	country, sub := clean(rec.Country.ISOCode), ""
	if len(rec.Subdivisions) > 0 && country != "" {
		if s := clean(rec.Subdivisions[0].ISOCode); s != "" {
			sub = country + "-" + s
		}
	}
	for _, code := range []string{sub, country, clean(rec.Continent.Code)} {
		if name, ok := l.regions[code]; ok && code != "" {
			return clean(name)
		}
	}
	if sub != "" {
		return sub
	}
	return country
}

// clean trims text from outside to maxText bytes of printable UTF-8, or nothing.
func clean(s string) string {
	if s == "" {
		return ""
	}
	s = strings.TrimSpace(s)
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return ""
	}
	for len(s) > maxText {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}
