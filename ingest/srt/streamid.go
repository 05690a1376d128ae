package srt

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spillway-live/spillway/schemas"
)

// StreamID is what a caller asks for.
type StreamID struct {
	Key        schemas.StreamKey
	PublishKey string
	CDN        string
	// User is who the caller says it is; for the log only.
	User string
}

// maxStreamID is SRT's own bound, bytes.
const maxStreamID = 512

// errMode is wrapped where the caller wants something else than to publish.
var errMode = errors.New("this port takes publishers only: watch over HLS")

const streamIDHelp = "give #!::r=<application>/<stream>,m=publish,k=<publish key>, or <application>/<stream>?key=<publish key>"

// ParseStreamID reads a stream id in one of three forms: that of SRT's access control
// guidelines, "#!::r=APP/STREAM,m=publish,k=KEY" (keys k or key, cdn, u; others are
// passed over), "APP/STREAM?key=KEY&cdn=NAME", and "publish:" before the latter.
func ParseStreamID(id string) (StreamID, error) {
	var out StreamID
	if id == "" {
		return out, fmt.Errorf("the stream id is missing: %s", streamIDHelp)
	}
	if len(id) > maxStreamID {
		return out, fmt.Errorf("the stream id has %d bytes, at most %d are taken", len(id), maxStreamID)
	}
	// ffmpeg and OBS pass on what was escaped in a URL as it is.
	if strings.HasPrefix(id, "%23") || !strings.Contains(id, "/") && strings.Contains(strings.ToUpper(id), "%2F") {
		if plain, err := url.PathUnescape(id); err == nil {
			id = plain
		}
	}
	var path string
	var err error
	if rest, ok := strings.CutPrefix(id, "#!::"); ok {
		path, err = out.keyed(rest)
	} else if strings.HasPrefix(id, "#!") {
		err = fmt.Errorf("the stream id %.100q has a form that is not known: %s", id, streamIDHelp)
	} else {
		path, err = out.plain(id)
	}
	if err != nil {
		return out, err
	}
	names := strings.Split(strings.Trim(path, "/"), "/")
	if len(names) != 2 {
		return out, fmt.Errorf("%.100q is not <application>/<stream>: %s", path, streamIDHelp)
	}
	key := schemas.StreamKey{App: names[0], Stream: names[1]}
	if err := key.Check(); err != nil {
		return out, err
	}
	if out.CDN != "" {
		if err := schemas.CheckName("CDN name", out.CDN); err != nil {
			return out, err
		}
	}
	out.Key = key
	return out, nil
}

// keyed reads comma-separated pairs.
func (s *StreamID) keyed(rest string) (path string, err error) {
	for pair := range strings.SplitSeq(rest, ",") {
		k, v, _ := strings.Cut(pair, "=")
		switch k {
		case "r":
			path = v
		case "k", "key":
			s.PublishKey = v
		case "cdn":
			s.CDN = v
		case "u":
			s.User = v
		case "m":
			if v != "publish" {
				return "", fmt.Errorf("stream id with m=%.20q: %w", v, errMode)
			}
		case "t":
			if v != "stream" {
				return "", fmt.Errorf("stream id with t=%.20q: only live streams are taken", v)
			}
		}
	}
	if path == "" {
		return "", fmt.Errorf("the stream id has no r=: %s", streamIDHelp)
	}
	// What is written for the plain form may stand in r.
	if before, query, ok := strings.Cut(path, "?"); ok {
		return before, s.query(query)
	}
	return path, nil
}

func (s *StreamID) plain(id string) (path string, err error) {
	for _, word := range []string{"read:", "request:", "play:"} {
		if strings.HasPrefix(id, word) {
			return "", fmt.Errorf("stream id %.100q: %w", id, errMode)
		}
	}
	path, query, _ := strings.Cut(strings.TrimPrefix(id, "publish:"), "?")
	return path, s.query(query)
}

func (s *StreamID) query(q string) error {
	v, err := url.ParseQuery(q)
	if err != nil {
		return errors.New("the query in the stream id cannot be read: " + streamIDHelp)
	}
	if v.Has("key") {
		s.PublishKey = v.Get("key")
	}
	if v.Has("cdn") {
		s.CDN = v.Get("cdn")
	}
	return nil
}
