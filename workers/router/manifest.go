package router

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/dash"
)

// mpds keeps the origins' MPDs for as long as an edge would: all sessions of a
// stream share one fetch.
type mpds struct {
	urls   []string
	key    string // what origins of private streams want to see
	client http.Client

	mu    sync.Mutex
	byKey map[schemas.StreamKey]*mpdFetch
}

type mpdFetch struct {
	begun  time.Time
	done   chan struct{}
	body   []byte
	status int
	err    error
}

const (
	mpdFresh    = time.Second
	mpdPatience = 7 * time.Second // an origin waits 5 s for a stream's first segment
	maxMPDBytes = 4 << 20
	maxMPDs     = 4096
)

func newMPDs(urls []string, key string) *mpds {
	m := &mpds{key: key, byKey: map[schemas.StreamKey]*mpdFetch{}, client: http.Client{Timeout: mpdPatience}}
	for _, u := range urls {
		if u != "" {
			m.urls = append(m.urls, strings.TrimSuffix(u, "/"))
		}
	}
	return m
}

// get gives a stream's MPD without session.
func (m *mpds) get(ctx context.Context, k schemas.StreamKey) ([]byte, error) {
	if len(m.urls) == 0 {
		return nil, refuse(http.StatusNotFound, "this router has no DASH: start it with the origins' addresses")
	}
	now := time.Now()
	m.mu.Lock()
	f := m.byKey[k]
	if f == nil || now.Sub(f.begun) > mpdFresh && f.over() {
		if len(m.byKey) >= maxMPDs {
			for old, x := range m.byKey {
				if now.Sub(x.begun) > mpdFresh && x.over() {
					delete(m.byKey, old)
				}
			}
		}
		f = &mpdFetch{begun: now, done: make(chan struct{})}
		m.byKey[k] = f
		go f.run(m, k)
	}
	m.mu.Unlock()
	select {
	case <-f.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	switch {
	case f.err != nil:
		return nil, refuse(http.StatusServiceUnavailable, "no origin answers: ask again")
	case f.status != http.StatusOK:
		return nil, refuse(f.status, "%s", strings.TrimSpace(string(f.body)))
	}
	return f.body, nil
}

func (f *mpdFetch) over() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// run asks one origin after the other.
func (f *mpdFetch) run(m *mpds, k schemas.StreamKey) {
	defer close(f.done)
	first := int(f.begun.UnixNano() / int64(time.Millisecond) % int64(len(m.urls)))
	for i := range m.urls {
		if f.err = f.ask(m, m.urls[(first+i)%len(m.urls)]+"/"+k.App+"/"+k.Stream+"/"+dash.ManifestName); f.err == nil {
			return
		}
	}
}

func (f *mpdFetch) ask(m *mpds, u string) error {
	req, err := http.NewRequest(http.MethodGet, u, nil)
	if err != nil {
		return err
	}
	req.Header.Set(headerEdgeKey, m.key)
	res, err := m.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxMPDBytes))
	if err != nil {
		return err
	}
	if res.StatusCode >= 500 {
		return fmt.Errorf("%s: %s", u, res.Status)
	}
	f.body, f.status = b, res.StatusCode
	return nil
}

// manifest writes a session's MPD. Players fetch it again every two seconds:
// a decision that changes nothing is not stored each time.
func (r *Router) manifest(w http.ResponseWriter, q *http.Request, v query, edge string) error {
	o, state, err := r.enter(q, v, edge, true)
	if err != nil {
		return err
	}
	k := key(q)
	b, err := r.mpds.get(q.Context(), k)
	if err != nil {
		return err
	}
	path := "/" + k.App + "/" + k.Stream + "/"
	real := r.t.access.Of(schemas.StreamKey{App: o.claims.App, Stream: o.claims.Stream}, r.now()).Key
	s := dash.Session{MaxBps: o.capBps, ClearKeyURL: r.licenceURL(real, o.token), Location: r.s.PublicURL + "/v1/play" + path + dash.ManifestName + "?s=" + o.token}
	steer := v.Get("steer")
	if steer != "" {
		s.Location += "&steer=" + url.QueryEscape(steer)
	}
	for _, c := range o.answer.Candidates[:o.answer.Eligible] {
		if cdn := r.t.cdn(c.CDN); cdn != nil {
			if base, ok := r.sessionBase(cdn, o); ok {
				s.Bases = append(s.Bases, dash.Base{ID: c.CDN, URL: base + path})
			}
		}
	}
	if r.steers(q, v, state) {
		ids := make([]string, len(s.Bases))
		for i := range s.Bases {
			ids[i] = s.Bases[i].ID
		}
		s.SteeringURI = r.steeringURI(o, formatDASH, ids, r.now())
	}
	clock := ""
	if r.s.Clock != "/v1/clock" { // without a collector there is none
		clock = r.s.Clock + "?form=xsdate"
	}
	if b, err = dash.WithSession(b, &s, clock); err != nil {
		return err
	}
	w.Header().Set("Content-Type", dash.TypeMPD)
	_, _ = w.Write(b) // the asker may be gone
	return nil
}
