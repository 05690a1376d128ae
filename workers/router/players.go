package router

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/spillway-live/spillway/schemas"
)

// steers says whether the manifest is for a player that obeys content steering:
// as the request says (steer=0 or 1), the application's settings, or else the
// player's user agent. Who steers is given pathways; who does not, backups.
func (r *Router) steers(q *http.Request, v query, state *schemas.StreamState) bool {
	switch v.Get("steer") {
	case "0":
		return false
	case "1":
		return true
	}
	s := schemas.SettingsOf(state.Key(), r.t.apps.Get)
	switch s.Steering {
	case schemas.SteeringOff:
		return false
	case schemas.SteeringOn:
		return true
	}
	return agentSteers(q.UserAgent())
}

// neverSteer are what user agents of players without content steering hold.
// Browsers' say nothing about the player in them: all three that play there steer.
var neverSteer = []string{
	"ExoPlayerLib/", "AndroidXMedia3/", "stagefright/", // Android
	"Lavf/", "libmpv", "VLC/", "LibVLC", "GStreamer", "Kodi/", "Roku", "MPlayer", "NSPlayer",
}

// appleSteers are the first versions of systems whose native player (Safari's
// HLS, AVPlayer) steers: those of autumn 2021.
var appleSteers = []struct {
	name  string
	major int
}{{"CPU OS ", 15}, {"CPU iPhone OS ", 15}, {"Intel Mac OS X ", 12}, {"Apple TV", 15}}

// agentSteers reads a user agent. One that is not known steers: a player that
// does not passes over what it does not know, and finds the backups all the same.
func agentSteers(agent string) bool {
	for _, s := range neverSteer {
		if strings.Contains(agent, s) {
			return false
		}
	}
	if !strings.Contains(agent, "AppleCoreMedia/") {
		return true
	}
	for _, x := range appleSteers {
		if _, rest, ok := strings.Cut(agent, x.name); ok {
			if major, ok := leadingNumber(rest); ok {
				return major >= x.major
			}
		}
	}
	return true
}

// leadingNumber reads 15 of 15_4 like Mac OS X.
func leadingNumber(s string) (int, bool) {
	end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(s)
	}
	n, err := strconv.Atoi(s[:end])
	return n, err == nil
}
