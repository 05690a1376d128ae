package whip

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"

	"github.com/spillway-live/spillway/ingest/publish"
	"github.com/spillway-live/spillway/schemas"
)

const (
	pathPrefix = "/whip/"
	sdpType    = "application/sdp"
)

// ServeHTTP answers the endpoint and its sessions (RFC 9725 section 4).
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		if v := recover(); v != nil {
			s.log.Error("request handler panicked", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			http.Error(w, "internal error", http.StatusInternalServerError)
		}
	}()
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "Location, Link")
	rest, ok := strings.CutPrefix(r.URL.Path, pathPrefix)
	names := strings.Split(rest, "/")
	if !ok || len(names) != 2 && len(names) != 3 {
		http.Error(w, "publish to "+pathPrefix+"<application>/<stream>", http.StatusNotFound)
		return
	}
	isSession := len(names) == 3
	allowed := "POST, OPTIONS"
	if isSession {
		allowed = "DELETE, OPTIONS"
	}
	switch {
	case r.Method == http.MethodOptions:
		h.Set("Access-Control-Allow-Methods", allowed)
		h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, If-Match")
		h.Set("Access-Control-Max-Age", "86400")
		h.Set("Accept-Post", sdpType)
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPost && !isSession:
		s.post(w, r, schemas.StreamKey{App: names[0], Stream: names[1]})
	case r.Method == http.MethodDelete && isSession:
		s.end(w, names[2])
	default:
		h.Set("Allow", allowed)
		http.Error(w, r.Method+" is not for this address: there is neither trickle ICE nor ICE restart (RFC 9725 section 4.3)", http.StatusMethodNotAllowed)
	}
}

// post begins a session.
func (s *Server) post(w http.ResponseWriter, r *http.Request, k schemas.StreamKey) {
	a, _ := netip.ParseAddrPort(r.RemoteAddr)
	req := publish.Request{Key: k, Protocol: Protocol, Peer: a.Addr().Unmap(), PublishKey: bearer(r), CDN: r.URL.Query().Get("cdn"), GrainUs: grainUs}
	refuse := func(code, reason string, status int) {
		s.s.Publish.Refuse(req, publish.Refuse(code, reason), true)
		http.Error(w, reason, status)
	}
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != sdpType {
		refuse("protocol", "Content-Type must be "+sdpType, http.StatusUnsupportedMediaType)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.s.MaxOfferBytes))
	if err != nil {
		status := http.StatusBadRequest
		if errors.As(err, new(*http.MaxBytesError)) {
			status = http.StatusRequestEntityTooLarge
		}
		refuse("protocol", fmt.Sprintf("read the offer: %v", err), status)
		return
	}
	has, err := checkOffer(body)
	if err != nil {
		code := "protocol"
		if errors.Is(err, errCodec) {
			code = "codec"
		}
		refuse(code, err.Error(), http.StatusNotAcceptable)
		return
	}
	if reason, status := s.admit(req.Peer); reason != "" {
		w.Header().Set("Retry-After", "5")
		refuse("limit", reason, status)
		return
	}
	begun := false
	defer func() {
		if !begun {
			s.leave(req.Peer)
		}
	}()
	pub, err := s.s.Publish.Admit(s.life, req)
	if err != nil {
		s.answerRefusal(w, err)
		return
	}
	ss, answer, err := s.begin(pub, string(body), has)
	if err != nil {
		cause := pub.End(publish.Refuse("protocol", fmt.Sprintf("the offer cannot be answered: %.200s", err)))
		http.Error(w, cause.Error(), http.StatusNotAcceptable)
		return
	}
	begun = true
	w.Header().Set("Content-Type", sdpType)
	w.Header().Set("Location", pathPrefix+k.App+"/"+k.Stream+"/"+ss.id)
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, answer)
}

// bearer gives the publish key (RFC 9725 section 4.8), or that of the query.
func bearer(r *http.Request) string {
	if scheme, key, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(key)
	}
	return r.URL.Query().Get("key")
}

func (s *Server) answerRefusal(w http.ResponseWriter, err error) {
	status := http.StatusForbidden
	var why *publish.Refused
	if errors.As(err, &why) {
		switch why.Code {
		case "name":
			status = http.StatusBadRequest
		case "key":
			status = http.StatusUnauthorized
			w.Header().Set("WWW-Authenticate", "Bearer")
		case "second":
			status = http.StatusConflict
		case "bus", "shutdown":
			status = http.StatusServiceUnavailable
			w.Header().Set("Retry-After", "5")
		}
	}
	http.Error(w, err.Error(), status)
}

// end ends a session; whoever knows its unguessable address may.
func (s *Server) end(w http.ResponseWriter, id string) {
	s.mu.Lock()
	ss := s.sessions[id]
	s.mu.Unlock()
	if ss == nil {
		http.Error(w, "there is no such session", http.StatusNotFound)
		return
	}
	ss.stop(publish.ErrEnded)
	<-ss.done
	w.WriteHeader(http.StatusOK)
}
