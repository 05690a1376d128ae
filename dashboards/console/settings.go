package console

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
	routing "github.com/spillway-live/spillway/workers/router/policy"
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

// entries serves one bucket of settings: GET lists it, or gives one entry; PUT
// replaces an entry, or only checks it (?check=1); PATCH changes the fields it
// names; DELETE removes one. Keys and entries are as in the bucket, and checked
// as the commands check them: both write by [registry.Registry].
type entries[T any] struct {
	c      *Console
	bucket string
	parse  func(string, []byte) (*T, error)
	// fresh is what an entry that PATCH makes begins as; nil: the zero value.
	fresh func(key string) *T
	// hide takes out of a copy what is not shown; nil: nothing.
	hide func(*T)
	// becomes is that of the registry.
	becomes func(old, next *T) error
	// keep: entries cannot be removed, for this reason.
	keep string
}

// settings adds the paths of the buckets that operators write.
func (c *Console) settings(mux *http.ServeMux) {
	cdns := &entries[schemas.CDN]{c: c, bucket: schemas.BucketCDNs, parse: schemas.ParseCDN, fresh: schemas.NewCDN}
	handle(mux, "cdns", cdns)
	mux.HandleFunc("PUT /v1/cdns/{key}/state", cdns.guard(cdns.state))
	handle(mux, "policies", &entries[schemas.Policy]{
		c: c, bucket: schemas.BucketPolicies, parse: routing.Value, becomes: routing.Becomes,
		fresh: func(key string) *schemas.Policy { return &schemas.Policy{Name: key} },
	})
	handle(mux, "apps", &entries[schemas.AppSettings]{c: c, bucket: schemas.BucketApps, parse: schemas.ParseAppSettings})
	handle(mux, "sources", &entries[schemas.Source]{c: c, bucket: schemas.BucketSources, parse: schemas.ParseSource, hide: hidePassword})
	handle(mux, "pushes", &entries[schemas.PushTarget]{c: c, bucket: schemas.BucketPushes, parse: schemas.ParsePushTarget, hide: func(t *schemas.PushTarget) { t.URL = t.ShownURL() }})
	handle(mux, "alertrules", &entries[schemas.AlertRule]{
		c: c, bucket: schemas.BucketAlertRules, parse: schemas.ParseAlertRule, hide: func(r *schemas.AlertRule) { r.WebhookURL = r.ShownWebhook() },
		fresh: func(key string) *schemas.AlertRule { return &schemas.AlertRule{Name: key} },
	})
	handle(mux, "shares", &entries[schemas.Share]{
		c: c, bucket: schemas.BucketShares, parse: schemas.ParseShare, becomes: (*schemas.Share).MayBecome,
		keep: `shares are withdrawn, not removed, so that their addresses are not given out again: PUT with "withdrawn": <Unix seconds>`,
	})
}

func handle[T any](mux *http.ServeMux, name string, e *entries[T]) {
	mux.HandleFunc("GET /v1/settings/"+name, e.guard(e.list))
	for method, h := range map[string]entryHandler[T]{"GET": e.get, "PUT": e.put, "PATCH": e.patch, "DELETE": e.remove} {
		mux.HandleFunc(method+" /v1/settings/"+name+"/{key}", e.guard(h))
	}
	mux.HandleFunc("GET /v1/settings/"+name+"/{key}/history", e.guard(e.history))
}

// entryHandler answers one request of who showed the admin token; what it gives
// is the answer, nil: 204.
type entryHandler[T any] func(w http.ResponseWriter, r *http.Request, reg *registry.Registry[T], key string) (any, error)

// hidePassword leaves the user and takes the password out.
func hidePassword(s *schemas.Source) {
	if u, err := url.Parse(s.URL); err == nil {
		s.URL = u.Redacted()
	}
}

// guard asks for the admin token, opens the bucket, and says errors in the way they are meant.
func (e *entries[T]) guard(h entryHandler[T]) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !e.c.admin(w, r) {
			return
		}
		var reg *registry.Registry[T]
		var v any
		err := e.c.busAway()
		if err == nil {
			reg, err = registry.Open(r.Context(), e.c.s.JetStream, e.bucket, e.parse)
		}
		key := r.PathValue("key")
		if err == nil {
			reg.Becomes = e.becomes
			v, err = h(w, r, reg, key)
		}
		var refused *registry.Refused
		var conflict *registry.Conflict
		switch {
		case errors.As(err, &refused):
			refuse(w, http.StatusBadRequest, "the entry is refused: "+err.Error())
		case errors.As(err, &conflict):
			refuse(w, http.StatusConflict, err.Error())
		case errors.Is(err, registry.ErrNone):
			refuse(w, http.StatusNotFound, "there is no such entry")
		case err != nil:
			refuse(w, http.StatusServiceUnavailable, "the settings cannot be read or written: "+plain(err))
		case v == nil:
			w.WriteHeader(http.StatusNoContent)
		default:
			answer(w, v)
		}
	}
}

