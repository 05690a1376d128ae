package origin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/access"
)

// shareMaxAge bounds how long a cache may keep media of a share, so that a
// withdrawn share is soon gone from caches too.
const shareMaxAge = "public, max-age=30"

// admit finds the stream behind the address of t and refuses those who may not
// have it. It gives the writer and request to go on with; done must be called
// after the answer. ok is false when the request has been answered.
func (o *Origin) admit(w http.ResponseWriter, r *http.Request, t *target) (_ http.ResponseWriter, _ *http.Request, done func(), ok bool) {
	done = func() {}
	address := t.key
	a := o.access.Of(address, time.Now())
	if a.Private {
		// Edges keep this with the object and ask for a token before they give it away.
		w.Header()[schemas.HeaderPrivate] = []string{"1"}
		if !o.fromEdge(r) {
			refuse(w, http.StatusForbidden, cacheNever, "stream "+address.String()+" is private: this origin gives it to edges only")
			return w, r, done, false
		}
		return w, r, done, true
	}
	if !a.Shared {
		return w, r, done, true
	}
	if a.Ended != "" {
		refuse(w, http.StatusGone, cacheNever, a.Ended)
		return w, r, done, false
	}
	t.key = a.Key
	g := &shareGate{ResponseWriter: w, o: o, address: address}
	ctx, cancel := context.WithCancel(r.Context())
	go o.endWithShare(ctx, cancel, address)
	return g, r.WithContext(ctx), cancel, true
}

// fromEdge reports whether the asker showed the edges' key or is in a network of edges.
func (o *Origin) fromEdge(r *http.Request) bool {
	if o.EdgeKey != "" {
		// Hashed, so that the comparison does not tell the key's length either.
		got, want := sha256.Sum256([]byte(r.Header.Get(schemas.HeaderEdgeKey))), sha256.Sum256([]byte(o.EdgeKey))
		if subtle.ConstantTimeCompare(got[:], want[:]) == 1 {
			return true
		}
	}
	if len(o.EdgeNetworks) == 0 {
		return false
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	ip := from.Addr().Unmap()
	for _, n := range o.EdgeNetworks {
		if n.Contains(ip) {
			return true
		}
	}
	return false
}

// endWithShare ends a request that waits for what comes next when its share ends.
func (o *Origin) endWithShare(ctx context.Context, cancel func(), address schemas.StreamKey) {
	for {
		changed := o.access.SharesChanged()
		a := o.access.Of(address, time.Now())
		if !a.Shared || a.Ended != "" {
			cancel()
			return
		}
		var over <-chan time.Time
		if a.UntilUnix != 0 {
			t := time.NewTimer(time.Until(time.Unix(a.UntilUnix, 0)))
			defer t.Stop() // shares change seldom: this does not pile up
			over = t.C
		}
		select {
		case <-changed:
		case <-over:
		case <-ctx.Done():
			return
		}
	}
}

// shareGate is the writer of answers for a share: it looks once more whether
// the share holds when an answer is about to be given, because a request may
// have waited since it was admitted.
type shareGate struct {
	http.ResponseWriter
	o       *Origin
	address schemas.StreamKey
	passed  bool
	ended   bool
}

func (g *shareGate) WriteHeader(code int) {
	if g.passed {
		return
	}
	g.passed = true
	a := g.o.access.Of(g.address, time.Now())
	if !a.Shared || a.Ended != "" {
		g.ended = true
		why := a.Ended
		if why == "" {
			why = "this share was removed"
		}
		h := g.Header()
		for name := range h {
			if strings.HasPrefix(name, "Content-") || name == "Etag" || name == "Accept-Ranges" || name == "Retry-After" {
				delete(h, name)
			}
		}
		refuse(g.ResponseWriter, http.StatusGone, cacheNever, why)
		return
	}
	if h := g.Header(); h.Get("Cache-Control") == cacheMedia {
		h["Cache-Control"] = []string{shareMaxAge}
	}
	g.ResponseWriter.WriteHeader(code)
}

func (g *shareGate) Write(b []byte) (int, error) {
	if !g.passed {
		g.WriteHeader(http.StatusOK)
	}
	if g.ended {
		return len(b), nil // the refusal stands in its place
	}
	return g.ResponseWriter.Write(b)
}

// Unwrap gives http.ResponseController the connection.
func (g *shareGate) Unwrap() http.ResponseWriter { return g.ResponseWriter }

// followAccess reads who may have what, before the first request is answered.
func (o *Origin) followAccess(ctx context.Context) error {
	o.access = access.New(o.Logger)
	o.fetches.Go(func() { _ = o.access.Run(o.work, o.JetStream) })
	return o.access.Wait(ctx)
}
