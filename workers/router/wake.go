package router

import (
	"context"
	"net/http"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/demand"
)

// wakeStep is how often a stream that is being woken is looked at.
const wakeStep = 50 * time.Millisecond

// freshState is how old the state of a live stream may be; it is written each second.
const freshState = 5 * time.Second

func isLive(s *schemas.StreamState, now time.Time) bool {
	return s != nil && s.Live && len(s.Epoch.Tracks) > 0 && now.Sub(time.UnixMicro(s.UpdatedUnixUs)) < freshState
}

// awake gives the state of a stream that sessions may start on. A camera that
// is pulled on demand is woken first: the answer waits until it is live, up to
// Settings.WakeLimit.
func (r *Router) awake(ctx context.Context, k schemas.StreamKey, now time.Time) (*schemas.StreamState, error) {
	src, pulled := r.t.sources.Get(k.KVKey())
	if !pulled || !src.OnDemand {
		return r.live(k, now)
	}
	start := now
	var said time.Time
	for {
		if now.Sub(said) >= demand.Every/2 {
			said = now
			if err := demand.Say(r.s.JS.Conn(), k); err != nil {
				r.s.Logger.Warn("camera cannot be asked for", "stream", k, "err", err)
			}
		}
		if s := r.t.stream(k); isLive(s, now) {
			r.m.woken.WithLabelValues("live").Inc()
			return s, nil
		}
		if now.Sub(start) >= r.s.WakeLimit {
			r.m.woken.WithLabelValues("silent").Inc()
			return nil, refuse(http.StatusGatewayTimeout, "the camera of %s did not answer within %v: %s", k, r.s.WakeLimit, r.whySilent(k, start))
		}
		select {
		case <-ctx.Done():
			return nil, refuse(http.StatusServiceUnavailable, "the viewer did not wait for the camera")
		case <-time.After(wakeStep):
		}
		now = r.now()
	}
}

// whySilent is what the puller said of the camera.
func (r *Router) whySilent(k schemas.StreamKey, since time.Time) string {
	p, ok := r.t.pulls.Get(k.KVKey())
	switch {
	case !ok || time.UnixMicro(p.UpdatedUnixUs).Before(since.Add(-schemas.PullHoldsFor)):
		return "no puller took it up; see that the role puller runs"
	case p.Error != "":
		return p.Error
	}
	return "it is connected and has sent no picture yet"
}
