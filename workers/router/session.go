package router

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spillway-live/spillway/analytics/experiments/assign"
	"github.com/spillway-live/spillway/ingest/geo"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/workers/router/load"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// refusal is an answer that is not given: the status and what the asker is told.
type refusal struct {
	status int
	text   string
	wait   *schemas.Wait // to wait for a place; nil: no
}

func (r *refusal) Error() string { return r.text }

func refuse(status int, format string, a ...any) error {
	return &refusal{status: status, text: fmt.Sprintf(format, a...)}
}

// arm is one experiment's arm that a session is in.
type arm struct {
	x          *schemas.Experiment
	arm        *schemas.Arm
	unit       string
	propensity float64
}

// arms assigns a session that begins now to the running experiments it is a
// target of, at most one of a layer; where two of one layer overlap by mistake,
// the first by name wins.
func (r *Router) arms(c *token.Session, now time.Time) []arm {
	var out []arm
	running := r.t.running.Get()
	if len(running) == 0 {
		return nil
	}
	layers := map[string]bool{}
	who := assign.Subject{
		Session: c.SessionID, Viewer: c.ViewerID, Stream: schemas.StreamKey{App: c.App, Stream: c.Stream}, Region: c.Region, UnixSec: now.Unix(),
	}
	for _, x := range running {
		if layers[x.Layer] || !x.Targeting.Match(who.Stream, c.Region, c.ISP) {
			continue
		}
		unit := assign.Unit(x, &who)
		i, propensity, ok := assign.Assign(x, unit)
		if !ok || !(propensity > 0) {
			continue
		}
		layers[x.Layer] = true
		out = append(out, arm{x, &x.Arms[i], unit, propensity})
	}
	return out
}

// armsText is what the token carries: experiments are sorted by name already.
func armsText(arms []arm) string {
	if len(arms) == 0 {
		return ""
	}
	s := make([]string, len(arms))
	for i, a := range arms {
		s[i] = a.x.Name + "=" + a.arm.Name
	}
	return strings.Join(s, ",")
}

// params merges the parameters of the arms named in a token with those of the
// stream's settings, which arms override. A session keeps its arms' when the
// experiment stops: only new sessions are not in it any more. Where two arms
// give the same parameter the first by name wins.
func (r *Router) params(c *token.Session, settings *schemas.AppSettings) map[string]string {
	var out map[string]string
	set := func(name, value string) {
		if out == nil {
			out = map[string]string{}
		}
		if _, have := out[name]; !have {
			out[name] = value
		}
	}
	for pair := range strings.SplitSeq(c.Arms, ",") {
		if pair == "" {
			continue
		}
		name, armName, _ := strings.Cut(pair, "=")
		x, ok := r.t.experiments.Get(name)
		if !ok || !x.InForce() {
			continue
		}
		if i := assign.ArmIndex(x, armName); i >= 0 {
			for p, v := range x.Arms[i].Params {
				set(p, v)
			}
		}
	}
	for p, v := range settings.Params {
		set(p, v)
	}
	return out
}

// settings are those of a session's stream.
func (r *Router) settings(c *token.Session) *schemas.AppSettings {
	return schemas.SettingsOf(schemas.StreamKey{App: c.App, Stream: c.Stream}, r.t.apps.Get)
}

// streamGrace is how long a stream that has ended still takes new sessions: its
// publisher may be reconnecting.
const streamGrace = 60 * time.Second

// live gives the state of a stream that sessions may start on.
func (r *Router) live(k schemas.StreamKey, now time.Time) (*schemas.StreamState, error) {
	if err := k.Check(); err != nil {
		return nil, refuse(http.StatusBadRequest, "%v", err)
	}
	s := r.t.stream(k)
	if s == nil {
		return nil, refuse(http.StatusNotFound, "stream %s is unknown: nobody has published it; check application and stream name", k)
	}
	if len(s.Epoch.Tracks) == 0 {
		return nil, refuse(http.StatusNotFound, "stream %s has not started yet: ask again in a second", k)
	}
	if idle := now.Sub(time.UnixMicro(s.UpdatedUnixUs)); idle > streamGrace {
		why := s.EndReason
		if why == "" {
			why = "no media"
		}
		return nil, refuse(http.StatusNotFound, "stream %s ended %v ago: %s", k, idle.Round(time.Second), why)
	}
	return s, nil
}

// request is what a new session is made from.
type request struct {
	k      schemas.StreamKey
	viewer string // hashed
	key    string // play key, not checked yet
	pin    string
	place  geo.Place
	group  uint8 // of the address prefix, see health.Groups
	ticket string
	// network and prefix are hashes of the address prefix (/24, IPv6 /48); prefix is 0 for this machine.
	network string
	prefix  uint32
	// caller tells who asks without a ticket from others, as far as one can; hashed. Empty: nobody does.
	caller string
}

