package router

import (
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/busclock"
)

// SetOwnClock has a router run on a machine with another clock. Call it before Run.
func (r *Router) SetOwnClock(own func() time.Time) {
	r.clock = busclock.New(busclock.Settings{JS: r.s.JS, Stream: schemas.StreamDecisions, Own: own, Logger: r.s.Logger})
}
