package edge

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/spillway-live/spillway/ingest/geo"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/token"
)

const (
	maxPath  = 2048 // path with token prefix, bytes
	maxQuery = 4096
	maxAgent = 256
	// manifest is the one that a viewer without a token is told of.
	manifest = "multivariant.m3u8"
)

// manifests are those that the router writes for each session.
var manifests = map[string]bool{manifest: true, "ts.m3u8": true, "manifest.mpd": true}

var cmcdHeaders = []string{"CMCD-Request", "CMCD-Object", "CMCD-Status", "CMCD-Session"}

// exchange is one request being answered: a ResponseWriter that obeys the
// shaper and notes what the log line needs.
type exchange struct {
	http.ResponseWriter
	e     *Edge
	ctx   context.Context
	pace  *shaper // of this answer alone; nil: none
	start time.Time
	first time.Time
	line  schemas.CDNLogLine
	err   error // why the answer could not be written
}

// ServeHTTP answers one request and logs it.
func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	st := e.state.Load()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(st.ctx, cancel)()
	x := &exchange{ResponseWriter: w, e: e, ctx: ctx, start: time.Now()}
	x.describe(r)
	if st.fault.Down {
		x.line.Reason = "edge is down"
		e.finish(x)
		panic(http.ErrAbortHandler) // closes the connection without an answer
	}
	cors(w.Header())
	if r.Method == http.MethodOptions {
		preflight(w)
		return
	}
	e.answer(x, r, st.fault)
	if x.err == nil && ctx.Err() != nil && x.first.IsZero() {
		x.err = ctx.Err()
	}
	if x.err != nil && x.line.Reason == "" {
		x.line.Reason = "edge went down"
		if st.ctx.Err() == nil {
			x.line.Reason, x.line.Aborted = "viewer went away", true
		}
	}
	e.finish(x)
	if x.err != nil {
		panic(http.ErrAbortHandler) // what was promised cannot be sent any more
	}
}

func (x *exchange) describe(r *http.Request) {
	x.line = schemas.CDNLogLine{
		TsMs: x.start.UnixMilli(), CDN: x.e.s.Name, Method: r.Method,
		Host: limit(r.Host, 256), Path: limit(r.URL.Path, maxPath), UserAgent: limit(r.UserAgent(), maxAgent),
	}
	var sent []string
	for _, h := range cmcdHeaders {
		if v := r.Header.Get(h); v != "" {
			sent = append(sent, limit(v, 1024))
		}
	}
	x.line.CMCDHeaders = strings.Join(sent, ",")
	if x.line.CMCDHeaders == "" && len(r.URL.RawQuery) <= maxQuery {
		x.line.CMCD = limit(r.URL.Query().Get("CMCD"), maxQuery)
	}
}

func (e *Edge) answer(x *exchange, r *http.Request, f schemas.Fault) {
	p, tok, why := splitPath(r.URL)
	x.line.Path = limit(p, maxPath) // from here on without the token
	var claims token.Session
	if tok != "" {
		var err error
		if claims, err = e.parseToken(tok); err == nil || errors.Is(err, token.ErrExpired) {
			x.claim(claims, r)
		}
		if err != nil {
			x.refuse(http.StatusForbidden, err.Error()+": ask the dispatch service for a new one")
			return
		}
		if claims.SessionID != "" { // a probe has none, and is no viewer
			e.viewers.saw(claims.SessionID, x.start)
		}
	} else {
		x.claim(claims, r)
	}
	if f.Region != "" && f.Region != x.line.Region {
		f = schemas.Fault{} // it is of the way to others
	}
	if f.ConnectionRateBps > 0 {
		x.pace = newShaper(f.ConnectionRateBps)
	}
	if f.LatencyMs > 0 && !x.sleep(time.Duration(f.LatencyMs)*time.Millisecond) {
		return
	}
	if e.chance.hit(f.ErrorRate) {
		x.refuse(http.StatusServiceUnavailable, "injected error")
		return
	}
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		x.Header().Set("Allow", "GET, HEAD, OPTIONS")
		x.refuse(http.StatusMethodNotAllowed, "method "+limit(r.Method, 16)+" is not allowed: use GET, HEAD or OPTIONS")
	case why != "":
		x.refuse(http.StatusNotFound, why)
	case len(r.URL.RawQuery) > maxQuery:
		x.refuse(http.StatusRequestURITooLong, "the query has more than "+strconv.Itoa(maxQuery)+" bytes")
	default:
		e.route(x, r, p, tok, claims)
	}
}

