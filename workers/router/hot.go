package router

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

// maxHot bounds a hot list.
const maxHot = 5000

// hot answers which of an application's streams are live and worth showing: not
// those in the background, black, frozen or hidden (bucket hot), nor private
// ones. all=1 lists what has left, too, with the reasons.
func (r *Router) hot(w http.ResponseWriter, _ *http.Request, v url.Values) error {
	app, now := v.Get("app"), time.Now()
	if err := schemas.CheckName("application name", app); err != nil {
		return refuse(http.StatusBadRequest, "%v: ask for /v1/hot?app=<application>", err)
	}
	list := schemas.HotList{App: app, Streams: []schemas.HotStream{}}
	for key, s := range r.t.streams.All() {
		if s.App != app || !s.Live || now.Sub(time.UnixMicro(s.UpdatedUnixUs)) > hotFreshFor || r.t.access.Of(s.Key(), now).Private {
			continue
		}
		one := schemas.HotStream{Stream: s.Stream, LiveUnixMs: s.Epoch.OpenedUnixUs / 1000}
		if h, ok := r.t.hot.Get(key); ok && h.Off {
			one.Reasons, one.LeftUnixMs = h.Reasons, h.SinceUs/1000
			list.Left = append(list.Left, one)
			continue
		}
		list.Streams = append(list.Streams, one)
	}
	byName := func(a, b schemas.HotStream) int { return cmp.Compare(a.Stream, b.Stream) }
	slices.SortFunc(list.Streams, byName)
	slices.SortFunc(list.Left, byName)
	list.Streams = list.Streams[:min(len(list.Streams), maxHot)]
	if v.Get("all") != "1" {
		list.Left = nil
	}
	list.Left = list.Left[:min(len(list.Left), maxHot)]
	b, err := json.Marshal(&list)
	if err != nil {
		return err
	}
	writeJSON(w, append(b, '\n'))
	return nil
}

// hotFreshFor is how long a stream counts as live without a word of ingest.
const hotFreshFor = 15 * time.Second
