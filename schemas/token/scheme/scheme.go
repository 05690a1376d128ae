// Package scheme writes and checks play addresses the way each CDN signs them.
// Pure: no I/O, no clock of its own.
//
// Players resolve the URIs of a media playlist against its address. What stands
// in the path before /<app>/<stream>/ stays, a query does not (RFC 3986 section
// 5.2.2). So only schemes whose token is a part of the path can sign a live
// stream whose playlists are the same for everybody: [Scheme.Inherits] says
// which, and why not. A token in a cookie would do too, but players do not send
// cookies to other hosts unless the page asks for it.
package scheme

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Grant is what an address is signed for.
type Grant struct {
	// Dir is the folder whose content may be fetched, /<app>/<stream>/.
	Dir string
	// Session is our session token; only [Spillway] carries it.
	Session string
	// ExpiresUnix is the end of validity, Unix seconds.
	ExpiresUnix int64
}

// Errors of Verify. Tell them apart with errors.Is.
var (
	ErrNoToken   = errors.New("the address carries no token")
	ErrSignature = errors.New("the token's signature is wrong")
	ErrExpired   = errors.New("the token has expired")
	ErrPath      = errors.New("the token is for another path")
)

// Scheme is one CDN's way of signing. Implementations are values without state.
type Scheme interface {
	// Name is what the CDN registry calls it.
	Name() string
	// Inherits is nil where one signed playlist address also covers what the
	// playlist names by relative URIs; otherwise it says why not.
	Inherits() error
	// Sign gives u with the token. u's path lies in g.Dir.
	Sign(u *url.URL, g Grant, key []byte) (*url.URL, error)
	// Verify checks an address as a CDN does and gives what it is signed for,
	// and its path without the token.
	Verify(u *url.URL, key []byte, now time.Time) (g Grant, path string, err error)
	// CheckKey says what is wrong with a key.
	CheckKey(key []byte) error
}

// Schemes lists all, [Spillway] first.
func Schemes() []Scheme {
	return []Scheme{Spillway{}, NginxPath{}, AkamaiPath{}, NginxQuery{}, AkamaiQuery{}}
}

// ByName finds a scheme; the empty name is [Spillway].
func ByName(name string) (Scheme, error) {
	if name == "" || name == (Spillway{}).Name() {
		return Spillway{}, nil
	}
	var names []string
	for _, s := range Schemes() {
		if s.Name() == name {
			return s, nil
		}
		names = append(names, s.Name())
	}
	return nil, fmt.Errorf("token scheme %q is not known: %s are", name, strings.Join(names, ", "))
}

// ForPlaylists finds a scheme that can sign live streams.
func ForPlaylists(name string) (Scheme, error) {
	s, err := ByName(name)
	if err != nil {
		return nil, err
	}
	if err := s.Inherits(); err != nil {
		return nil, fmt.Errorf("token scheme %q cannot protect live playlists: %w", name, err)
	}
	return s, nil
}

// Base signs a folder of a CDN and gives what stands before it: base plus the
// token, without trailing slash. Everything below g.Dir is then at Base + path.
func Base(s Scheme, base string, g Grant, key []byte) (string, error) {
	if err := s.Inherits(); err != nil {
		return "", err
	}
	if _, ours := s.(Spillway); ours && g.Session != "" && plainBase(base) && inDir(g.Dir, g.Dir) {
		return base + "/t/" + g.Session, nil // what Sign comes to, for the most frequent case
	}
	u, err := url.Parse(base + g.Dir)
	if err != nil {
		return "", fmt.Errorf("sign for CDN at %s: %w", base, err)
	}
	signed, err := s.Sign(u, g, key)
	if err != nil {
		return "", err
	}
	out, ok := strings.CutSuffix(signed.String(), g.Dir)
	if !ok {
		return "", fmt.Errorf("token scheme %s does not keep the path at the end", s.Name())
	}
	return out, nil
}

// plainBase reports whether a base URL is http(s)://host[:port] and nothing else.
func plainBase(base string) bool {
	host, ok := strings.CutPrefix(base, "https://")
	if !ok {
		host, ok = strings.CutPrefix(base, "http://")
	}
	for i := range len(host) {
		switch c := host[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '.', c == '-':
		case c == ':':
			for _, d := range host[i+1:] {
				if d < '0' || d > '9' {
					return false
				}
			}
			return ok && i > 0
		default:
			return false
		}
	}
	return ok && host != ""
}

func inDir(path, dir string) bool {
	return strings.HasPrefix(dir, "/") && strings.HasSuffix(dir, "/") && strings.HasPrefix(path, dir) && !strings.Contains(path, "/../")
}

func checkSign(u *url.URL, g Grant) error {
	if !inDir(u.Path, g.Dir) {
		return fmt.Errorf("sign %s: %w: it is not in %s", u.Path, ErrPath, g.Dir)
	}
	return nil
}

// needQuery is why schemes whose token is a query cannot protect playlists.
func needQuery(instead string) error {
	return fmt.Errorf("the token is in the query, which parts and segments named by relative URIs do not inherit: use %s, whose token is in the path", instead)
}

// withPrefix puts a segment in front of the path. segment is escaped already.
func withPrefix(u *url.URL, segment string) (*url.URL, error) {
	raw := "/" + segment + u.EscapedPath()
	path, err := url.PathUnescape(raw)
	if err != nil {
		return nil, err
	}
	v := *u
	v.Path, v.RawPath = path, raw
	return &v, nil
}