// opened is a session with the decision about it.
type opened struct {
	claims token.Session
	token  string
	arms   []arm // of a session opened just now
	params map[string]string
	// settings are those of the session's stream.
	settings *schemas.AppSettings
	answer   policy.Answer
	// capBps is what renditions are held to, 0: nothing; queued how long it waited for a place.
	capBps int64
	queued time.Duration
}

// begin admits a viewer, wakes the stream where it sleeps, and opens a session.
func (r *Router) begin(ctx context.Context, in request, now time.Time) (*opened, *schemas.StreamState, error) {
	g, err := r.admit(&in, now)
	if err != nil {
		return nil, nil, err
	}
	state, err := r.awake(ctx, g.Key, now)
	if err != nil {
		return nil, nil, err
	}
	o, err := r.open(in, g, state, now)
	if err != nil {
		return nil, nil, err
	}
	if o.queued, err = r.enterOrWait(&in, o, now); err != nil {
		return nil, nil, err
	}
	return o, state, nil
}

// open makes a session: arms, decision, token.
func (r *Router) open(q request, g grant, state *schemas.StreamState, now time.Time) (*opened, error) {
	if q.pin != "" {
		if c := r.t.cdn(q.pin); c == nil || c.State == schemas.CDNOff {
			return nil, refuse(http.StatusNotFound, "CDN %.64q is not in service: leave pin out, or choose another", q.pin)
		}
	}
	o := &opened{claims: token.Session{
		SessionID: r.s.Signer.NewSessionID(), App: q.k.App, Stream: q.k.Stream, ViewerID: g.viewer, Keyed: g.keyed,
		Pinned: q.pin != "", Region: q.place.Region, ISP: q.place.ISP, Group: q.group, ExpiresUnix: now.Add(r.s.TokenTTL).Unix(),
	}}
	if g.endsUnix != 0 {
		o.claims.ExpiresUnix = min(o.claims.ExpiresUnix, g.endsUnix)
	}
	o.arms = r.arms(&o.claims, now)
	o.claims.Arms = armsText(o.arms)
	o.settings = r.settings(&o.claims)
	o.params = r.params(&o.claims, o.settings)
	err := r.settle(o, q.pin, state, now)
	if err != nil && len(o.arms) > 0 && !isRefusal(err) {
		// Too many experiments for one token: a viewer who plays outside of them is
		// better than none. What was decided under their parameters is decided anew.
		r.s.Logger.Error("session is in no experiment: its token would be too long", "arms", len(o.arms), "err", err)
		o.arms, o.claims.Arms, o.claims.CDN, o.params = nil, "", "", nil
		err = r.settle(o, q.pin, state, now)
	}
	if err != nil {
		return nil, err
	}
	return o, nil
}

// settle decides about a new session and signs its token.
func (r *Router) settle(o *opened, pin string, state *schemas.StreamState, now time.Time) (err error) {
	if o.answer, err = r.decide(&asked{claims: &o.claims, params: o.params, settings: o.settings, pin: pin, state: state}, now); err != nil {
		return err
	}
	o.claims.CDN = o.answer.Chosen
	o.capBps = r.capBps(o, now)
	if o.token, err = r.s.Signer.SignSession(o.claims); err != nil {
		return fmt.Errorf("open session: %w", err)
	}
	return nil
}

func isRefusal(err error) bool {
	var no *refusal
	return errors.As(err, &no)
}

// asked is what a decision is about.
type asked struct {
	claims   *token.Session
	params   map[string]string
	settings *schemas.AppSettings
	// pin and current are CDNs: the one asked for and the one the session is on.
	pin, current string
	// moved is when the session came to current from another; zero: not that we know.
	moved time.Time
	state *schemas.StreamState
	// avoid names CDNs that the player keeps away from, trying one that it was sent
	// to try; see policy.Input.
	avoid  []string
	trying string
	// bufferMs is what the player has buffered, milliseconds; 0: not told.
	bufferMs int64
}

// fallbackBitrateBps is what a viewer is taken to need before anything is known.
const fallbackBitrateBps = 3e6

// factsMemory is used again from decision to decision: no answer holds facts.
var factsMemory = sync.Pool{New: func() any { return new([]policy.Facts) }}

