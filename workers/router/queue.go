package router

import (
	"context"
	"crypto/rand"
	"net/http"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/workers/router/overflow"
	"github.com/spillway-live/spillway/workers/router/policy"
)

const (
	// sayQueueEvery is how often routers tell each other who waits.
	sayQueueEvery = 500 * time.Millisecond
	// ticketFor is how long a ticket keeps its place.
	ticketFor = 2 * time.Hour
)

// fullness is what of a router deals with full CDNs.
type fullness struct {
	queue *overflow.Queue
	caps  overflow.Caps
}

// whenFull gives the settings of a session's stream.
func (r *Router) whenFull(c *token.Session) *schemas.WhenFull {
	return schemas.SettingsOf(schemas.StreamKey{App: c.App, Stream: c.Stream}, r.t.apps.Get).WhenFull
}

// capBps gives the bitrate that a session's renditions are held to; 0: none.
func (r *Router) capBps(c *token.Session, a *policy.Answer, now time.Time) int64 {
	w := r.whenFull(c)
	if a.Eligible == 0 || !w.Does(schemas.StepCap) {
		return 0
	}
	bps, from := w.Cap()
	if !r.full.caps.On(overflow.Where{Region: c.Region, From: from}, a.Ahead, now) {
		return 0
	}
	r.m.capped.Inc()
	return bps
}

// free says whether a session may begin without asking the queue.
func (r *Router) free(o *opened, now time.Time) bool {
	a := &o.answer
	if a.Eligible == 0 || a.NoneHealthy || !r.whenFull(&o.claims).Does(schemas.StepQueue) {
		return true
	}
	return a.Full < 1 && (a.Room >= policy.Unlimited || r.full.queue.Waiting(now) == 0)
}

// enterOrWait lets a new session in, and tells how long it has waited, or
// refuses it for now with a place in the queue.
func (r *Router) enterOrWait(q *request, o *opened, now time.Time) (time.Duration, error) {
	a := &o.answer
	if a.Eligible == 0 || !r.whenFull(&o.claims).Does(schemas.StepQueue) {
		return 0, nil
	}
	t := r.ticket(q, now)
	if r.free(o, now) {
		return r.entered(&t, now), nil
	}
	p := r.full.queue.Wait(&t, a.Room, now)
	if a.Full < 1 && p.Here < a.Room && p.Ahead < a.RoomAll {
		return r.entered(&t, now), nil
	}
	signed, err := r.s.Signer.SignTicket(token.Ticket{
		ID: t.ID, App: q.k.App, Stream: q.k.Stream, SinceMs: t.Since.UnixMilli(), ExpiresUnix: now.Add(ticketFor).Unix(),
	})
	if err != nil {
		return 0, err
	}
	r.m.queue.WithLabelValues("wait").Inc()
	w := &schemas.Wait{Ticket: signed, Position: p.Here + 1, RetryAfterSec: int(p.Retry() / time.Second), SinceMs: t.Since.UnixMilli()}
	no := refuse(http.StatusServiceUnavailable, "no CDN has room: place %d in the queue; ask again with the ticket in %d s", w.Position, w.RetryAfterSec).(*refusal)
	no.wait = w
	return 0, no
}

// entered ends the waiting of a ticket.
func (r *Router) entered(t *overflow.Ticket, now time.Time) time.Duration {
	r.full.queue.Leave(t.ID)
	waited := now.Sub(t.Since)
	if waited <= 0 {
		return 0
	}
	r.m.queue.WithLabelValues("enter").Inc()
	return waited
}

// ticket gives who asks the place that a ticket keeps, or a new one at the end.
// One that is forged, has expired or is for another stream counts for nothing.
func (r *Router) ticket(q *request, now time.Time) overflow.Ticket {
	t := overflow.Ticket{ID: q.caller, Region: q.place.Region, Since: now}
	if q.ticket != "" {
		if c, err := r.s.Signer.ParseTicket(q.ticket, now, q.k.App, q.k.Stream); err == nil {
			t.ID, t.Since = c.ID, time.UnixMilli(c.SinceMs)
			return t
		}
	}
	if t.ID == "" {
		t.ID = rand.Text()
	}
	return t
}

// hearQueues listens to what other routers say of who waits.
func (r *Router) hearQueues() (stop func(), err error) {
	sub, err := r.s.JS.Conn().Subscribe(schemas.SubjectRouterQueue, func(m *nats.Msg) {
		if err := r.full.queue.Hear(m.Data, time.Now()); err != nil {
			r.s.Logger.Debug("hear of who waits", "err", err)
		}
	})
	if err != nil {
		return nil, err
	}
	return func() { _ = sub.Unsubscribe() }, nil
}

// sayQueue tells other routers who waits here, until ctx ends.
func (r *Router) sayQueue(ctx context.Context) error {
	t := time.NewTicker(sayQueueEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-t.C:
			if b := r.full.queue.Say(now); b != nil {
				_ = r.s.JS.Conn().Publish(schemas.SubjectRouterQueue, b) // said again soon
			}
		}
	}
}
