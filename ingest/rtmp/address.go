package rtmp

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spillway-live/spillway/schemas"
)

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