// decide asks the policy: that of the session's arm, of the stream or its
// application, or the router's.
func (r *Router) decide(q *asked, now time.Time) (policy.Answer, error) {
	c := q.claims
	cdns := r.t.list()
	// A publisher has no session: lots are drawn by its stream.
	in := policy.Input{
		Session: cmp.Or(c.SessionID, c.App+"/"+c.Stream), App: c.App, Stream: c.Stream, Pinned: q.pin, Current: q.current, Region: c.Region, ISP: c.ISP,
		CDNs: cdns, SinceMoveSec: math.Inf(1), Round: now.UnixNano() / int64(r.s.SteeringTTL),
		Avoid: q.avoid, Trying: q.trying, OverflowAt: schemas.NumberParam(q.params, schemas.ParamOverflowAt),
	}
	if moved := latest(q.moved, c.MovedUnix); !moved.IsZero() {
		in.SinceMoveSec = max(now.Sub(moved).Seconds(), 0)
	}
	bitrate := float64(fallbackBitrateBps)
	if q.state != nil {
		in.PublishCDN = q.state.Epoch.CDN
		if q.state.Stats.PeakBps > 0 {
			bitrate = float64(q.state.Stats.PeakBps)
		}
	}
	facts := factsMemory.Get().(*[]policy.Facts)
	defer factsMemory.Put(facts)
	*facts = r.load.AppendFacts((*facts)[:0], cdns, load.Place{Region: c.Region, ISP: c.ISP}, bitrate, now)
	in.Facts = *facts
	r.load.OfStream(in.Facts, cdns, schemas.StreamKey{App: c.App, Stream: c.Stream}, c.Region)
	r.spare(q, &in, now)
	r.warm.mark(&in, now)
	a, err := r.rules.decide(cmp.Or(q.params[schemas.ParamPolicy], q.settings.Policy, r.s.Policy), &in)
	if errors.Is(err, policy.ErrNoCDN) {
		return a, refuse(http.StatusServiceUnavailable, "%v: ask again later", err)
	}
	if err == nil {
		r.noteTest(q, &in, &a, now)
		if c.SessionID != "" {
			r.warm.wish(&in, &a)
		}
	}
	return a, err
}

func latest(t time.Time, unix int64) time.Time {
	if u := time.Unix(unix, 0); unix > 0 && u.After(t) {
		return u
	}
	return t
}

// record publishes a decision and counts the session where it now is.
func (r *Router) record(kind schemas.DecisionKind, o *opened, previous string, now time.Time) {
	c, a := &o.claims, &o.answer
	d := schemas.Decision{
		ID: rand.Text(), TimeUs: now.UnixMicro(), Kind: kind, App: c.App, Stream: c.Stream,
		SessionID: c.SessionID, ViewerID: c.ViewerID, Region: c.Region, ISP: c.ISP,
		Policy: a.Policy, PolicyVersion: policy.Version + "." + strconv.Itoa(a.Version), Group: c.Group, Candidates: a.Candidates, Chosen: a.Chosen, Previous: previous,
		Probability: a.Probability, ReasonCode: a.Reason, InputAgeMs: r.load.AgeMs(now), Arms: c.Arms,
		CapBps: o.capBps, QueuedMs: o.queued.Milliseconds(),
	}
	err := d.Check()
	if err == nil {
		where := schemas.WhereNowhere
		if w, ok := d.Where(); ok {
			where = w.String()
			r.load.Answered(factOf(&w, schemas.StreamKey{App: c.App, Stream: c.Stream})) // before the bus can tell of it
		}
		err = r.out.add(schemas.DecisionSubject(&d), d.ID, where, &d)
	}
	if err != nil {
		r.s.Logger.Error("decision cannot be published", "err", err)
	}
}

// expose publishes that a session meets its experiments: at its start, because
// from then on the arms' parameters may differ. The id is the same each time,
// so that a repeat is one exposure.
func (r *Router) expose(c *token.Session, arms []arm, now time.Time) {
	for _, a := range arms {
		x := schemas.Exposure{
			ID: a.x.Name + "/" + a.x.Salt + "/" + c.SessionID, TimeUs: now.UnixMicro(), Experiment: a.x.Name, Salt: a.x.Salt,
			Unit: a.unit, UnitKind: a.x.Unit, SessionID: c.SessionID, ViewerID: c.ViewerID, App: c.App, Stream: c.Stream,
			Arm: a.arm.Name, Propensity: a.propensity, Reason: "assigned",
		}
		if err := r.out.add(schemas.ExposureSubject(&x), x.ID, "", &x); err != nil {
			r.s.Logger.Error("exposure cannot be published", "experiment", a.x.Name, "err", err)
		}
	}
}

// exposeAgain exposes a session whose dispatch answer was given ahead of time
// (a neighbour), when it is opened. Assignment is recomputed: only arms that
// the token names count.
func (r *Router) exposeAgain(c *token.Session, now time.Time) {
	if c.Arms == "" {
		return
	}
	var met []arm
	for _, a := range r.arms(c, now) {
		for pair := range strings.SplitSeq(c.Arms, ",") {
			if pair == a.x.Name+"="+a.arm.Name {
				met = append(met, a)
			}
		}
	}
	r.expose(c, met, now)
}
