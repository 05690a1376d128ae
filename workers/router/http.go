package router

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
	"github.com/spillway-live/spillway/workers/dash"
	"github.com/spillway-live/spillway/workers/hls"
	"github.com/spillway-live/spillway/workers/leanhttp"
	"github.com/spillway-live/spillway/workers/router/health"
)

const (
	maxQuery      = 4096
	maxViewerName = 128
	maxNeighbours = 8
	headerCDN     = "X-Spillway-CDN"
	headerEdgeKey = schemas.HeaderEdgeKey
)

// Handler answers the router's requests.
func (r *Router) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/dispatch", r.answer("dispatch", r.dispatch))
	for name, write := range map[string]writeManifest{
		hls.MultivariantName: r.multivariant, hls.TSName: r.multivariant, dash.ManifestName: r.manifest,
	} {
		mux.HandleFunc("GET /v1/play/{app}/{stream}/"+name, r.answer("multivariant", func(w http.ResponseWriter, q *http.Request, v query) error {
			return write(w, q, v, "")
		}))
		mux.HandleFunc("GET /{app}/{stream}/"+name, r.answer("edge", r.throughEdge(write)))
	}
	mux.HandleFunc("GET /v1/steering", r.answer("steering", r.steering))
	mux.HandleFunc("GET /v1/hot", r.answer("hot", r.hot))
	mux.HandleFunc("POST /v1/probes", r.answer("probes", r.probes))
	mux.HandleFunc("POST /v1/keys/clearkey", r.answer("licence", r.clearKey))
	mux.HandleFunc("OPTIONS /", func(w http.ResponseWriter, _ *http.Request) {
		cors(w.Header())
		w.Header().Set("Access-Control-Allow-Methods", "GET, HEAD, POST, OPTIONS")
		w.Header().Set("Access-Control-Allow-Headers", "Authorization, CMCD-Object, CMCD-Request, CMCD-Session, CMCD-Status, Content-Type")
		w.Header().Set("Access-Control-Max-Age", "86400")
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("/", r.answer("other", func(http.ResponseWriter, *http.Request, query) error {
		return refuse(http.StatusNotFound, "there is no such page: ask for /v1/dispatch, /v1/play/<application>/<stream>/multivariant.m3u8 or /v1/steering")
	}))
	return r.hotPaths(mux)
}

// hotPaths answers what is asked for most without looking at all patterns; the
// answers are those of the patterns.
func (r *Router) hotPaths(rest http.Handler) http.Handler {
	steering, dispatch := r.answer("steering", r.steering), r.answer("dispatch", r.dispatch)
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Method == http.MethodGet {
			switch q.URL.Path {
			case "/v1/steering":
				steering(w, q)
				return
			case "/v1/dispatch":
				dispatch(w, q)
				return
			}
		}
		rest.ServeHTTP(w, q)
	})
}

// corsLines is what cors and answer set, as leanhttp takes it.
const corsLines = "Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: Age, Date, Retry-After\r\nTiming-Allow-Origin: *\r\nCache-Control: no-store\r\n"

func cors(h http.Header) {
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "Age, Date, Retry-After")
	h.Set("Timing-Allow-Origin", "*")
}

// answer wraps a handler: limits, CORS, errors as JSON, counting.
func (r *Router) answer(kind string, h func(http.ResponseWriter, *http.Request, query) error) http.HandlerFunc {
	good := r.m.answers.WithLabelValues(kind, strconv.Itoa(http.StatusOK))
	return func(w http.ResponseWriter, q *http.Request) {
		if lean, ok := w.(leanhttp.Liner); ok {
			lean.Lines(corsLines)
		} else {
			cors(w.Header())
			w.Header().Set("Cache-Control", "no-store")
		}
		status := http.StatusOK
		if err := r.guarded(kind, w, q, h); err != nil {
			var no *refusal
			if !errors.As(err, &no) {
				r.s.Logger.Error("answer", "kind", kind, "err", err)
				no = &refusal{status: http.StatusInternalServerError, text: "the router could not answer: try again"}
			}
			status = no.status
			if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
				w.Header().Set("Retry-After", "1")
			}
			if no.wait != nil {
				w.Header().Set("Retry-After", strconv.Itoa(no.wait.RetryAfterSec))
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(schemas.ErrorAnswer{Error: no.text, Wait: no.wait}) // the asker may be gone
		}
		if status == http.StatusOK {
			good.Inc()
			return
		}
		r.m.answers.WithLabelValues(kind, strconv.Itoa(status)).Inc()
	}
}

