package router

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/hops"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/workers/router/load"
	"github.com/spillway-live/spillway/workers/router/policy"
)

const (
	maxProbeBody = 8 << 10
	// A client's own measurement counts where another CDN of the same tier answers
	// in less than probeRatio of the first one's time (the rule of Cedexis's sticky
	// applications), and sooner by probeGainMs.
	probeRatio  = 0.65
	probeGainMs = 50
)

// probes takes back what a client measured of its candidates, tells the other
// routers, and answers anew with that counted in.
func (r *Router) probes(w http.ResponseWriter, q *http.Request, v query) error {
	if tok := v.Get("p"); tok != "" {
		return r.publishProbes(w, q, tok)
	}
	now := r.now()
	c, err := r.session(v.Get("s"), now)
	if err != nil {
		return err
	}
	access, err := r.stillMay(&c, now)
	if err != nil {
		return err
	}
	most, err := candidatesWanted(v)
	if err != nil {
		return err
	}
	rep, err := readReport(w, q, maxProbeBody)
	if err != nil {
		return err
	}
	if err := rep.Check(); err != nil {
		return refuse(http.StatusBadRequest, "%v", err)
	}
	state := r.t.stream(access.Key)
	if state == nil || len(state.Epoch.Tracks) == 0 {
		return refuse(http.StatusNotFound, "stream %s is unknown", access.Key)
	}
	rep.Results = slices.DeleteFunc(rep.Results, func(x schemas.ProbeResult) bool { return r.t.cdn(x.CDN) == nil })
	r.heed(&c, rep, now)
	o, err := r.reprobed(c, rep, state, now)
	if err != nil {
		return err
	}
	a := r.playAnswer(o, state, v, most, now)
	return a.write(w)
}

// readReport reads the body of a report; what it says is not checked yet.
func readReport(w http.ResponseWriter, q *http.Request, most int64) (*schemas.ProbeReport, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, q.Body, most))
	if err != nil {
		return nil, refuse(http.StatusRequestEntityTooLarge, "the report cannot be read, or has more than %d bytes", most)
	}
	var rep schemas.ProbeReport
	if err := schemas.UnmarshalStrict(body, &rep); err != nil {
		return nil, refuse(http.StatusBadRequest, "the report is no JSON of a ProbeReport: %v", err)
	}
	return &rep, nil
}

// reprobed decides for a session with its measurements and signs it anew.
func (r *Router) reprobed(c token.Session, rep *schemas.ProbeReport, state *schemas.StreamState, now time.Time) (*opened, error) {
	var failed []string
	for _, x := range rep.Results {
		if x.Failed {
			failed = append(failed, x.CDN)
		}
	}
	at := r.load.Where(c.SessionID)
	pin := ""
	if c.Pinned {
		pin = c.CDN
	}
	o := &opened{claims: c, settings: r.settings(&c)}
	o.params = r.params(&c, o.settings)
	var err error
	if o.answer, err = r.decide(&asked{claims: &c, params: o.params, settings: o.settings, pin: pin, moved: at.Moved, state: state, avoid: failed}, now); err != nil {
		return nil, err
	}
	if !c.Pinned {
		preferMeasured(&o.answer, rep)
	}
	previous := at.CDN
	if previous == "" {
		previous = c.CDN
	}
	o.claims.CDN = o.answer.Chosen
	if o.token, err = r.s.Signer.SignSession(o.claims); err != nil {
		return nil, err
	}
	// Of a session that has not begun (a neighbour's answer, given ahead of time)
	// nothing is stored: its first request does that, with its exposure to experiments.
	if at.Known && o.answer.Chosen != previous {
		r.record(schemas.DecisionDispatch, o, previous, now)
	}
	return o, nil
}

