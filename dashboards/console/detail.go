package console

import (
	"context"
	"net/http"
	"time"

	"github.com/spillway-live/spillway/dashboards/queries"
	"github.com/spillway-live/spillway/schemas"
)

// detailRoutes adds what the pages of one stream and of one session ask for.
func (c *Console) detailRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/streams/{app}/{stream}/{part}", c.streamPart)
	mux.HandleFunc("GET /v1/sessions/{key}", c.session)
	mux.HandleFunc("GET /v1/alerts", func(w http.ResponseWriter, _ *http.Request) {
		c.st.mu.Lock()
		v := c.st.alertViews()
		bus := c.st.bus
		c.st.mu.Unlock()
		answer(w, map[string]any{"alerts": v, "bus": bus})
	})
}

// streamParts are the questions about one stream, and how far back each reaches.
var streamParts = map[string]struct {
	sql        string
	span, step time.Duration
}{
	"publisher": {queries.StreamPublisher, 30 * time.Minute, 10 * time.Second},
	"hops":      {queries.StreamHops, 5 * time.Minute, time.Minute},
	"sessions":  {queries.StreamSessions, 15 * time.Minute, time.Minute},
	"events":    {queries.StreamEvents, 24 * time.Hour, time.Minute},
}

func (c *Console) streamPart(w http.ResponseWriter, r *http.Request) {
	k := schemas.StreamKey{App: r.PathValue("app"), Stream: r.PathValue("stream")}
	if err := k.Check(); err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	name := r.PathValue("part")
	p, ok := streamParts[name]
	if !ok {
		refuse(w, http.StatusNotFound, "a stream has publisher, hops, sessions and events")
		return
	}
	c.hub.touch(time.Now())
	c.reply(w, r, "stream "+name+" "+k.String(), 4*time.Second, func(ctx context.Context) (any, error) {
		to := time.Now().Truncate(time.Second)
		return c.table(ctx, p.sql, queries.Vars{"app": queries.Only(k.App), "stream": queries.Only(k.Stream)}, to.Add(-p.span), to, p.step)
	})
}

// maxSession bounds a session's id, which players make up.
const maxSession = 200

// sessionTitle refuses what is no session's id.
func sessionTitle(r *http.Request) (string, error) {
	id := r.PathValue("key")
	if len(id) > maxSession {
		return "", errTooLong
	}
	return "Session " + id, nil
}

func (c *Console) session(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("key")
	if len(id) > maxSession {
		refuse(w, http.StatusBadRequest, errTooLong.Error())
		return
	}
	if c.s.Story == nil {
		refuse(w, http.StatusNotFound, "this console cannot tell sessions")
		return
	}
	c.hub.touch(time.Now())
	c.reply(w, r, "session "+id, 4*time.Second, func(ctx context.Context) (any, error) { return c.s.Story(ctx, id) })
}
