// Package web shows experiments on pages and changes them over HTTP, for the console to put behind its addresses.
//
// It promises: what is changed here is changed by the code of the commands (package control), so the same rules hold and
// each refusal names the field; the bus is read once for all browsers, as it changes; reports are made at most once in half a minute for all readers together, two at a time;
// names and values that came from outside are text on a page, never markup.
//
// It leaves out who may change: the console asks for the admin token first.
package web

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/singleflight"

	"github.com/spillway-live/spillway/analytics/experiments/control"
	"github.com/spillway-live/spillway/analytics/experiments/plan"
	"github.com/spillway-live/spillway/analytics/experiments/report"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/mirror"
)

//go:embed pages.html
var files embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"stamp": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") },
	"us":    func(us int64) time.Time { return time.UnixMicro(us) },
}).ParseFS(files, "pages.html"))

// By is who made a change that names nobody.
const By = "console"

// Limits of reports.
const (
	keptFor     = 30 * time.Second
	reportLimit = 25 * time.Second // the console's answers may take thirty
	atOnce      = 2
	maxKept     = 64
)

// Server shows and changes experiments, while it runs. JS and ClickHouse are required.
type Server struct {
	JS jetstream.JetStream
	// ClickHouse is only read.
	ClickHouse driver.Conn
	Database   string // default spillway
	// Keep is how long a report is shown before it is made anew; default 30 s.
	Keep   time.Duration
	Logger *slog.Logger

	once        sync.Once
	experiments *mirror.Table[entry]
	checks      *mirror.Table[*schemas.ExperimentCheck]
	reading     singleflight.Group

	mu    sync.Mutex
	kept  map[string]*keptReport // by experiment and revision
	slots chan struct{}
	pasts map[string]past
}

// keptReport is made once; made is closed when it is.
type keptReport struct {
	at   time.Time
	made chan struct{}
	r    *report.Report
	err  error
}

// Style is the style sheet of reports.
func (s *Server) Style() []byte { return report.Style() }

// Overview lists all experiments with their states and what the closed loop says of each.
func (s *Server) Overview(ctx context.Context) (template.HTML, error) {
	if err := s.ready(ctx); err != nil {
		return "", err
	}
	type row struct {
		Name, Damaged string
		X             *schemas.Experiment
		Check         *schemas.ExperimentCheck
	}
	var rows []row
	for _, name := range s.names() {
		e, ok := s.experiments.Get(name)
		switch {
		case !ok: // removed meanwhile
		case e.err != nil:
			rows = append(rows, row{Name: name, Damaged: e.err.Error()})
		default:
			rows = append(rows, row{Name: name, X: e.x, Check: s.check(name)})
		}
	}
	return s.execute("overview", rows)
}

// status is what the page of an experiment shows of it beside the report.
type status struct {
	X        *schemas.Experiment
	Check    *schemas.ExperimentCheck
	History  []control.Version
	Warnings []string
}

// Page is the page of one experiment; the report is fetched by the page's script, because it takes longer.
func (s *Server) Page(ctx context.Context, name string) (template.HTML, error) {
	st, err := s.status(ctx, name)
	if err != nil {
		return "", err
	}
	return s.execute("experiment", st)
}

func (s *Server) status(ctx context.Context, name string) (*status, error) {
	e, err := s.get(ctx, name)
	if err != nil {
		return nil, err
	}
	st := &status{X: e.x, Check: s.check(name), Warnings: plan.Warnings(e.x)}
	st.History, err = s.history(ctx, name, e)
	return st, err
}

func (s *Server) execute(name string, v any) (template.HTML, error) {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, v); err != nil {
		return "", fmt.Errorf("make page %s: %w", name, err)
	}
	return template.HTML(b.String()), nil
}

// errDraft says that there is nothing to report on.
var errDraft = errors.New("it has not begun: there is nothing to report yet")

