package router

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

// asideAgain is how often an alert about a policy is raised while it lasts: one
// that nobody raises for 15 minutes is taken for over.
const asideAgain = 5 * time.Minute

// tellAside raises an alert for each policy whose newest version failed and is
// set aside, and clears it once the newest version decides again. The events are of the time that clock says.
func (p *policies) tellAside(ctx context.Context, clock func() time.Time, publish func(*schemas.Event)) error {
	told := map[string]string{}
	again := time.NewTicker(asideAgain)
	defer again.Stop()
	for {
		changed := p.table.Changed()
		now := p.asideNow()
		for name, says := range now {
			if told[name] != says {
				publish(policyAlert(clock(), schemas.EventAlertRaised, name, says))
			}
		}
		for name := range told {
			if now[name] == "" {
				publish(policyAlert(clock(), schemas.EventAlertCleared, name, "the newest version of policy "+name+" decides"))
			}
		}
		told = now
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
			told = map[string]string{}
			for name := range now {
				told[name] = " " // said, and to be said again
			}
		case <-p.fell:
		case <-changed:
		}
	}
}

// asideNow says of each policy that is set aside what an operator should know.
func (p *policies) asideNow() map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string]string{}
	for name, a := range p.aside {
		if c, ok := p.table.Get(name); !ok || c != a.failed {
			continue
		}
		instead := "the built-in policy decides"
		if a.instead != nil {
			instead = fmt.Sprintf("version %d decides", a.instead.Value().Version)
		}
		out[name] = fmt.Sprintf("Version %d of policy %s is set aside and %s: %.120v", a.failed.Value().Version, name, instead, a.why)
	}
	return out
}

// policyAlert is an event that raises or clears the alert about a policy.
func policyAlert(at time.Time, kind schemas.EventKind, name, says string) *schemas.Event {
	rule := "policy_" + name
	return &schemas.Event{
		ID: rand.Text(), TimeUs: at.UnixMicro(), Kind: kind, Reason: says,
		Detail: map[string]string{"rule": rule[:min(len(rule), schemas.MaxNameLen)], "policy": name},
	}
}

// event publishes an event as decisions are: behind the answers, kept while the bus is away.
func (r *Router) event(e *schemas.Event) {
	if err := r.out.add(schemas.EventSubject(e), e.ID, "", e); err != nil {
		r.s.Logger.Error("event cannot be published", "kind", e.Kind, "err", err)
	}
}
