package router

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/workers/router/policy"
	"github.com/spillway-live/spillway/workers/router/reach"
)

// measureHolds is how long a publisher may tell what it measured.
const measureHolds = 10 * time.Minute

// publishing is a publisher's question.
type publishing struct {
	token.Measure
	viewer string
	own    *schemas.ProbeReport // what it measured itself; nil: nothing yet
}

// dispatchPublish ranks CDNs for a publisher: as the policy does, and where it
// holds some for equal, by what publishers measured of them.
func (r *Router) dispatchPublish(w http.ResponseWriter, in request, now time.Time) error {
	if err := in.k.Check(); err != nil {
		return refuse(http.StatusBadRequest, "%v", err)
	}
	return r.answerPublish(w, &publishing{viewer: in.viewer, Measure: token.Measure{
		ID: rand.Text(), App: in.k.App, Stream: in.k.Stream, Pin: in.pin, Region: in.place.Region, ISP: in.place.ISP, Group: in.group,
		ExpiresUnix: now.Add(measureHolds).Unix(),
	}}, now)
}

// answerPublish decides for a publisher and answers.
func (r *Router) answerPublish(w http.ResponseWriter, p *publishing, now time.Time) error {
	c := token.Session{App: p.App, Stream: p.Stream, ViewerID: p.viewer, Region: p.Region, ISP: p.ISP}
	a, err := r.decide(&asked{claims: &c, settings: r.settings(&c), pin: p.Pin, avoid: r.unreached(p.own)}, now)
	if err != nil {
		return err
	}
	if p.own != nil {
		preferMeasured(&a, soonest(p.own))
	}
	d := schemas.Dispatch{
		App: p.App, Stream: p.Stream, ContentID: p.App + "/" + p.Stream, Clock: r.s.Clock, FreshSec: rankHolds,
		InputAgeMs: r.load.AgeMs(now), ExpiresUnix: p.ExpiresUnix,
	}
	for i := range a.Candidates[:a.Eligible] {
		d.Candidates = append(d.Candidates, r.publishCandidate(&a.Candidates[i], p, now))
	}
	if !byLot(&a) {
		reach.Candidates(d.Candidates, r.alike(a.Policy, p))
		follow(&a, d.Candidates)
	}
	if p.own == nil || p.CDN != a.Chosen {
		r.record(schemas.DecisionPublish, &opened{claims: c, answer: a}, p.CDN, now)
	}
	p.CDN = a.Chosen
	tok, err := r.s.Signer.SignMeasure(p.Measure)
	if err != nil {
		return err
	}
	d.Probes = r.s.PublicURL + "/v1/probes?p=" + tok
	b, err := json.Marshal(&d)
	if err != nil {
		return err
	}
	send(w, typeJSON, append(b, '\n'))
	return nil
}

// alike says which candidates a policy holds for equal.
func (r *Router) alike(name string, p *publishing) func(a, b *schemas.DispatchCandidate) bool {
	rule := r.rules.get(name)
	return func(a, b *schemas.DispatchCandidate) bool {
		x, y := r.t.cdn(a.CDN), r.t.cdn(b.CDN)
		return a.Tier == b.Tier && x != nil && y != nil && rule.Alike(x, y, a.Score, b.Score, p.Region, p.ISP)
	}
}

// publishCandidate is a CDN of the answer, with what is known of its transports.
func (r *Router) publishCandidate(x *schemas.Candidate, p *publishing, now time.Time) schemas.DispatchCandidate {
	fill := strings.NewReplacer("{app}", p.App, "{stream}", p.Stream, "{cdn}", x.CDN)
	y := schemas.DispatchCandidate{CDN: x.CDN, Score: x.Score, Tier: x.Tier, ProbeURL: r.s.Clock}
	if r.s.PublishProbeURL != "" {
		y.ProbeURL = fill.Replace(r.s.PublishProbeURL)
	}
	for _, u := range strings.Fields(r.s.PublishURL) {
		t := publishTransport(fill.Replace(u), fill.Replace(r.s.PublishSTUN))
		if t.Measured = measuredBy(p.own, x.CDN, t.Name); t.Measured == nil {
			t.Measured = r.reach.Of(x.CDN, t.Name, reach.Place{Region: p.Region, ISP: p.ISP}, now)
		}
		y.Transports = append(y.Transports, t)
	}
	reach.Transports(y.Transports)
	if len(y.Transports) > 0 {
		y.URL = y.Transports[0].URL
	}
	return y
}

