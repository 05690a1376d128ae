package web

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/spillway-live/spillway/analytics/experiments/control"
	"github.com/spillway-live/spillway/analytics/experiments/plan"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
)

// bodyLimit of what is sent.
const bodyLimit = 64 << 10

// Change answers, for who may change:
//
//	GET /v1/settings/experiments                      all of them
//	GET, PUT, DELETE /v1/settings/experiments/<name>  one; PUT stores a draft (?check=1 only checks it), DELETE removes one
//	GET /v1/settings/experiments/<name>/history       its versions
//	POST /v1/settings/experiments/<name>/<act>        start, stop, cover, decide, roll-out; see [Act]
func (s *Server) Change() http.Handler {
	mux := http.NewServeMux()
	const path = "/v1/settings/experiments"
	mux.HandleFunc("GET "+path, s.handle(s.list))
	mux.HandleFunc("GET "+path+"/{name}", s.handle(func(ctx context.Context, c *control.Control, r *http.Request) (any, error) {
		return c.Get(ctx, r.PathValue("name"))
	}))
	mux.HandleFunc("GET "+path+"/{name}/history", s.handle(func(ctx context.Context, c *control.Control, r *http.Request) (any, error) {
		h, err := c.History(ctx, r.PathValue("name"))
		return map[string]any{"versions": h}, err
	}))
	mux.HandleFunc("PUT "+path+"/{name}", s.handle(save))
	mux.HandleFunc("DELETE "+path+"/{name}", s.handle(func(ctx context.Context, c *control.Control, r *http.Request) (any, error) {
		return nil, c.Remove(ctx, r.PathValue("name"))
	}))
	mux.HandleFunc("POST "+path+"/{name}/{act}", s.handle(act))
	return mux
}

// refused says that what was sent is wrong.
type refused struct{ error }

func (s *Server) handle(h func(context.Context, *control.Control, *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, bodyLimit)
		v, err := h(r.Context(), &control.Control{JS: s.JS, By: By}, r)
		if err == nil && r.Method != http.MethodGet {
			cmp.Or(s.Logger, slog.New(slog.DiscardHandler)).Info("experiment changed", "experiment", r.PathValue("name"), "act", cmp.Or(r.PathValue("act"), r.Method))
			s.seen(r.Context(), r.PathValue("name"))
		}
		if err == nil && v == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		if err == nil {
			err = answer(w, v)
		}
		if err != nil {
			fail(w, err)
		}
	}
}

func (s *Server) list(ctx context.Context, c *control.Control, _ *http.Request) (any, error) {
	l, err := c.List(ctx)
	if err != nil {
		return nil, err
	}
	all, damaged := map[string]*schemas.Experiment{}, map[string]string{}
	for _, e := range l {
		if e.Err != nil {
			damaged[e.Key] = e.Err.Error()
		} else {
			all[e.Key] = e.Value
		}
	}
	return map[string]any{"entries": all, "damaged": damaged}, nil
}

// save stores a draft. Its status is that of a draft whatever was sent.
func save(ctx context.Context, c *control.Control, r *http.Request) (any, error) {
	var x schemas.Experiment
	if err := read(r, &x); err != nil {
		return nil, err
	}
	if x.Name != r.PathValue("name") {
		return nil, refused{fmt.Errorf("name: %q is not the %q of the address", x.Name, r.PathValue("name"))}
	}
	control.Complete(&x)
	if err := x.Check(); err != nil {
		return nil, refused{err}
	}
	if err := plan.Check(&x); err != nil {
		return nil, refused{err}
	}
	if r.URL.Query().Get("check") == "1" {
		return map[string]any{"experiment": x, "warnings": plan.Warnings(&x)}, nil
	}
	stored, err := c.Save(ctx, &x)
	if err != nil {
		return nil, err
	}
	return map[string]any{"experiment": stored, "warnings": plan.Warnings(stored)}, nil
}

