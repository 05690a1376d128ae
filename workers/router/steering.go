package router

import (
	"cmp"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/workers/hls"
	"github.com/spillway-live/spillway/workers/router/policy"
)

func (r *Router) steeringURI(tok string) string { return r.s.PublicURL + "/v1/steering?s=" + tok }

// refreshEvery is how often a steering answer that changes nothing is stored
// all the same: routers that start later learn of the session by it.
func (r *Router) refreshEvery() time.Duration { return r.s.AliveWindow * 2 / 3 }

func (r *Router) steering(w http.ResponseWriter, _ *http.Request, v url.Values) error {
	now := time.Now()
	tok := v.Get("s")
	c, err := r.session(tok, now)
	if err != nil {
		return err
	}
	access, err := r.stillMay(&c, now)
	if err != nil {
		return err
	}
	at := r.load.Where(c.SessionID)
	assigned := at.CDN
	current := pathway(v)
	if r.t.cdn(current) == nil { // absent, or not one of ours
		if current = assigned; current == "" {
			current = c.CDN
		}
	}
	pin := ""
	if c.Pinned {
		pin = c.CDN
	}
	a, err := r.decide(&asked{&c, r.params(c.Arms), pin, current, at.Moved, r.t.stream(access.Key)}, now)
	if err != nil {
		return err
	}
	if a.Chosen == assigned && now.Sub(at.Stored) < r.refreshEvery() {
		r.m.unchanged.Inc()
	} else {
		r.record(schemas.DecisionSteering, &c, &a, current, now)
	}
	return r.writeSteering(w, r.carry(&c, tok, a.Chosen != current && a.Chosen != cmp.Or(assigned, c.CDN), now), &a)
}

// carry puts a move into the token of the next reload, so that a router which
// has not heard of it does not move the session again too soon.
func (r *Router) carry(c *token.Session, tok string, sent bool, now time.Time) string {
	if !sent {
		return tok
	}
	moved := *c
	moved.MovedUnix = now.Unix()
	next, err := r.s.Signer.SignSession(moved)
	if err != nil { // too long by the field: the bus tells of the move as well
		return tok
	}
	return next
}

func (r *Router) writeSteering(w http.ResponseWriter, tok string, a *policy.Answer) error {
	s := hls.Steering{TTLSec: int(r.s.SteeringTTL / time.Second), ReloadURI: r.steeringURI(tok)}
	for _, c := range a.Candidates[:a.Eligible] {
		s.Priority = append(s.Priority, c.CDN)
	}
	b, err := s.Encode()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", hls.TypeSteering)
	_, _ = w.Write(b) // the asker may be gone
	return nil
}

// pathway reads where the player says it is: HLS sends one id, quoted by the
// text and unquoted by hls.js and shaka; DASH a quoted list, the latest last.
func pathway(v url.Values) string {
	p := v.Get("_HLS_pathway")
	if p == "" {
		p = v.Get("_DASH_pathway")
	}
	p = strings.Trim(p, `" `)
	if i := strings.LastIndexByte(p, ','); i >= 0 {
		p = strings.Trim(p[i+1:], `" `)
	}
	if schemas.CheckName("pathway", p) != nil {
		return ""
	}
	return p
}
