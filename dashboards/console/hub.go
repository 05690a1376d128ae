package console

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// idleAfter is how long ClickHouse is still asked after the last reader has gone.
const idleAfter = 10 * time.Second

// sections of the live state, sent when their content changes.
var sections = [...]string{"health", "totals", "streams", "cdns", "recent", "minutes", "alerts"}

// hub hands the state to every connected browser. A slow browser skips states
// instead of queueing them.
type hub struct {
	max   int
	m     *metrics
	woken chan struct{} // asks the poller to run now

	mu      sync.Mutex
	latest  [len(sections)][]byte
	clients map[*client]struct{}
	lastUse time.Time
}

type client struct {
	dirty [len(sections)]bool
	wake  chan struct{}
}

func newHub(max int, m *metrics) *hub {
	return &hub{max: max, m: m, woken: make(chan struct{}, 1), clients: map[*client]struct{}{}}
}

// touch notes that somebody reads.
func (h *hub) touch(now time.Time) {
	h.mu.Lock()
	idle := now.Sub(h.lastUse) > idleAfter && len(h.clients) == 0
	h.lastUse = now
	h.mu.Unlock()
	if idle {
		select {
		case h.woken <- struct{}{}:
		default:
		}
	}
}

func (h *hub) wanted(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.clients) > 0 || now.Sub(h.lastUse) <= idleAfter
}

// publish replaces the state; browsers get the sections that changed.
func (h *hub) publish(parts [len(sections)][]byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var changed [len(sections)]bool
	any := false
	for i, p := range parts {
		if !bytes.Equal(p, h.latest[i]) {
			h.latest[i], changed[i], any = p, true, true
		}
	}
	if !any {
		return
	}
	for c := range h.clients {
		for i, ch := range changed {
			c.dirty[i] = c.dirty[i] || ch
		}
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

// join adds a browser, which gets everything there is; nil when there are too
// many. first says that nobody else looks, so that what there is may be old.
func (h *hub) join() (c *client, first bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.clients) >= h.max {
		h.m.refused.Inc()
		return nil, false
	}
	c = &client{wake: make(chan struct{}, 1)}
	for i := range c.dirty {
		c.dirty[i] = true
	}
	c.wake <- struct{}{}
	h.clients[c] = struct{}{}
	h.m.live.Set(float64(len(h.clients)))
	return c, len(h.clients) == 1
}

func (h *hub) leave(c *client, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.clients, c)
	h.lastUse = now
	h.m.live.Set(float64(len(h.clients)))
}

// take gives the sections that c has not seen.
func (h *hub) take(c *client) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	var b bytes.Buffer
	for i, d := range c.dirty {
		if !d || h.latest[i] == nil {
			continue
		}
		b.WriteString("event: " + sections[i] + "\ndata: ")
		b.Write(h.latest[i])
		b.WriteString("\n\n")
		c.dirty[i] = false
	}
	return b.Bytes()
}

// refresh puts the state together each second while somebody looks.
func (c *Console) refresh(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if now := time.Now(); c.hub.wanted(now) {
				c.publish(now)
			}
		}
	}
}

func (c *Console) publish(now time.Time) {
	v := c.st.view(now)
	c.st.mu.Lock()
	recent, minutes, alerts := c.st.n.recent, c.st.n.minutes, c.st.alertViews()
	c.st.mu.Unlock()
	// LastMs moves with every answer; the page needs it only once something is wrong.
	bus, click := v.Bus, v.Click
	if bus.OK {
		bus.LastMs = 0
	}
	if click.OK {
		click.LastMs = 0
	}
	var parts [len(sections)][]byte
	for i, x := range [...]any{map[string]health{"bus": bus, "clickhouse": click}, v.Totals, v.Streams, v.CDNs, recent, minutes, alerts} {
		b, err := json.Marshal(x)
		if err != nil { // every type of the view can be encoded
			c.s.Logger.Error("encode live state", "section", sections[i], "err", err)
			continue
		}
		parts[i] = b
	}
	c.hub.publish(parts)
}

// beat is how often a connected browser hears at least something.
const beat = 2 * time.Second

// live serves GET /v1/live.
func (c *Console) live(w http.ResponseWriter, r *http.Request) {
	cl, first := c.hub.join()
	if cl == nil {
		w.Header().Set("Retry-After", "10")
		refuse(w, http.StatusServiceUnavailable, "too many browsers are connected: close one, or try again later")
		return
	}
	defer func() { c.hub.leave(cl, time.Now()) }()
	if first {
		c.publish(time.Now())
	}
	select {
	case c.hub.woken <- struct{}{}:
	default:
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{})
	send := func(b []byte) bool {
		_ = rc.SetWriteDeadline(time.Now().Add(10 * time.Second))
		_, err := w.Write(b)
		return err == nil && rc.Flush() == nil
	}
	if !send([]byte("retry: 1000\n\n")) {
		return
	}
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		var b []byte
		select {
		case <-r.Context().Done():
			return
		case <-cl.wake:
			b = c.hub.take(cl)
		case t := <-tick.C:
			b = []byte("event: beat\ndata: " + strconv.FormatInt(t.UnixMilli(), 10) + "\n\n")
		}
		if len(b) > 0 && !send(b) {
			return
		}
	}
}
