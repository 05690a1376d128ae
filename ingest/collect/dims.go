package collect

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spillway-live/spillway/ingest/cmcd"
	"github.com/spillway-live/spillway/ingest/geo"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
)

// dims are what every row of a request has in common.
type dims struct {
	token  token.Session
	signed bool // token is ours
	place  geo.Place
	agent  agent
	// network is what the browser says of its connection.
	network string
	// player and version are what the target URL says of the client.
	player, version string
}

// dims reads the request's token, place and client. The token is taken from the
// query argument t or from Authorization: Bearer, and goes no further.
func (c *Collector) dims(r *http.Request, now time.Time) dims {
	d := dims{
		place: c.s.Places.Lookup(r), agent: parseAgent(r.UserAgent()),
		player: short(queryArg(r.URL.RawQuery, "player")), version: short(queryArg(r.URL.RawQuery, "pv")),
	}
	switch e := r.Header.Get("ECT"); e {
	case "slow-2g", "2g", "3g", "4g":
		d.network = e
	}
	tok := queryArg(r.URL.RawQuery, "t")
	if tok == "" {
		tok, _ = strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	}
	result := "absent"
	if tok != "" && c.s.Tokens != nil {
		var err error
		d.token, err = c.s.Tokens.ParseSession(tok, now)
		switch {
		case err == nil:
			result, d.signed = "good", true
		case errors.Is(err, token.ErrExpired): // what it says is still true
			result, d.signed = "expired", true
		default:
			result, d.token = "bad", token.Session{}
		}
	}
	c.m.tokens.WithLabelValues(result).Inc()
	return d
}

// apply fills in what the row does not have yet.
func (d *dims) apply(t *schemas.Telemetry) {
	if d.signed {
		s := &d.token
		t.App, t.Stream, t.ViewerID, t.Arms = s.App, s.Stream, s.ViewerID, s.Arms
		t.Region, t.ISP = s.Region, s.ISP
		if t.SessionID == "" {
			t.SessionID = s.SessionID
		}
	} else if app, stream, ok := strings.Cut(t.ContentID, "/"); ok && t.App == "" {
		if (schemas.StreamKey{App: app, Stream: stream}).Check() == nil {
			t.App, t.Stream = app, stream
		}
	}
	fill(&t.Region, d.place.Region)
	fill(&t.ISP, d.place.ISP)
	fill(&t.Country, d.place.Country)
	fill(&t.Device, d.agent.device)
	fill(&t.OS, d.agent.os)
	fill(&t.NetworkType, d.network)
	fill(&t.Client, d.player)
	fill(&t.ClientVersion, d.version)
}

func fill(dst *string, v string) {
	if *dst == "" {
		*dst = v
	}
}

// playerHint is the player named by the target URL.
func (d *dims) playerHint() cmcd.Player { return cmcd.ParsePlayer(d.player) }

const (
	maxShort = 64
	maxPath  = 1024
	maxID    = 128
)

// short gives v if it is clean text of at most 64 bytes, or "".
func short(v string) string { return text(v, maxShort) }

func text(v string, limit int) string {
	if len(v) > limit || !utf8.ValidString(v) {
		return ""
	}
	for i := range len(v) {
		if v[i] < 0x20 || v[i] == 0x7f {
			return ""
		}
	}
	return v
}

func unescape(v string) string {
	if strings.IndexByte(v, '%') < 0 && strings.IndexByte(v, '+') < 0 {
		return v
	}
	u, err := url.QueryUnescape(v)
	if err != nil {
		return ""
	}
	return u
}

// splitURL gives host (with port) and path of a URL, without user, query,
// fragment and session token.
func splitURL(u string) (host, path string) {
	if i := strings.IndexAny(u, "?#"); i >= 0 {
		u = u[:i]
	}
	if i := strings.Index(u, "://"); i >= 0 {
		u = u[i+3:]
		host, path = u, ""
		if i := strings.IndexByte(u, '/'); i >= 0 {
			host, path = u[:i], u[i:]
		}
		if i := strings.LastIndexByte(host, '@'); i >= 0 {
			host = host[i+1:]
		}
		host = strings.ToLower(host)
	} else {
		path = u
	}
	if len(host) > 256 {
		host = ""
	}
	return host, cleanPath(path)
}

// cleanPath removes the prefix /t/<token>, and shortens what is too long.
func cleanPath(p string) string {
	if rest, ok := strings.CutPrefix(p, "/t/"); ok {
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			p = rest[i:]
		} else {
			p = "/"
		}
	}
	if len(p) > maxPath {
		p = strings.ToValidUTF8(p[:maxPath], "")
	}
	return p
}

// agent is what is kept of a User-Agent header.
type agent struct{ device, os string }

// parseAgent recognises device class and operating system, coarsely.
func parseAgent(ua string) agent {
	if ua == "" {
		return agent{}
	}
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(ua, w) {
				return true
			}
		}
		return false
	}
	var a agent
	switch {
	case has("Tizen"):
		a.os = "Tizen"
	case has("Web0S", "webOS"):
		a.os = "webOS"
	case has("Android"):
		a.os = "Android"
	case has("iPhone", "iPad", "iPod", "AppleTV"):
		a.os = "iOS"
	case has("Windows"):
		a.os = "Windows"
	case has("Macintosh", "Mac OS X"):
		a.os = "macOS"
	case has("CrOS"):
		a.os = "ChromeOS"
	case has("Linux", "X11"):
		a.os = "Linux"
	}
	switch {
	case has("SmartTV", "SMART-TV", "Smart-TV", "AppleTV", "BRAVIA", "CrKey", "Roku", "AFTB", "AFTM", "AFTT", "GoogleTV", "Android TV"), a.os == "webOS":
		a.device = "tv"
	case has("iPad", "Tablet"), a.os == "Android" && !has("Mobile"):
		a.device = "tablet"
	case has("iPhone", "iPod", "Mobi"):
		a.device = "phone"
	case a.os == "Tizen":
		a.device = "tv"
	case a.os != "":
		a.device = "desktop"
	}
	return a
}