// measuredBy is what a publisher measured itself.
func measuredBy(own *schemas.ProbeReport, cdn, transport string) *schemas.TransportMeasured {
	if own == nil {
		return nil
	}
	for i := range own.Results {
		switch x := &own.Results[i]; {
		case x.CDN != cdn || x.Transport != transport:
		case x.Failed:
			return &schemas.TransportMeasured{FailedShare: 1, Reports: 1}
		default:
			return &schemas.TransportMeasured{RTTMs: max(x.FirstByteMs, 0.01), Reports: 1}
		}
	}
	return nil
}

// unreached are the CDNs that a publisher reaches by none of the transports there are.
func (r *Router) unreached(own *schemas.ProbeReport) (out []string) {
	if own == nil {
		return nil
	}
	names := map[string]bool{}
	for _, u := range strings.Fields(r.s.PublishURL) {
		names[publishTransport(u, "").Name] = true
	}
	failed := map[string]int{}
	for i := range own.Results {
		if x := &own.Results[i]; x.Failed && names[x.Transport] {
			failed[x.CDN]++
		}
	}
	for cdn, n := range failed {
		if n >= len(names) {
			out = append(out, cdn)
		}
	}
	return out
}

// soonest keeps of each CDN the result of the transport with the shortest round trip.
func soonest(own *schemas.ProbeReport) *schemas.ProbeReport {
	sorted := slices.Clone(own.Results)
	slices.SortStableFunc(sorted, func(a, b schemas.ProbeResult) int { return cmp.Compare(a.FirstByteMs, b.FirstByteMs) })
	out, seen := &schemas.ProbeReport{}, map[string]bool{}
	for _, x := range sorted {
		if !x.Failed && !seen[x.CDN] {
			seen[x.CDN] = true
			out.Results = append(out.Results, x)
		}
	}
	return out
}

// byLot says whether the first candidate is where it is by a lot, whose probability
// is known, or because it was asked for: it stays there.
func byLot(a *policy.Answer) bool {
	switch a.Reason {
	case policy.ReasonLot, policy.ReasonExplore, policy.ReasonProbe, policy.ReasonPinned:
		return true
	}
	return false
}

// follow puts the decision's candidates into the order of those answered.
func follow(a *policy.Answer, order []schemas.DispatchCandidate) {
	place := map[string]int{}
	for i := range order {
		place[order[i].CDN] = i
	}
	slices.SortStableFunc(a.Candidates[:a.Eligible], func(x, y schemas.Candidate) int { return cmp.Compare(place[x.CDN], place[y.CDN]) })
	if first := a.Candidates[0].CDN; first != a.Chosen {
		a.Chosen, a.Reason = first, policy.ReasonProbed
	}
}

// publishTransport names a publish address by its scheme, and says how to measure
// it. stun is where WHIP's media goes, HOST:PORT; empty: it is not said.
func publishTransport(u, stun string) schemas.DispatchTransport {
	s, _, _ := strings.Cut(u, "://")
	t := schemas.DispatchTransport{Name: strings.ToLower(s), Over: schemas.OverTCP, URL: u}
	switch t.Name {
	case "srt":
		t.Name, t.Over = schemas.TransportSRT, schemas.OverUDP
		t.Probe = probeAt(schemas.ProbeSRT, schemas.OverUDP, hostPort(u, ""))
	case "http", "https": // the offer goes over HTTP, the media over UDP
		t.Name, t.Over = schemas.TransportWHIP, schemas.OverUDP
		if t.Probe = probeAt(schemas.ProbeSTUN, schemas.OverUDP, stun); t.Probe == nil {
			t.Probe = probeAt(schemas.ProbeHTTPOptions, schemas.OverTCP, u)
		}
	case schemas.TransportRTMP:
		t.Probe = probeAt(schemas.ProbeRTMP, schemas.OverTCP, hostPort(u, "1935"))
	case schemas.TransportRTMPS:
		t.Probe = probeAt(schemas.ProbeRTMPS, schemas.OverTCP, hostPort(u, "443"))
	}
	return t
}

func probeAt(method, over, address string) *schemas.TransportProbe {
	if address == "" {
		return nil
	}
	return &schemas.TransportProbe{Method: method, Over: over, Address: address, TimeoutMs: schemas.ProbeTimeoutMs}
}

// hostPort is where a publish address leads, HOST:PORT; empty where it does not say,
// and no port is usual.
func hostPort(address, port string) string {
	// Only its authority matters: what follows may be what url.Parse would not take.
	_, rest, _ := strings.Cut(address, "://")
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	u, err := url.Parse("//" + rest)
	if err != nil || u.Hostname() == "" {
		return ""
	}
	if p := cmp.Or(u.Port(), port); p != "" {
		return net.JoinHostPort(u.Hostname(), p)
	}
	return ""
}
