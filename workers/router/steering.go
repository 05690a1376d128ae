package router

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/workers/hls"
	"github.com/spillway-live/spillway/workers/router/load"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// Manifests that a session may have, in [token.Steering].
const (
	formatHLS  = "hls"
	formatTS   = "ts"
	formatDVR  = "dvr"
	formatDASH = "dash"
)

const (
	// obeyAfter is how long a player may take to come to the pathway it was sent
	// to: hls.js goes at once, shaka after what it has buffered.
	obeyAfter = 8 * time.Second
	// penaltyHLS is how long hls.js keeps a pathway that failed in its penalty box,
	// the longest of the players'; penaltyDASH is shaka's. dash.js has the TTL.
	penaltyHLS  = 300 * time.Second
	penaltyDASH = 60 * time.Second
)

func (r *Router) steeringAddress(tok string) string { return r.s.PublicURL + "/v1/steering?s=" + tok }

// steeringURI is the address that a manifest names: it knows what the manifest
// says. An MPD is fetched again every two seconds, and says the same each time
// unless the registry has changed.
func (r *Router) steeringURI(o *opened, format string, pathways []string, now time.Time) string {
	st := token.Steering{Session: o.claims, Format: format, Pathways: pathways}
	if format == formatDASH {
		slices.Sort(st.Pathways)
	} else {
		st.Sent, st.SentUnix, st.Trying = o.answer.Chosen, now.Unix(), o.answer.Reason == policy.ReasonProbe
	}
	return r.steeringAddress(r.steeringToken(&st, o.token))
}

// steeringToken signs a state. One that is too long goes without its list of
// pathways (there are no clones then), or is given up for what there was.
func (r *Router) steeringToken(st *token.Steering, instead string) string {
	tok, err := r.s.Signer.SignSteering(*st)
	if err != nil {
		short := *st
		short.Pathways = nil
		if tok, err = r.s.Signer.SignSteering(short); err != nil {
			return instead // the bus tells of moves as well
		}
	}
	return tok
}

// refreshEvery is how often a steering answer that changes nothing is stored
// all the same: routers that start later learn of the session by it.
func (r *Router) refreshEvery() time.Duration { return r.s.AliveWindow * 2 / 3 }

func (r *Router) steering(w http.ResponseWriter, _ *http.Request, v query) error {
	now := r.now()
	tok := v.Get("s")
	st, err := r.s.Signer.ParseSteering(tok, now)
	if err != nil {
		return badToken(err)
	}
	c := &st.Session
	access, err := r.stillMay(c, now)
	if err != nil {
		return err
	}
	at := r.load.Where(c.SessionID)
	told := pathway(v)
	if r.t.cdn(told) == nil { // absent, or not one of ours
		told = ""
	}
	if told != "" {
		bps, _ := strconv.ParseInt(cmp.Or(v.Get("_HLS_throughput"), v.Get("_DASH_throughput")), 10, 64) // absent, or no number: not told
		r.load.Measured(c.SessionID, told, load.Place{Region: c.Region, ISP: c.ISP}, bps, now)
	}
	next := obeyed(&st, told, &at, r.s.SteeringTTL, now)
	settings := r.settings(c)
	q := &asked{
		claims: c, params: r.params(c, settings), settings: settings, current: cmp.Or(told, at.CDN, st.Sent, c.CDN), moved: at.Moved,
		state: r.t.stream(access.Key), avoid: slices.Sorted(maps.Keys(next.Penalties)),
	}
	if c.Pinned {
		q.pin = c.CDN
	}
	if st.Trying {
		q.trying = st.Sent
	}
	q.bufferMs = bufferOf(v)
	a, err := r.decide(q, now)
	if err != nil {
		return err
	}
	if a.Chosen == at.CDN && now.Sub(at.Stored) < r.refreshEvery() {
		r.m.unchanged.Inc()
	} else {
		r.record(schemas.DecisionSteering, &opened{claims: *c, answer: a}, q.current, now)
	}
	if sent(&next, q.current, &a, now) || !maps.Equal(next.Penalties, st.Penalties) {
		tok = r.steeringToken(&next, tok)
	}
	return r.writeSteering(w, tok, &st, &a, q.state, now)
}

// obeyed gives the state with what the player's place says of it: one that is
// not where it was sent has tried there and failed, and keeps away for a while.
// at has the same from telemetry.
func obeyed(st *token.Steering, told string, at *load.Whereabouts, ttl time.Duration, now time.Time) token.Steering {
	next := *st
	next.Penalties = map[string]int64{}
	for cdn, until := range st.Penalties {
		if until > now.Unix() && cdn != told { // who is there again holds nothing against it
			next.Penalties[cdn] = until
		}
	}
	penalty := penaltyOf(st.Format, ttl)
	if told != "" && st.Sent != "" && told != st.Sent && now.Sub(time.Unix(st.SentUnix, 0)) >= obeyAfter && next.Penalties[st.Sent] == 0 {
		next.Penalties[st.Sent] = now.Add(penalty).Unix()
	}
	if at.Left != "" && at.Left != told && now.Sub(at.LeftAt) < penalty {
		next.Penalties[at.Left] = max(next.Penalties[at.Left], at.LeftAt.Add(penalty).Unix())
	}
	return next
}

// penaltyOf is how long a player of a format is taken to keep away from a CDN that failed.
func penaltyOf(format string, ttl time.Duration) time.Duration {
	if format == formatDASH {
		return max(penaltyDASH, ttl)
	}
	return penaltyHLS
}

// left names the CDN that a player was last seen to leave of itself, while that counts.
func (r *Router) left(at *load.Whereabouts, now time.Time) []string {
	if at.Left == "" || now.Sub(at.LeftAt) > penaltyHLS {
		return nil
	}
	return []string{at.Left}
}

// sent notes in the state where an answer sends the session, and whether that is new.
func sent(st *token.Steering, current string, a *policy.Answer, now time.Time) bool {
	trying := a.Reason == policy.ReasonProbe || st.Trying && a.Chosen == st.Sent
	if a.Chosen == st.Sent && trying == st.Trying {
		return false
	}
	if a.Chosen != current && a.Chosen != cmp.Or(st.Sent, st.CDN) {
		// A router that has not heard of the move must not move the session again too soon.
		st.MovedUnix = now.Unix()
	}
	st.Sent, st.SentUnix, st.Trying = a.Chosen, now.Unix(), trying
	return true
}

func (r *Router) writeSteering(w http.ResponseWriter, tok string, st *token.Steering, a *policy.Answer, state *schemas.StreamState, now time.Time) error {
	s := hls.Steering{TTLSec: int(r.load.AskAgain(a.Chosen, r.s.SteeringTTL, now) / time.Second), ReloadURI: r.steeringAddress(tok)}
	s.Priority = make([]string, a.Eligible)
	for i := range s.Priority {
		s.Priority[i] = a.Candidates[i].CDN
	}
	s.Clones = r.clones(st, s.Priority, state, now)
	return writeBody(w, hls.TypeSteering, s.Encode)
}

// pathway reads where the player says it is: HLS sends one id, quoted by the
// text and unquoted by hls.js and shaka; DASH a quoted list, the latest last.
func pathway(v query) string {
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
