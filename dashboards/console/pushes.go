package console

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
)

// pushView is a push target as page and API show it.
type pushView struct {
	Name string `json:"name"`
	App  string `json:"app"`
	// Stream is empty where every stream of the application is pushed.
	Stream   string `json:"stream"`
	Disabled bool   `json:"disabled"`
	// To is the address without user and key.
	To string `json:"to"`
	// Error says why the entry of the registry cannot be read.
	Error  string               `json:"error,omitempty"`
	Pushes []*schemas.PushState `json:"pushes"`
}

// freshFor is how long what the bus was asked for is answered to others; pages ask again no sooner.
const freshFor = 2 * time.Second

// pushes answers with all targets and what their pushes do.
func (c *Console) pushes(w http.ResponseWriter, r *http.Request) {
	if err := c.busAway(); err != nil { // it would be waited for, with the page not knowing
		refuse(w, http.StatusServiceUnavailable, "push targets cannot be read: "+err.Error())
		return
	}
	b, err := c.asked.get(r.Context(), "pushes", freshFor, func(ctx context.Context) (any, error) {
		all, err := c.pushViews(ctx)
		return map[string]any{"targets": all, "now_ms": time.Now().UnixMilli()}, err
	})
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, "push targets cannot be read: "+plain(err))
		return
	}
	answer(w, json.RawMessage(b))
}

func (c *Console) pushViews(ctx context.Context) ([]pushView, error) {
	reg, err := registry.Open(ctx, c.s.JetStream, schemas.BucketPushes, schemas.ParsePushTarget)
	if err != nil {
		return nil, err
	}
	targets, err := reg.List(ctx)
	if err != nil {
		return nil, err
	}
	kv, err := c.s.JetStream.KeyValue(ctx, schemas.BucketPushStates)
	if err != nil {
		return nil, err
	}
	states, err := schemas.PushStates(ctx, kv)
	if err != nil {
		return nil, err
	}
	all := []pushView{}
	for _, e := range targets {
		v := pushView{Name: e.Key, Pushes: states[e.Key]}
		if e.Err != nil {
			v.Error = plain(e.Err)
		} else {
			v.App, v.Stream, v.Disabled, v.To = e.Value.App, e.Value.Stream, e.Value.Disabled, e.Value.ShownURL()
		}
		if v.Pushes == nil {
			v.Pushes = []*schemas.PushState{}
		}
		all = append(all, v)
	}
	return all, nil
}