func (e *Edge) route(x *exchange, r *http.Request, p, tok string, claims token.Session) {
	f := strings.Split(p[1:], "/")
	k := schemas.StreamKey{App: f[0], Stream: f[1]}
	if tok != "" && (claims.App != k.App || claims.Stream != k.Stream) {
		x.refuse(http.StatusForbidden, "the token is for "+claims.App+"/"+claims.Stream+", not for "+k.String())
		return
	}
	if len(f) == 3 && manifests[f[2]] {
		e.multivariant(x, r, p, tok)
		return
	}
	if tok == "" && !e.s.AllowAnonymous {
		x.refuse(http.StatusForbidden, "a session token is needed: start from /"+k.String()+"/"+manifest)
		return
	}
	if len(f) == 3 && f[2] == schemas.ProbeName {
		x.probe(r)
		return
	}
	o, src, err := e.playlistOrMedia(x.ctx, p, cacheQuery(r.URL.RawQuery))
	switch src {
	case fromCache:
		x.line.CacheHit = true
		e.m.hits.inc()
	case fromOther:
		x.line.Coalesced = true
		e.m.coalesced.inc()
	}
	if err != nil {
		x.fail(err)
		return
	}
	// The object says it, wherever it came from, so no list of private streams is needed here.
	if o.header.Get(schemas.HeaderPrivate) != "" && !claims.Keyed {
		x.refuse(http.StatusForbidden, "stream "+k.String()+" is private: start with a play key from /"+k.String()+"/"+manifest+"?key=KEY")
		return
	}
	x.send(r, o)
}

// playlistOrMedia gets an object, or what a frozen playlist was.
func (e *Edge) playlistOrMedia(ctx context.Context, p, query string) (*object, source, error) {
	st := e.state.Load()
	frozen := st.fault.FreezePlaylists && strings.HasSuffix(p, "/playlist.m3u8")
	if old, ok := st.frozen.Load(p); ok && frozen {
		return old.(*object), fromCache, nil
	}
	o, src, err := e.flights.get(ctx, p, query)
	if frozen && err == nil && o.status == http.StatusOK {
		st.frozen.Store(p, o)
	}
	return o, src, err
}

// multivariant forwards to the router, which answers per session: never cached.
func (e *Edge) multivariant(x *exchange, r *http.Request, p, tok string) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		x.refuse(http.StatusBadRequest, "the query cannot be read: check its percent-encoding")
		return
	}
	q.Del("CMCD")
	if tok != "" {
		q.Set("s", tok)
	}
	h := http.Header{}
	h.Set(HeaderCDN, e.s.Name)
	h.Set(HeaderEdgeKey, e.s.EdgeKey)
	h.Set("User-Agent", limit(r.UserAgent(), maxAgent))
	// The router has no other way to know whom it answers; it places and rate-limits by it and keeps it nowhere.
	if a := e.s.Geo.Client(r); a.IsValid() {
		h.Set("X-Forwarded-For", a.String())
	}
	if x.line.Region != "" {
		h.Set(geo.HeaderRegion, x.line.Region)
	}
	if x.line.ISP != "" {
		h.Set(geo.HeaderISP, x.line.ISP)
	}
	o, err := e.routers.get(x.ctx, p, q.Encode(), h, playTimeout)
	if err != nil {
		x.fail(err)
		return
	}
	x.Header().Set("Cache-Control", "no-store")
	x.send(r, o)
}

func (e *Edge) parseToken(tok string) (token.Session, error) {
	if e.s.Signer == nil {
		return token.Session{}, errors.New("this edge cannot check tokens")
	}
	return e.s.Signer.ParseSession(tok, time.Now())
}

// claim notes whose request it is.
func (x *exchange) claim(c token.Session, r *http.Request) {
	l := &x.line
	l.SessionID, l.ViewerID, l.App, l.Stream, l.Arms, l.Region, l.ISP = c.SessionID, c.ViewerID, c.App, c.Stream, c.Arms, c.Region, c.ISP
	if l.Region == "" || l.ISP == "" {
		p := x.e.s.Geo.Lookup(r)
		if l.Region == "" {
			l.Region = p.Region
		}
		if l.ISP == "" {
			l.ISP = p.ISP
		}
	}
}

// splitPath takes the token prefix off. why says what is wrong with the path.
func splitPath(u *url.URL) (p, tok, why string) {
	p = u.Path
	if rest, ok := strings.CutPrefix(p, "/t/"); ok {
		tok, p, ok = strings.Cut(rest, "/")
		p = "/" + p
		if !ok || tok == "" {
			return p, "", "the path is not /t/<token>/<application>/<stream>/..."
		}
	}
	if len(u.Path) > maxPath || p != path.Clean(p) || strings.ContainsFunc(p, func(r rune) bool { return r <= ' ' || r > '~' || r == '%' || r == '?' || r == '#' || r == '\\' }) {
		return p, tok, "the path is too long or not in its simplest form"
	}
	f := strings.Split(strings.TrimPrefix(p, "/"), "/")
	if len(f) < 3 {
		return p, tok, "the path is not /<application>/<stream>/..."
	}
	if err := (schemas.StreamKey{App: f[0], Stream: f[1]}).Check(); err != nil {
		return p, tok, err.Error()
	}
	return p, tok, ""
}

func cors(h http.Header) {
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "Age, Cache-Control, CMSD-Dynamic, CMSD-Static, Content-Length, Content-Range, Date, ETag, Retry-After, X-Cache")
	h.Set("Timing-Allow-Origin", "*")
}

