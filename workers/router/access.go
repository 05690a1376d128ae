package router

import (
	"net/http"
	"strings"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/access"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/schemas/token/scheme"
)

// playKey reads a play key: ?key=, or Authorization: Bearer, which keeps it out of logs.
func playKey(q *http.Request, v query) string {
	if k := v.Get("key"); k != "" {
		return k
	}
	k, _ := strings.CutPrefix(q.Header.Get("Authorization"), "Bearer ")
	return k
}

// grant is what a new session may have.
type grant struct {
	access.Access
	keyed    bool
	viewer   string // hashed; as the play key says, where it says
	endsUnix int64  // 0: as long as sessions last
}

// admit decides whether a viewer may begin to watch: it comes before anything
// is done for the stream, so that nobody wakes a camera he may not see.
func (r *Router) admit(in *request, now time.Time) (grant, error) {
	if err := in.k.Check(); err != nil {
		return grant{}, refuse(http.StatusBadRequest, "%v", err)
	}
	g := grant{Access: r.t.access.Of(in.k, now), viewer: in.viewer}
	if g.Ended != "" {
		return g, refuse(http.StatusGone, "%s: %s", in.k, g.Ended)
	}
	g.endsUnix = g.UntilUnix
	if !g.Private {
		return g, nil
	}
	if in.key == "" {
		return g, refuse(http.StatusForbidden, "stream %s is private: show a play key (?key=, or Authorization: Bearer), or use a share of it", in.k)
	}
	p, err := r.s.Signer.ParsePlay(in.key, now, in.k.App, in.k.Stream)
	if err != nil {
		return g, refuse(http.StatusForbidden, "stream %s is private and the play key does not open it: %v: ask for a new one", in.k, err)
	}
	g.keyed = true
	if p.ViewerID != "" {
		g.viewer = p.ViewerID
	}
	if p.EndsViews {
		g.endsUnix = p.ExpiresUnix
	}
	return g, nil
}

// stillMay decides whether a session that began may go on asking: its share may
// have ended, or its stream become private since.
func (r *Router) stillMay(c *token.Session, now time.Time) (access.Access, error) {
	k := schemas.StreamKey{App: c.App, Stream: c.Stream}
	a := r.t.access.Of(k, now)
	switch {
	case a.Ended != "":
		return a, refuse(http.StatusGone, "%s: %s", k, a.Ended)
	case a.Private && !c.Keyed:
		return a, refuse(http.StatusForbidden, "stream %s is private now and the session was opened without a play key: show one", k)
	}
	return a, nil
}

// signs reports whether addresses of a CDN can be signed here, and why not.
func (r *Router) signs(c *schemas.CDN) error {
	_, err := r.base(c, scheme.Grant{Dir: "/a/b/", Session: "t", ExpiresUnix: 1})
	return err
}

// base is what stands before /<app>/<stream>/ in a session's addresses at a CDN.
func (r *Router) base(c *schemas.CDN, g scheme.Grant) (string, error) {
	s, err := scheme.ForPlaylists(c.TokenScheme)
	if err != nil {
		return "", err
	}
	return scheme.Base(s, c.BaseURL, g, r.s.CDNKeys[c.TokenKey])
}

// sessionBase is base for a session.
func (r *Router) sessionBase(c *schemas.CDN, o *opened) (string, bool) {
	b, err := r.base(c, scheme.Grant{Dir: "/" + o.claims.App + "/" + o.claims.Stream + "/", Session: o.token, ExpiresUnix: o.claims.ExpiresUnix})
	if err != nil {
		r.s.Logger.Error("address of CDN cannot be signed: it is left out", "cdn", c.Name, "err", err)
		return "", false
	}
	return b, true
}

// usableCDNs leaves out CDNs whose addresses cannot be signed here, and says so once for each change of the registry.
func (r *Router) usableCDNs(all []schemas.CDN) []schemas.CDN {
	out := all[:0:0]
	for i := range all {
		if err := r.signs(&all[i]); err != nil {
			r.s.Logger.Error("CDN is in no answer: its addresses cannot be signed; put its key into secrets.json (cdn_keys) or SPILLWAY_CDN_KEY_<NAME>",
				"cdn", all[i].Name, "scheme", all[i].TokenScheme, "token_key", all[i].TokenKey, "err", err)
			continue
		}
		out = append(out, all[i])
	}
	return out
}
