package router

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/workers/router/overflow"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// sayQueueEvery is how often routers tell each other who waits.
const sayQueueEvery = 500 * time.Millisecond

// fullness is what of a router deals with full CDNs.
type fullness struct {
	queue *overflow.Queue
	caps  overflow.Caps
}

// capBps gives the bitrate that a session's renditions are held to; 0: none.
func (r *Router) capBps(o *opened, now time.Time) int64 {
	c, a, w := &o.claims, &o.answer, o.settings.WhenFull
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
	if a.Eligible == 0 || a.NoneHealthy || !o.settings.WhenFull.Does(schemas.StepQueue) {
		return true
	}
	return a.Full < 1 && (a.Room >= policy.Unlimited || r.full.queue.Waiting(now) == 0)
}

// enterOrWait lets a new session in, and tells how long it has waited, or
// refuses it for now with a place in the queue.
func (r *Router) enterOrWait(q *request, o *opened, now time.Time) (time.Duration, error) {
	a := &o.answer
	if a.Eligible == 0 || !o.settings.WhenFull.Does(schemas.StepQueue) {
		return 0, nil
	}
	if q.ticket == "" && q.caller == "" && r.free(o, now) {
		return 0, nil // nobody knows of a place that ends with this
	}
	t := r.ticket(q, o, now)
	if r.free(o, now) {
		r.full.queue.Enter(&t, now)
		return r.entered(&t, now), nil
	}
	p := r.full.queue.Look(&t, a.Room, now)
	if a.Full < 1 && p.Here < a.Room && p.Ahead < a.RoomAll {
		if !r.full.queue.Enter(&t, now) {
			return 0, refuse(http.StatusServiceUnavailable, "the ticket has just been used: ask again for a place of your own")
		}
		return r.entered(&t, now), nil
	}
	if !r.full.queue.Hold(&t, now) {
		r.m.queue.WithLabelValues("refuse").Inc()
		return 0, refuse(http.StatusServiceUnavailable, "no CDN has room, and too many wait already (%d places for addresses like yours at most): ask again later", overflow.MaxPlaces)
	}
	return 0, r.wait(q, o, &t, p, now)
}

// wait is the refusal that gives a place in the queue.
func (r *Router) wait(q *request, o *opened, t *overflow.Ticket, p overflow.Place, now time.Time) error {
	signed, err := r.s.Signer.SignTicket(token.Ticket{
		ID: t.ID, App: q.k.App, Stream: q.k.Stream, Holder: holder(q, o), SinceMs: t.Since.UnixMilli(), ExpiresUnix: now.Add(overflow.ForgetAfter).Unix(),
	})
	if err != nil {
		return err
	}
	r.m.queue.WithLabelValues("wait").Inc()
	w := &schemas.Wait{Ticket: signed, Position: p.Here + 1, RetryAfterSec: int(p.Retry() / time.Second), SinceMs: t.Since.UnixMilli()}
	no := refuse(http.StatusServiceUnavailable, "no CDN has room: place %d in the queue; ask again with the ticket in %d s", w.Position, w.RetryAfterSec).(*refusal)
	no.wait = w
	return no
}

// entered counts how long who comes in has waited.
func (r *Router) entered(t *overflow.Ticket, now time.Time) time.Duration {
	waited := now.Sub(t.Since)
	if waited < time.Millisecond { // times in the queue are whole ones
		return 0
	}
	r.m.queue.WithLabelValues("enter").Inc()
	return waited
}

// holder is who may use a ticket: the viewer, or who has addresses like his
// where nobody says who he is.
func holder(q *request, o *opened) string {
	return cmp.Or(o.claims.ViewerID, q.network)
}

// maxSame is how many viewers that look the same (one address, one player, no
// ticket) may come in while used ids are remembered, and the next one still keep
// its place when it asks again.
const maxSame = 16

// ticket gives who asks the place that a ticket keeps, or a new one at the end.
// One that is forged, used, expired, or for another stream or viewer counts for nothing.
func (r *Router) ticket(q *request, o *opened, now time.Time) overflow.Ticket {
	a := &o.answer
	t := overflow.Ticket{ID: q.caller, Line: overflow.Line{Region: q.place.Region}, Since: now, From: q.prefix}
	for i := range a.Candidates[:a.Eligible] {
		t.Line.CDNs = append(t.Line.CDNs, a.Candidates[i].CDN)
	}
	if q.ticket != "" {
		c, err := r.s.Signer.ParseTicket(q.ticket, now, q.k.App, q.k.Stream)
		if err == nil && c.Holder == holder(q, o) && !r.full.queue.Used(c.ID) {
			t.ID, t.Since, t.Given = c.ID, time.UnixMilli(min(c.SinceMs, now.UnixMilli())), true
			return t
		}
	}
	for i := 0; t.ID != "" && r.full.queue.Used(t.ID); i++ {
		if t.ID = fmt.Sprint(q.caller, " ", i); i == maxSame {
			t.ID = ""
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
		if err := r.full.queue.Hear(m.Data, r.now()); err != nil {
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
		case <-t.C:
			if b := r.full.queue.Say(r.now()); b != nil {
				_ = r.s.JS.Conn().Publish(schemas.SubjectRouterQueue, b) // said again soon
			}
		}
	}
}
