package rtmp

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
)

// Auth decides who may publish.
type Auth struct {
	// Keys checks publish keys; nil means that no key can be right.
	Keys *token.Signer
	// OpenLoopback lets peers on a loopback address publish without a key. A key that is given must be right anyway.
	OpenLoopback bool
}

func (a Auth) check(key string, k schemas.StreamKey, peer netip.Addr, now time.Time) error {
	if key != "" {
		if a.Keys == nil {
			return errors.New("a publish key was given, but this server has no key to check it with: leave it out, or start ingest with a token key")
		}
		if _, err := a.Keys.ParsePublish(key, now, k.App, k.Stream); err != nil {
			return fmt.Errorf("publish key: %w", err)
		}
		return nil
	}
	if a.OpenLoopback && peer.IsLoopback() {
		return nil
	}
	return errors.New("publish key is missing: append ?key=<publish key> to the stream name")
}

// target is what a publish URL says.
type target struct {
	key schemas.StreamKey
	pub string // publish key
	cdn string
}

// parseTarget reads rtmp://host/app and stream?query. The query may also stand
// behind the application.
func parseTarget(tcURL, name string) (target, error) {
	u, err := url.Parse(tcURL)
	if err != nil {
		return target{}, errors.New("the publish URL cannot be read: publish to rtmp://host:port/<application>/<stream>")
	}
	path, query := strings.Trim(u.Path, "/"), u.RawQuery
	if left, right, ok := strings.Cut(query, "/"); ok {
		path, query = path+"/"+right, left
	}
	name, more, _ := strings.Cut(name, "?")
	if name != "" {
		path += "/" + name
	}
	if more != "" {
		query += "&" + more
	}
	var t target
	names := strings.Split(strings.Trim(path, "/"), "/")
	if len(names) != 2 {
		return t, fmt.Errorf("%.100q is not <application>/<stream>: publish to rtmp://host:port/<application>/<stream>", strings.Trim(path, "/"))
	}
	t.key = schemas.StreamKey{App: names[0], Stream: names[1]}
	if err := t.key.Check(); err != nil {
		return target{}, err
	}
	q, err := url.ParseQuery(query)
	if err != nil {
		return t, fmt.Errorf("query of the publish URL: %w", err)
	}
	t.pub, t.cdn = q.Get("key"), q.Get("cdn")
	if t.cdn != "" {
		if err := schemas.CheckName("CDN name", t.cdn); err != nil {
			return t, err
		}
	}
	return t, nil
}
