package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/demand"
)

// maxWants bounds the streams that neighbours may want at once.
const maxWants = 20_000

// listen answers neighbours, hears what they want, and who watches here.
func (n *node) listen(ctx context.Context) ([]*nats.Subscription, error) {
	var subs []*nats.Subscription
	for subject, handler := range map[string]nats.MsgHandler{
		schemas.RegionPing(n.Region, "*"): func(m *nats.Msg) {
			_ = m.Respond([]byte(time.Now().UTC().Format(time.RFC3339Nano))) // unanswered, it is asked again
		},
		schemas.RegionWant(n.Region, "*", schemas.StreamKey{App: "*", Stream: "*"}): func(m *nats.Msg) { n.hearWant(m, time.Now()) },
		schemas.RegionUp(n.Region, "*", ">"):                                        n.receiver(ctx),
		"decisions.*.*.*":                                                           func(m *nats.Msg) { n.audience.heard(m, time.Now()) },
	} {
		s, err := n.Conn.Subscribe(subject, handler)
		if err != nil {
			return subs, fmt.Errorf("listen to %s: %w", subject, err)
		}
		subs = append(subs, s)
	}
	return subs, nil
}

func (n *node) hearWant(m *nats.Msg, now time.Time) {
	f := strings.Split(m.Subject, ".")
	if len(f) != 6 {
		return
	}
	from, k := f[3], schemas.StreamKey{App: f[4], Stream: f[5]}
	var w schemas.RegionWanted
	if n.links[from] == nil || k.Check() != nil || json.Unmarshal(m.Data, &w) != nil || w.Watching < 0 || w.Watching > 1000 || w.Viewers < 0 {
		return
	}
	n.mu.Lock()
	of := n.wants[k]
	if of == nil {
		if len(n.wants) >= maxWants {
			n.mu.Unlock()
			return
		}
		of = map[string]want{}
		n.wants[k] = of
	}
	before := of[from]
	of[from] = want{w.Watching, w.Viewers, now.Add(demand.HoldsFor)}
	n.mu.Unlock()
	if !now.Before(before.until) || before.watching != w.Watching {
		n.wake()
	}
}

// wantsNow copies what neighbours want, and forgets what they no longer do.
func (n *node) wantsNow(now time.Time) map[schemas.StreamKey]map[string]want {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make(map[schemas.StreamKey]map[string]want, len(n.wants))
	for k, of := range n.wants {
		c := map[string]want{}
		for region, w := range of {
			if now.Before(w.until) {
				c[region] = w
			}
		}
		if len(c) == 0 {
			delete(n.wants, k)
			continue
		}
		out[k] = c
	}
	return out
}
