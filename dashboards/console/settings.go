package console

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
)

// admin reports whether the asker showed the admin token; otherwise the request has been refused.
func (c *Console) admin(w http.ResponseWriter, r *http.Request) bool {
	given := sha256.Sum256([]byte(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")))
	want := sha256.Sum256([]byte(c.s.AdminToken))
	if c.s.AdminToken == "" || subtle.ConstantTimeCompare(given[:], want[:]) != 1 {
		w.Header().Set("WWW-Authenticate", "Bearer")
		refuse(w, http.StatusUnauthorized, "send the admin token: Authorization: Bearer <token>")
		return false
	}
	return true
}

// entries serves one bucket of settings: GET lists it, PUT replaces an entry,
// DELETE removes one. Keys are <app> or <app>.<stream>, as in the bucket.
type entries[T any] struct {
	c      *Console
	bucket string
	parse  func(string, []byte) (*T, error)
	// hide takes out of a copy what is not shown; nil: nothing.
	hide func(*T)
	// may says why an entry may not replace what is there (nil where there is nothing); nil: it may.
	may func(old, next *T) error
	// keep: entries cannot be removed, for this reason.
	keep string
}

// settings adds the paths of apps, sources and shares.
func (c *Console) settings(mux *http.ServeMux) {
	handle(mux, "apps", &entries[schemas.AppSettings]{c: c, bucket: schemas.BucketApps, parse: schemas.ParseAppSettings})
	handle(mux, "sources", &entries[schemas.Source]{c: c, bucket: schemas.BucketSources, parse: schemas.ParseSource, hide: hidePassword})
	handle(mux, "shares", &entries[schemas.Share]{
		c: c, bucket: schemas.BucketShares, parse: schemas.ParseShare, may: (*schemas.Share).MayBecome,
		keep: `shares are withdrawn, not removed, so that their addresses are not given out again: PUT with "withdrawn": <Unix seconds>`,
	})
}

func handle[T any](mux *http.ServeMux, name string, e *entries[T]) {
	mux.HandleFunc("GET /v1/settings/"+name, e.list)
	mux.HandleFunc("PUT /v1/settings/"+name+"/{key}", e.put)
	mux.HandleFunc("DELETE /v1/settings/"+name+"/{key}", e.remove)
}

// hidePassword leaves the user and takes the password out.
func hidePassword(s *schemas.Source) {
	if u, err := url.Parse(s.URL); err == nil {
		s.URL = u.Redacted()
	}
}

func (e *entries[T]) open(ctx context.Context) (*registry.Registry[T], error) {
	return registry.Open(ctx, e.c.s.JetStream, e.bucket, e.parse)
}

func (e *entries[T]) list(w http.ResponseWriter, r *http.Request) {
	if !e.c.admin(w, r) {
		return
	}
	reg, err := e.open(r.Context())
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, "the settings cannot be read: "+plain(err))
		return
	}
	l, err := reg.List(r.Context())
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, "the settings cannot be read: "+plain(err))
		return
	}
	all, damaged := map[string]*T{}, map[string]string{}
	for _, x := range l {
		if x.Err != nil {
			damaged[x.Key] = x.Err.Error()
			continue
		}
		if e.hide != nil {
			e.hide(x.Value)
		}
		all[x.Key] = x.Value
	}
	answer(w, map[string]any{"entries": all, "damaged": damaged})
}

// invalid is an error of what was sent.
type invalid struct{ error }

func (e *entries[T]) put(w http.ResponseWriter, r *http.Request) {
	if !e.c.admin(w, r) {
		return
	}
	key := r.PathValue("key")
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	var next *T
	if err == nil {
		next, err = e.parse(key, b)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, "the entry is refused: "+err.Error())
		return
	}
	reg, err := e.open(r.Context())
	if err == nil {
		_, err = reg.Edit(r.Context(), key, func(v *T, found bool) error {
			old := v
			if !found {
				old = nil
			}
			if e.may != nil {
				if err := e.may(old, next); err != nil {
					return invalid{err}
				}
			}
			*v = *next
			return nil
		})
	}
	switch {
	case errors.As(err, &invalid{}):
		refuse(w, http.StatusConflict, err.Error())
	case err != nil:
		refuse(w, http.StatusServiceUnavailable, "the entry was not stored: "+plain(err))
	default:
		e.c.s.Logger.Info("settings changed", "bucket", e.bucket, "key", key)
		w.WriteHeader(http.StatusNoContent)
	}
}

func (e *entries[T]) remove(w http.ResponseWriter, r *http.Request) {
	if !e.c.admin(w, r) {
		return
	}
	if e.keep != "" {
		refuse(w, http.StatusConflict, e.keep)
		return
	}
	reg, err := e.open(r.Context())
	if err == nil {
		err = reg.Remove(r.Context(), r.PathValue("key"))
	}
	switch {
	case errors.Is(err, registry.ErrNone):
		refuse(w, http.StatusNotFound, "there is no such entry")
	case err != nil:
		refuse(w, http.StatusServiceUnavailable, "the entry was not removed: "+plain(err))
	default:
		e.c.s.Logger.Info("settings removed", "bucket", e.bucket, "key", r.PathValue("key"))
		w.WriteHeader(http.StatusNoContent)
	}
}