func preflight(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS")
	h.Set("Access-Control-Allow-Headers", "CMCD-Object, CMCD-Request, CMCD-Session, CMCD-Status, Content-Type, Range")
	h.Set("Access-Control-Max-Age", "86400")
	w.WriteHeader(http.StatusNoContent)
}

// send writes an object. Whole answers go through ServeContent, which knows
// ranges, HEAD and If-None-Match.
func (x *exchange) send(r *http.Request, o *object) {
	h := x.Header()
	for k, v := range o.header {
		if k == "Cache-Control" && h.Get(k) != "" {
			continue
		}
		h[k] = v
	}
	switch {
	case x.line.CacheHit:
		h.Set("X-Cache", "hit")
	case x.line.Coalesced:
		h.Set("X-Cache", "coalesced")
	default:
		h.Set("X-Cache", "miss")
	}
	h.Set("Age", strconv.FormatInt(int64((o.age+time.Since(o.at))/time.Second), 10))
	if o.grow != nil {
		x.sendGrowing(r, o.grow)
		return
	}
	if o.status == http.StatusOK {
		http.ServeContent(x, r, "", time.Time{}, bytes.NewReader(o.body))
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(o.body)))
	x.WriteHeader(o.status)
	if r.Method != http.MethodHead && o.status != http.StatusNotModified && o.status != http.StatusNoContent {
		_, _ = x.Write(o.body) // x.err has it
	}
}

// probe answers what clients measure the way to this edge by.
func (x *exchange) probe(r *http.Request) {
	h := x.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("Server-Timing", "edge;dur="+strconv.FormatFloat(float64(time.Since(x.start).Microseconds())/1000, 'f', 3, 64))
	h.Set("Content-Length", strconv.Itoa(schemas.ProbeBytes))
	x.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = x.Write(schemas.ProbeBody()) // x.err has it
	}
}

func (x *exchange) refuse(status int, why string) {
	x.line.Reason = limit(why, 256)
	x.Header().Set("Cache-Control", "no-store")
	x.Header().Set("Content-Type", "text/plain; charset=utf-8")
	body := why + "\n"
	x.Header().Set("Content-Length", strconv.Itoa(len(body)))
	x.WriteHeader(status)
	_, _ = x.Write([]byte(body)) // x.err has it
}

// fail tells that nobody behind the edge answered; where the viewer left first there is nobody to tell.
func (x *exchange) fail(err error) {
	if x.ctx.Err() != nil {
		x.err = x.ctx.Err()
		return
	}
	x.e.s.Logger.Debug("fetch", "path", x.line.Path, "err", err)
	x.line.Reason = limit(err.Error(), 256)
	status := http.StatusBadGateway
	if errors.Is(err, context.DeadlineExceeded) {
		status = http.StatusGatewayTimeout
	}
	// Addresses of servers behind the edge are nobody else's business.
	reason := x.line.Reason
	x.refuse(status, "no server behind this edge answers: try another pathway, or again later")
	x.line.Reason = reason
}

func (x *exchange) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-x.ctx.Done():
		x.err = x.ctx.Err()
		return false
	}
}

// WriteHeader notes the status.
func (x *exchange) WriteHeader(status int) {
	if x.line.Status == 0 {
		x.line.Status, x.first = status, time.Now()
	}
	x.ResponseWriter.WriteHeader(status)
}

// Write sends in pieces as the shaper allows.
func (x *exchange) Write(p []byte) (int, error) {
	if x.line.Status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	sent := 0
	for x.err == nil && sent < len(p) {
		n := len(p) - sent
		piece := x.e.shaper.piece()
		if x.pace != nil && (piece == 0 || x.pace.piece() < piece) {
			piece = x.pace.piece()
		}
		if piece > 0 {
			n = min(n, piece)
		}
		if x.err = x.e.shaper.wait(x.ctx, n); x.err != nil {
			break
		}
		if x.pace != nil {
			if x.err = x.pace.wait(x.ctx, n); x.err != nil {
				break
			}
		}
		var m int
		m, x.err = x.ResponseWriter.Write(p[sent : sent+n])
		sent += m
		x.line.Bytes += int64(m)
		x.e.m.bytes.n.Add(uint64(m))
		if piece > 0 && x.err == nil {
			// Without this the server would hold back small pieces and send them in bursts.
			x.err = http.NewResponseController(x.ResponseWriter).Flush()
		}
	}
	return sent, x.err
}

func (e *Edge) finish(x *exchange) {
	now := time.Now()
	x.line.TotalMs = ms(now.Sub(x.start))
	if !x.first.IsZero() {
		x.line.FirstByteMs = ms(x.first.Sub(x.start))
	}
	e.m.requests.inc()
	if x.line.Status == 0 || x.line.Status >= 400 {
		e.m.errors.inc()
	}
	e.log.add(x.line)
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func limit(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	// Control characters would grow sixfold in JSON, beyond the limit of a line.
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}
