package router

import (
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/load"
)

// answerHealth tells who asks on the bus what is known of a CDN, until stop is called.
func (r *Router) answerHealth() (stop func(), err error) {
	sub, err := r.s.JS.Conn().QueueSubscribe(schemas.SubjectRouterHealth, "routers", func(m *nats.Msg) {
		var answer any
		q, err := schemas.DecodeHealthQuery(m.Data)
		switch {
		case err != nil:
			answer = schemas.ErrorAnswer{Error: err.Error()}
		case r.t.cdn(q.CDN) == nil:
			answer = schemas.ErrorAnswer{Error: fmt.Sprintf("the router does not know of a CDN %s", q.CDN)}
		default:
			answer = r.load.Health(q.CDN, load.Place{Region: q.Region, ISP: q.ISP}, r.now())
		}
		if b, err := json.Marshal(answer); err == nil {
			_ = m.Respond(b) // who asked may be gone
		}
	})
	if err != nil {
		return nil, err
	}
	return func() { _ = sub.Unsubscribe() }, nil
}