// preferMeasured puts the candidate first that the client reaches much sooner
// than the first, of the same tier. What a lot decided stays: its probability is known.
func preferMeasured(a *policy.Answer, rep *schemas.ProbeReport) {
	if byLot(a) {
		return
	}
	ms := func(cdn string) (float64, bool) {
		for _, x := range rep.Results {
			if x.CDN == cdn && !x.Failed {
				return x.FirstByteMs, true
			}
		}
		return 0, false
	}
	first, known := ms(a.Chosen)
	if !known {
		return
	}
	best, at := first, 0
	for i := 1; i < a.Eligible && a.Candidates[i].Tier == a.Candidates[0].Tier; i++ {
		if t, ok := ms(a.Candidates[i].CDN); ok && t < best {
			best, at = t, i
		}
	}
	if at == 0 || best > probeRatio*first || first-best < probeGainMs {
		return
	}
	x := a.Candidates[at]
	copy(a.Candidates[1:at+1], a.Candidates[:at])
	a.Candidates[0] = x
	a.Chosen, a.Reason = x.CDN, policy.ReasonProbed
}

// probed is what routers tell each other of a report.
type probed struct {
	SessionID string                `json:"session_id"`
	Region    string                `json:"region,omitempty"`
	ISP       string                `json:"isp,omitempty"`
	Group     uint8                 `json:"group,omitempty"`
	Results   []schemas.ProbeResult `json:"results"`
}

// heed counts a report in and, where it counts, tells it to the other routers:
// what is too much here is no load for all.
func (r *Router) heed(c *token.Session, rep *schemas.ProbeReport, now time.Time) {
	p := probed{c.SessionID, c.Region, c.ISP, c.Group, rep.Results}
	if !r.countProbe(&p, now) {
		return
	}
	r.tellRouters(schemas.SubjectProbes, &p)
}

// tellRouters tells the other routers of a report.
func (r *Router) tellRouters(subject string, p *probed) {
	b, err := json.Marshal(p)
	if err != nil {
		return
	}
	msg := nats.NewMsg(subject)
	msg.Header.Set(headerRouter, r.id)
	msg.Data = b
	if err := r.s.JS.Conn().PublishMsg(msg); err != nil {
		r.s.Logger.Debug("probes are not told to other routers", "err", err)
	}
}

// headerRouter names the router that a probe report came to.
const headerRouter = "Spillway-Router"

// hearProbes counts the reports that other routers took, until stop is called.
func (r *Router) hearProbes() (stop func(), err error) {
	sub, err := r.s.JS.Conn().Subscribe(schemas.SubjectProbes, func(m *nats.Msg) {
		var p probed
		if m.Header.Get(headerRouter) == r.id || len(m.Data) > maxProbeBody || json.Unmarshal(m.Data, &p) != nil || len(p.Results) > schemas.MaxProbeResults {
			return
		}
		r.countProbe(&p, r.now())
	})
	if err != nil {
		return nil, err
	}
	all := []*nats.Subscription{sub}
	stop = func() {
		for _, s := range all {
			_ = s.Unsubscribe()
		}
	}
	for _, hear := range []func() (*nats.Subscription, error){r.hearSynthetic, r.hearPublishers} {
		if sub, err = hear(); err != nil {
			stop()
			return nil, err
		}
		all = append(all, sub)
	}
	return stop, nil
}

// staleMs is how old the newest part of a probed playlist may be: beyond, a player that starts there cannot play live.
const staleMs = 8000

// hearSynthetic counts what our own probers tell.
func (r *Router) hearSynthetic() (*nats.Subscription, error) {
	return r.s.JS.Conn().Subscribe(schemas.SubjectSynthetic, func(m *nats.Msg) {
		notes, err := hops.DecodeNotes(m.Data)
		if err != nil {
			return // of a prober that is newer than this router
		}
		for i := range notes {
			n := &notes[i]
			if n.Error == hops.Late {
				r.load.Late(n.CDN, r.now())
				continue
			}
			r.load.Synthetic(n.CDN, n.Failed() || n.StalenessMs != nil && *n.StalenessMs > staleMs, r.now())
		}
	})
}

// countProbe counts a report in, and says whether it was taken.
func (r *Router) countProbe(p *probed, now time.Time) bool {
	taken := r.load.Probed(&load.Probe{ID: p.SessionID, Place: load.Place{Region: p.Region, ISP: p.ISP}, Group: p.Group, Results: p.Results}, now)
	outcome := "counted"
	if !taken {
		outcome = "too_many"
	}
	r.m.probes.WithLabelValues(outcome).Inc()
	return taken
}
