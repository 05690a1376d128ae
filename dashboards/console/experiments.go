package console

import (
	"context"
	"html/template"
	"net/http"

	"github.com/spillway-live/spillway/schemas"
)

// Experiments shows and changes experiments. Its pages are markup: they are made with html/template.
type Experiments interface {
	// Run follows what the pages show, once for all browsers, until ctx ends.
	Run(ctx context.Context) error
	// Overview lists them; Page shows one.
	Overview(ctx context.Context) (template.HTML, error)
	Page(ctx context.Context, name string) (template.HTML, error)
	// Read answers below /v1/experiments/ to whoever asks, Change below /v1/settings/experiments to who showed the
	// admin token.
	Read() http.Handler
	Change() http.Handler
}

// experimentPages are the list and the page of one experiment.
func (c *Console) experimentPages() []pageDef {
	x := c.s.Experiments
	if x == nil {
		return nil
	}
	return []pageDef{
		{name: "experiments", title: "Experiments", path: "/experiments", nav: true, content: func(r *http.Request) (template.HTML, error) { return x.Overview(r.Context()) }},
		{
			name: "experiment", title: "Experiment", path: "/experiments/{key}",
			check: func(r *http.Request) (string, error) {
				return "Experiment " + r.PathValue("key"), schemas.CheckName("experiment", r.PathValue("key"))
			},
			content: func(r *http.Request) (template.HTML, error) { return x.Page(r.Context(), r.PathValue("key")) },
		},
	}
}

// experiments adds what the pages read, and the settings.
func (c *Console) experiments(mux *http.ServeMux) {
	if c.s.Experiments == nil {
		return
	}
	mux.Handle("/v1/experiments/", c.s.Experiments.Read())
	change := c.s.Experiments.Change()
	guarded := func(w http.ResponseWriter, r *http.Request) {
		if c.admin(w, r) {
			change.ServeHTTP(w, r)
		}
	}
	mux.HandleFunc("/v1/settings/experiments", guarded)
	mux.HandleFunc("/v1/settings/experiments/", guarded)
}