func (r *Router) guarded(kind string, w http.ResponseWriter, q *http.Request, h func(http.ResponseWriter, *http.Request, query) error) error {
	if len(q.URL.RawQuery) > maxQuery {
		return refuse(http.StatusRequestURITooLong, "the query has %d bytes: at most %d are allowed", len(q.URL.RawQuery), maxQuery)
	}
	v, err := parseQuery(q.URL.RawQuery)
	if err != nil {
		return refuse(http.StatusBadRequest, "the query cannot be read: check its percent-encoding")
	}
	if !r.peers.allow(r.s.Geo.Client(q), time.Now()) {
		if kind == "steering" {
			// 429 would end steering in hls.js for good; after a 5xx players keep their list and ask again.
			return refuse(http.StatusServiceUnavailable, "too many requests from one address: keep the list and ask again after its TTL")
		}
		return refuse(http.StatusTooManyRequests, "too many requests from one address: at most %g a second", r.s.PeerRate)
	}
	return h(w, q, v)
}

func (r *Router) request(q *http.Request, v query, k schemas.StreamKey) (request, error) {
	viewer := v.Get("viewer")
	if len(viewer) > maxViewerName {
		return request{}, refuse(http.StatusBadRequest, "viewer has %d bytes: at most %d are allowed", len(viewer), maxViewerName)
	}
	pin := v.Get("pin")
	if pin != "" {
		if err := schemas.CheckName("pin", pin); err != nil {
			return request{}, refuse(http.StatusBadRequest, "%v", err)
		}
	}
	in := request{k: k, viewer: r.hashViewer(viewer), key: playKey(q, v), pin: pin, ticket: v.Get("ticket")}
	addr := r.s.Geo.Client(q)
	in.place = r.s.Geo.LookupClient(q, addr)
	if sum := r.prefix(addr); sum != nil {
		in.group = sum[0] % health.Groups
		in.network = hex.EncodeToString(sum[:16])
		if !addr.IsLoopback() {
			in.prefix = binary.BigEndian.Uint32(sum[16:])
		}
	}
	if q.URL.Path != "/v1/dispatch" {
		// A player that asks for its manifest again brings no ticket: it keeps its place by its address.
		in.caller = r.hashViewer(strings.Join([]string{addr.String(), q.UserAgent(), viewer, k.String()}, " "))
	}
	return in, nil
}

// writeManifest answers one format of a session's manifest; edge is the one that asks for it, if any.
type writeManifest func(w http.ResponseWriter, q *http.Request, v query, edge string) error

// throughEdge answers an edge on behalf of its viewer, who chose that CDN by
// asking it: the session is pinned to it.
func (r *Router) throughEdge(write writeManifest) func(http.ResponseWriter, *http.Request, query) error {
	return func(w http.ResponseWriter, q *http.Request, v query) error {
		cdn, err := r.edge(q)
		if err != nil {
			return err
		}
		return write(w, q, v.with("pin", cdn), cdn)
	}
}

// edge gives the CDN of the edge that asks.
func (r *Router) edge(q *http.Request) (string, error) {
	// Hashed, so that the comparison does not tell the key's length either.
	got, want := sha256.Sum256([]byte(q.Header.Get(headerEdgeKey))), sha256.Sum256([]byte(r.s.EdgeKey))
	if r.s.EdgeKey == "" || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
		return "", refuse(http.StatusForbidden, "this address is for edges: players ask /v1/play/<application>/<stream>/multivariant.m3u8 or an edge")
	}
	cdn := q.Header.Get(headerCDN)
	if err := schemas.CheckName(headerCDN, cdn); err != nil {
		return "", refuse(http.StatusBadRequest, "%v", err)
	}
	return cdn, nil
}

