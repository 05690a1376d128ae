package router

import (
	"net/url"
	"slices"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/workers/hls"
)

// clones announces the CDNs of an answer that were not in the session's manifest:
// added to the registry, or back in service, since. Each is made of the best
// CDN that was, which is where a player goes that does not understand the clone.
func (r *Router) clones(st *token.Steering, priority []string, state *schemas.StreamState, now time.Time) []hls.Clone {
	if len(st.Pathways) == 0 {
		return nil
	}
	var out []hls.Clone
	var o *opened
	base := st.Pathways[0]
	if i := slices.IndexFunc(priority, func(id string) bool { return slices.Contains(st.Pathways, id) }); i >= 0 {
		base = priority[i]
	}
	for _, id := range priority {
		cdn := r.t.cdn(id)
		if cdn == nil || slices.Contains(st.Pathways, id) {
			continue
		}
		if o == nil {
			if o = r.ofSession(st); o == nil {
				return nil
			}
		}
		if c, ok := r.clone(st, o, base, cdn, state, now); ok {
			out = append(out, c)
		}
	}
	return out
}

// ofSession gives the session with the token that its manifest's addresses have:
// equal claims have equal tokens.
func (r *Router) ofSession(st *token.Steering) *opened {
	c := st.Session
	c.MovedUnix = 0
	tok, err := r.s.Signer.SignSession(c)
	if err != nil {
		return nil
	}
	return &opened{claims: c, token: tok}
}

// clone says how a CDN is reached. Where nothing but the host's name differs
// from the base, every player can do it. Otherwise HLS is told each address, and
// DASH nothing: its players fetch the MPD again within seconds, which has the CDN.
func (r *Router) clone(st *token.Steering, o *opened, base string, cdn *schemas.CDN, state *schemas.StreamState, now time.Time) (hls.Clone, bool) {
	c := hls.Clone{BaseID: base, ID: cdn.Name}
	u, ok := r.sessionBase(cdn, o)
	if !ok {
		return c, false
	}
	if was := r.t.cdn(base); was != nil {
		if b, ok := r.sessionBase(was, o); ok {
			if c.Host = otherHost(b, u); c.Host != "" {
				return c, true
			}
		}
	}
	if st.Format == formatDASH || state == nil || len(state.Epoch.Tracks) == 0 {
		return c, false
	}
	m := r.playlist(state, st.Format, now)
	m.Key = schemas.StreamKey{App: st.App, Stream: st.Stream}
	c.PerVariant, c.PerRendition = m.PathwayURIs(&hls.Pathway{ID: cdn.Name, BaseURL: u})
	return c, true
}

// otherHost gives the host of b where it is all that differs from a; "" otherwise.
func otherHost(a, b string) string {
	x, err1 := url.Parse(a)
	y, err2 := url.Parse(b)
	if err1 != nil || err2 != nil || x.Scheme != y.Scheme || x.Port() != y.Port() || x.Path != y.Path {
		return ""
	}
	return y.Hostname()
}

// playlist is a stream's multivariant playlist in a format, without pathways.
func (r *Router) playlist(state *schemas.StreamState, format string, now time.Time) hls.Multivariant {
	var made []*schemas.RenditionState
	if format != formatDVR { // the past holds them only where somebody watched
		made = r.t.made.Of(state, now)
	}
	m := hls.FromState(state, made...)
	m.TS = format == formatTS
	if format == formatDVR {
		m.Playlist = hls.DVRName
	}
	return m
}