// Act is the body of a change of an experiment's state. All of it may be left out where the act does not ask for it.
type Act struct {
	// By is who changes, Reason why: both are in the history, By after "console: ".
	By     string `json:"by,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Coverage is the share of units for cover.
	Coverage float64 `json:"coverage,omitempty"`
	// Winner is the arm for decide.
	Winner string `json:"winner,omitempty"`
	// Apps are the applications (app) and streams (app/stream) for roll-out.
	Apps []string `json:"apps,omitempty"`
}

func act(ctx context.Context, c *control.Control, r *http.Request) (any, error) {
	var in Act
	if err := read(r, &in); err != nil {
		return nil, err
	}
	if len(in.By) > 200 || len(in.Reason) > 1000 {
		return nil, refused{errors.New("by, reason: at most 200 and 1000 bytes are allowed")}
	}
	if in.By != "" { // a claim of whoever holds the token: it never reads like the loop, or like a command
		c.By = By + ": " + in.By
	}
	name := r.PathValue("name")
	switch r.PathValue("act") {
	case "start":
		return c.Start(ctx, name, in.Reason)
	case "stop":
		return c.Stop(ctx, name, in.Reason)
	case "cover":
		if !(in.Coverage > 0 && in.Coverage <= 1) {
			return nil, refused{fmt.Errorf("coverage: %v is not above 0 and at most 1", in.Coverage)}
		}
		return c.Cover(ctx, name, in.Coverage, in.Reason)
	case "decide":
		if in.Winner == "" {
			return nil, refused{errors.New("winner: name the arm that won")}
		}
		return c.Decide(ctx, name, in.Winner, in.Reason)
	case "roll-out":
		keys := make([]string, len(in.Apps))
		for i, a := range in.Apps {
			app, stream, _ := strings.Cut(a, "/")
			keys[i] = strings.TrimSuffix(app+"."+stream, ".")
			for what, n := range map[string]string{"application": app, "stream": stream} {
				if err := schemas.CheckName(what, n); err != nil && (what == "application" || strings.Contains(a, "/")) {
					return nil, refused{fmt.Errorf("apps[%d]: %w", i, err)}
				}
			}
		}
		if len(keys) == 0 {
			return nil, refused{errors.New("apps: name at least one application or stream")}
		}
		wrote, err := c.RollOut(ctx, name, keys, in.Reason)
		return map[string]any{"settings": wrote}, err
	}
	return nil, refused{fmt.Errorf("there is no act %q: give start, stop, cover, decide or roll-out", r.PathValue("act"))}
}

// read decodes a body; an empty one is the zero value.
func read(r *http.Request, v any) error {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return refused{fmt.Errorf("the body cannot be read: %w", err)}
	}
	if len(b) == 0 {
		return nil
	}
	if err := schemas.UnmarshalStrict(b, v); err != nil {
		return refused{err}
	}
	return nil
}

func answer(w http.ResponseWriter, v any) error {
	b, err := json.Marshal(v)
	if err == nil {
		send(w, "application/json", append(b, '\n'))
	}
	return err
}

func send(w http.ResponseWriter, kind string, b []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(b) // the reader is gone, or the server logs it
}

// fail says an error in the way it is meant.
func fail(w http.ResponseWriter, err error) {
	var bad refused
	var wrong *registry.Refused
	var conflict *registry.Conflict
	status := http.StatusServiceUnavailable
	switch {
	case errors.As(err, &bad), errors.As(err, &wrong):
		status = http.StatusBadRequest
	case errors.Is(err, registry.ErrNone):
		status = http.StatusNotFound
	case errors.Is(err, control.ErrRule), errors.As(err, &conflict), errors.Is(err, errDraft):
		status = http.StatusConflict
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	b, _ := json.Marshal(schemas.ErrorAnswer{Error: text}) // a struct of one string encodes
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", fmt.Sprint(int(keptFor/time.Second)))
	}
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
}