// enter finds the session that asks for a manifest, or opens one. again: its
// player asks for the same manifest over and over.
func (r *Router) enter(q *http.Request, v query, edge string, again bool) (*opened, *schemas.StreamState, error) {
	now := r.now()
	k := key(q)
	if tok := v.Get("s"); tok != "" {
		c, err := r.session(tok, now)
		if err != nil {
			return nil, nil, err
		}
		if c.App != k.App || c.Stream != k.Stream {
			return nil, nil, refuse(http.StatusForbidden, "the token is for %s/%s, not for %s", c.App, c.Stream, k)
		}
		a, err := r.stillMay(&c, now)
		if err != nil {
			return nil, nil, err
		}
		// A session goes on however long its publisher is gone.
		state := r.t.stream(a.Key)
		if state == nil || len(state.Epoch.Tracks) == 0 {
			return nil, nil, refuse(http.StatusNotFound, "stream %s is unknown", k)
		}
		o, err := r.reopen(c, tok, edge, state, again, now)
		return o, state, err
	}
	in, err := r.request(q, v, k)
	if err != nil {
		return nil, nil, err
	}
	o, state, err := r.begin(q.Context(), in, now)
	if err != nil {
		return nil, nil, err
	}
	r.expose(&o.claims, o.arms, now)
	r.record(schemas.DecisionMultivariant, o, "", now)
	return o, state, nil
}

// key is the address asked for; a share plays under its own.
func key(q *http.Request) schemas.StreamKey {
	return schemas.StreamKey{App: q.PathValue("app"), Stream: q.PathValue("stream")}
}

// multivariant writes a session's HLS playlist.
func (r *Router) multivariant(w http.ResponseWriter, q *http.Request, v query, edge string) error {
	o, state, err := r.enter(q, v, edge, false)
	if err != nil {
		return err
	}
	now := r.now()
	format := formatHLS
	switch {
	case strings.HasSuffix(q.URL.Path, "/"+hls.TSName):
		format = formatTS
	case v.Get("dvr") == "1":
		format = formatDVR
	}
	m := r.playlist(state, format, now)
	m.Key = key(q)
	m.Cap(o.capBps)
	for _, c := range o.answer.Candidates[:o.answer.Eligible] {
		if cdn := r.t.cdn(c.CDN); cdn != nil {
			if base, ok := r.sessionBase(cdn, o); ok {
				m.Pathways = append(m.Pathways, hls.Pathway{ID: c.CDN, BaseURL: base})
			}
		}
	}
	if m.Redundant = !r.steers(q, v, state); !m.Redundant {
		ids := make([]string, len(m.Pathways))
		for i := range m.Pathways {
			ids[i] = m.Pathways[i].ID
		}
		m.SteeringURI = r.steeringURI(o, format, ids, now)
	}
	return writeBody(w, hls.TypePlaylist, func(b []byte) ([]byte, error) { return m.Append(b), nil })
}

// reopen decides anew for a session that exists.
func (r *Router) reopen(c token.Session, tok, edge string, state *schemas.StreamState, again bool, now time.Time) (*opened, error) {
	at := r.load.Where(c.SessionID)
	current, previous := at.CDN, at.CDN
	if edge != "" {
		current = edge
	} else if current == "" {
		current = c.CDN
	}
	pin := ""
	if c.Pinned {
		pin = c.CDN
	}
	o := &opened{claims: c, token: tok, settings: r.settings(&c)}
	o.params = r.params(&c, o.settings)
	var err error
	if o.answer, err = r.decide(&asked{
		claims: &c, params: o.params, settings: o.settings, pin: pin, current: current, moved: at.Moved, state: state, avoid: r.left(&at, now),
	}, now); err != nil {
		return nil, err
	}
	o.capBps = r.capBps(o, now)
	if !at.Known {
		r.exposeAgain(&c, now)
	}
	if again && o.answer.Chosen == previous && now.Sub(at.Stored) < r.refreshEvery() {
		r.m.unchanged.Inc()
		return o, nil
	}
	r.record(schemas.DecisionMultivariant, o, previous, now)
	return o, nil
}

func (r *Router) session(tok string, now time.Time) (token.Session, error) {
	c, err := r.s.Signer.ParseSession(tok, now)
	if err != nil {
		return c, badToken(err)
	}
	return c, nil
}

func badToken(err error) error {
	return refuse(http.StatusForbidden, "%v: ask the dispatch service for a new one", err)
}
