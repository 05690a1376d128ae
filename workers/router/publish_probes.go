package router

import (
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/reach"
)

// maxPublishProbeBody bounds a publisher's report, bytes: it is by transport.
const maxPublishProbeBody = 16 << 10

// publishProbes takes back what a publisher measured of its candidates, tells the
// other routers, and answers anew with that counted in.
func (r *Router) publishProbes(w http.ResponseWriter, q *http.Request, tok string) error {
	now := r.now()
	m, err := r.s.Signer.ParseMeasure(tok, now)
	if err != nil {
		return badToken(err)
	}
	rep, err := readReport(w, q, maxPublishProbeBody)
	if err != nil {
		return err
	}
	if err := rep.CheckPublish(); err != nil {
		return refuse(http.StatusBadRequest, "%v", err)
	}
	rep.Results = slices.DeleteFunc(rep.Results, func(x schemas.ProbeResult) bool { return r.t.cdn(x.CDN) == nil })
	r.heedPublisher(&probed{m.ID, m.Region, m.ISP, m.Group, rep.Results}, now)
	return r.answerPublish(w, &publishing{Measure: m, own: rep}, now)
}

// heedPublisher counts a publisher's report in and, where it counts, tells it to the other routers.
func (r *Router) heedPublisher(p *probed, now time.Time) {
	if !r.countPublisher(p, now) {
		return
	}
	r.tellRouters(schemas.SubjectPublishProbes, p)
}

// countPublisher counts a report in, and says whether it was taken. It is no
// viewer's: nothing of it is in what is known of a CDN's health.
func (r *Router) countPublisher(p *probed, now time.Time) bool {
	taken := r.reach.Add(&reach.Report{ID: p.SessionID, Place: reach.Place{Region: p.Region, ISP: p.ISP}, Group: p.Group, Results: p.Results}, now)
	outcome := "publisher_counted"
	if !taken {
		outcome = "publisher_too_many"
	}
	r.m.probes.WithLabelValues(outcome).Inc()
	return taken
}

// hearPublishers counts the reports that other routers took.
func (r *Router) hearPublishers() (*nats.Subscription, error) {
	return r.s.JS.Conn().Subscribe(schemas.SubjectPublishProbes, func(m *nats.Msg) {
		var p probed
		if m.Header.Get(headerRouter) == r.id || len(m.Data) > maxPublishProbeBody+1024 || json.Unmarshal(m.Data, &p) != nil {
			return
		}
		rep := schemas.ProbeReport{Results: p.Results}
		if rep.CheckPublish() != nil { // of a router that is newer than this one
			return
		}
		p.Results = slices.DeleteFunc(p.Results, func(x schemas.ProbeResult) bool { return r.t.cdn(x.CDN) == nil })
		r.countPublisher(&p, r.now())
	})
}
