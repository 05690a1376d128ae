package router

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

const (
	// maxHot bounds a hot list.
	maxHot = 5000
	// hotFreshFor is how long a stream counts as live without a word of ingest.
	hotFreshFor = 15 * time.Second
	// hotKept is how long the hot lists of all applications are kept: pages ask for them
	// often, and each look goes over all live streams. It is little beside what is promised
	// of streams that are to leave the list (docs/benchmarks.md).
	hotKept = 250 * time.Millisecond
)

// hot answers which of an application's streams are live and worth showing: not
// those in the background, black, frozen or hidden (bucket hot), nor private
// ones. all=1 lists what has left, too, with the reasons. Answers are up to hotKept old.
func (r *Router) hot(w http.ResponseWriter, _ *http.Request, v query) error {
	app := v.Get("app")
	if err := schemas.CheckName("application name", app); err != nil {
		return refuse(http.StatusBadRequest, "%v: ask for /v1/hot?app=<application>", err)
	}
	b, err := r.hots.answer(app, v.Get("all") == "1", r.now(), r.hotLists)
	if err != nil {
		return err
	}
	send(w, typeJSON, b)
	return nil
}

// hotLists makes the lists of all applications with live streams.
func (r *Router) hotLists(now time.Time) map[string]*hotList {
	lists := map[string]*hotList{}
	past := func(_ string, s *schemas.StreamState) bool {
		return !s.Live || now.Sub(time.UnixMicro(s.UpdatedUnixUs)) > hotFreshFor
	}
	for key, s := range r.t.recent.All(past) {
		if r.t.access.Of(s.Key(), now).Private { // which changes without the stream's state
			continue
		}
		l := lists[s.App]
		if l == nil {
			l = newHotList(s.App)
			lists[s.App] = l
		}
		one := schemas.HotStream{Stream: s.Stream, LiveUnixMs: s.Epoch.OpenedUnixUs / 1000}
		if h, ok := r.t.hot.Get(key); ok && h.Off {
			one.Reasons, one.LeftUnixMs = h.Reasons, h.SinceUs/1000
			l.Left = append(l.Left, one)
			continue
		}
		l.Streams = append(l.Streams, one)
	}
	return lists
}

// hots keeps the lists of all applications for a moment. Its size is that of the
// registry of streams, whatever names are asked for.
type hots struct {
	mu    sync.Mutex // who asks while the lists are made waits for them
	at    time.Time
	lists map[string]*hotList
}

// answer gives an application's list as JSON, as lists made it at most hotKept ago.
func (h *hots) answer(app string, all bool, now time.Time, lists func(now time.Time) map[string]*hotList) ([]byte, error) {
	h.mu.Lock()
	if age := now.Sub(h.at); h.lists == nil || age >= hotKept || age < -hotKept {
		h.lists, h.at = lists(now), now
	}
	l := h.lists[app]
	h.mu.Unlock()
	if l == nil {
		l = newHotList(app)
	}
	return l.json(all)
}

// hotList is a list that is written once it is asked for.
type hotList struct {
	schemas.HotList
	once [2]sync.Once
	text [2][]byte // without and with what has left
	err  [2]error
}

func newHotList(app string) *hotList {
	return &hotList{HotList: schemas.HotList{App: app, Streams: []schemas.HotStream{}}}
}

func (l *hotList) json(all bool) ([]byte, error) {
	i := 0
	if all {
		i = 1
	}
	l.once[i].Do(func() {
		list := schemas.HotList{App: l.App, Streams: firstHot(l.Streams)}
		if all {
			list.Left = firstHot(l.Left)
		}
		l.text[i], l.err[i] = json.Marshal(&list)
		l.text[i] = append(l.text[i], '\n')
	})
	return l.text[i], l.err[i]
}

// firstHot gives the first maxHot by name, in a list of its own.
func firstHot(all []schemas.HotStream) []schemas.HotStream {
	all = append(make([]schemas.HotStream, 0, len(all)), all...)
	slices.SortFunc(all, func(a, b schemas.HotStream) int { return cmp.Compare(a.Stream, b.Stream) })
	return all[:min(len(all), maxHot)]
}