func (e *entries[T]) shown(v *T) *T {
	if e.hide != nil {
		e.hide(v)
	}
	return v
}

func (e *entries[T]) list(_ http.ResponseWriter, r *http.Request, reg *registry.Registry[T], _ string) (any, error) {
	l, err := reg.List(r.Context())
	if err != nil {
		return nil, err
	}
	all, damaged := map[string]*T{}, map[string]string{}
	for _, x := range l {
		if x.Err != nil {
			damaged[x.Key] = x.Err.Error()
			continue
		}
		all[x.Key] = e.shown(x.Value)
	}
	return map[string]any{"entries": all, "damaged": damaged}, nil
}

func (e *entries[T]) get(_ http.ResponseWriter, r *http.Request, reg *registry.Registry[T], key string) (any, error) {
	v, err := reg.Get(r.Context(), key)
	if err != nil {
		return nil, err
	}
	return e.shown(v), nil
}

// body reads what was sent, of a settings entry's size.
func body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	if err != nil {
		return nil, &registry.Refused{Err: err}
	}
	return b, nil
}

func (e *entries[T]) put(w http.ResponseWriter, r *http.Request, reg *registry.Registry[T], key string) (any, error) {
	b, err := body(w, r)
	if err != nil {
		return nil, err
	}
	next, err := e.parse(key, b)
	if err != nil {
		return nil, &registry.Refused{Err: err}
	}
	if r.URL.Query().Get("check") == "1" {
		return nil, nil
	}
	_, err = reg.Put(r.Context(), key, next)
	return nil, e.told(r, key, err)
}

func (e *entries[T]) patch(w http.ResponseWriter, r *http.Request, reg *registry.Registry[T], key string) (any, error) {
	b, err := body(w, r)
	if err != nil {
		return nil, err
	}
	fresh := new(T)
	if e.fresh != nil {
		fresh = e.fresh(key)
	}
	v, err := reg.Merge(r.Context(), key, b, fresh)
	if err = e.told(r, key, err); err != nil {
		return nil, err
	}
	return e.shown(v), nil
}

func (e *entries[T]) remove(_ http.ResponseWriter, r *http.Request, reg *registry.Registry[T], key string) (any, error) {
	if e.keep != "" {
		return nil, &registry.Conflict{Err: errors.New(e.keep)}
	}
	return nil, e.told(r, key, reg.Remove(r.Context(), key))
}

// told logs a change that was made.
func (e *entries[T]) told(r *http.Request, key string, err error) error {
	if err == nil {
		e.c.s.Logger.Info("settings changed", "bucket", e.bucket, "key", key, "by", r.Method)
	}
	return err
}

// history gives the versions that the bucket keeps, oldest first.
func (e *entries[T]) history(_ http.ResponseWriter, r *http.Request, reg *registry.Registry[T], key string) (any, error) {
	l, err := reg.History(r.Context(), key)
	if err != nil {
		return nil, err
	}
	type version struct {
		At      time.Time `json:"at"`
		Removed bool      `json:"removed,omitempty"`
		Entry   *T        `json:"entry,omitempty"`
		Damaged string    `json:"damaged,omitempty"`
	}
	out := make([]version, len(l))
	for i, x := range l {
		switch out[i] = (version{At: x.At, Removed: x.Removed}); {
		case x.Err != nil:
			out[i].Damaged = x.Err.Error()
		case !x.Removed:
			out[i].Entry = e.shown(x.Value)
		}
	}
	return map[string]any{"versions": out}, nil
}

// state answers PUT /v1/cdns/<name>/state: the one field that is changed in a hurry.
func (e *entries[T]) state(w http.ResponseWriter, r *http.Request, reg *registry.Registry[T], key string) (any, error) {
	var in struct {
		State schemas.CDNState `json:"state"`
	}
	b, err := body(w, r)
	if err == nil {
		if err = schemas.UnmarshalStrict(b, &in); err == nil {
			err = schemas.CheckName("CDN name", key)
		}
		if err != nil {
			err = &registry.Refused{Err: fmt.Errorf(`the body must be {"state":"active"}, draining or off: %w`, err)}
		}
	}
	if err != nil {
		return nil, err
	}
	if _, err := reg.Get(r.Context(), key); err != nil {
		return nil, err
	}
	v, err := reg.Merge(r.Context(), key, b, new(T))
	return v, e.told(r, key, err)
}