// report gives the report of an experiment, at most Keep old.
func (s *Server) report(ctx context.Context, name string) (*report.Report, error) {
	e, err := s.get(ctx, name)
	if err != nil {
		return nil, err
	}
	x := e.x
	if x.Status == schemas.ExperimentDraft {
		return nil, errDraft
	}
	// A change of coverage, arms or status makes another report.
	key := fmt.Sprint(x.Name, "\x00", x.Status, x.Coverage, x.StartedUnixUs, x.Winner)
	s.mu.Lock()
	if s.kept == nil {
		s.kept, s.slots = map[string]*keptReport{}, make(chan struct{}, atOnce)
	}
	k := s.kept[key]
	if k == nil || time.Since(k.at) > cmp.Or(s.Keep, keptFor) {
		if len(s.kept) >= maxKept {
			clear(s.kept)
		}
		k = &keptReport{at: time.Now(), made: make(chan struct{})}
		s.kept[key] = k
		go s.make(context.WithoutCancel(ctx), x, key, k) // others wait for it, whoever asked first
	}
	s.mu.Unlock()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-k.made:
		return k.r, k.err
	}
}

func (s *Server) make(ctx context.Context, x *schemas.Experiment, key string, k *keptReport) {
	ctx, cancel := context.WithTimeout(ctx, reportLimit)
	defer cancel()
	defer close(k.made)
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
		k.r, k.err = report.Build(ctx, s.ClickHouse, x, report.Options{Database: s.Database})
	case <-ctx.Done():
		k.err = errors.New("too many reports are being made: try again in a minute")
	}
	if k.err != nil {
		s.mu.Lock() // a failure is not kept
		if s.kept[key] == k {
			delete(s.kept, key)
		}
		s.mu.Unlock()
		cmp.Or(s.Logger, slog.New(slog.DiscardHandler)).Warn("a report cannot be made", "experiment", x.Name, "err", k.err)
	}
}

// Read answers
//
//	GET /v1/experiments/report.css
//	GET /v1/experiments/<name>/report.json   the report's model
//	GET /v1/experiments/<name>/report.html   one self-contained page
//	GET /v1/experiments/<name>/report.part   its markup, for a page around it
//	GET /v1/experiments/<name>/status.part   state, closed loop and history
func (s *Server) Read() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/experiments/report.css", func(w http.ResponseWriter, _ *http.Request) {
		send(w, "text/css; charset=utf-8", report.Style())
	})
	mux.HandleFunc("GET /v1/experiments/{name}/status.part", func(w http.ResponseWriter, r *http.Request) {
		st, err := s.status(r.Context(), r.PathValue("name"))
		if err != nil {
			fail(w, err)
			return
		}
		part, err := s.execute("status", st)
		if err != nil {
			fail(w, err)
			return
		}
		send(w, "text/html; charset=utf-8", []byte(part))
	})
	for name, f := range map[string]func(http.ResponseWriter, *report.Report) error{
		"json": func(w http.ResponseWriter, r *report.Report) error { return answer(w, r) },
		"html": func(w http.ResponseWriter, r *report.Report) error {
			var b bytes.Buffer
			if err := r.WriteHTML(&b); err != nil {
				return err
			}
			// The page forbids itself everything but its own style.
			w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
			w.Header().Set("Content-Disposition", fmt.Sprintf("inline; filename=%q", r.Experiment.Name+".html"))
			send(w, "text/html; charset=utf-8", b.Bytes())
			return nil
		},
		"part": func(w http.ResponseWriter, r *report.Report) error {
			part, err := r.Fragment()
			if err == nil {
				send(w, "text/html; charset=utf-8", []byte(part))
			}
			return err
		},
	} {
		mux.HandleFunc("GET /v1/experiments/{name}/report."+name, func(w http.ResponseWriter, r *http.Request) {
			rep, err := s.report(r.Context(), r.PathValue("name"))
			if err == nil {
				err = f(w, rep)
			}
			if err != nil {
				fail(w, err)
			}
		})
	}
	return mux
}
