package console

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// Bounds of the answers that are kept for who asks the same again; together they
// have maxCacheBytes at most.
const (
	maxAsked       = 300
	maxAnswerBytes = 2 << 20 // a larger one is asked anew
)

// asked keeps answers for a few seconds: however many browsers look at a page,
// ClickHouse is asked once.
type asked struct {
	one singleflight.Group
	sem chan struct{} // bounds what is asked at once

	mu    sync.Mutex
	all   map[string]kept
	bytes int // of all bodies
}

type kept struct {
	body []byte
	till time.Time
}

func newAsked() *asked { return &asked{sem: make(chan struct{}, 3), all: map[string]kept{}} }

// get gives the JSON of what f makes, kept under key for a while. An error is not kept.
func (a *asked) get(ctx context.Context, key string, keep time.Duration, f func(ctx context.Context) (any, error)) ([]byte, error) {
	a.mu.Lock()
	k, ok := a.all[key]
	a.mu.Unlock()
	if ok && time.Now().Before(k.till) {
		return k.body, nil
	}
	c := a.one.DoChan(key, func() (any, error) {
		// Others may wait for it: who asked first and left does not end it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*queryTimeout)
		defer cancel()
		select {
		case a.sem <- struct{}{}:
			defer func() { <-a.sem }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		v, err := f(ctx)
		if err != nil {
			return nil, err
		}
		body, err := json.Marshal(v)
		if err == nil {
			a.keep(key, kept{body, time.Now().Add(keep)})
		}
		return body, err
	})
	select {
	case r := <-c:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.([]byte), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// keep takes an answer, in the place of those whose time is over and then of any.
func (a *asked) keep(key string, k kept) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.drop(key)
	now := time.Now()
	for old, x := range a.all {
		if now.After(x.till) {
			a.drop(old)
		}
	}
	if len(k.body) > maxAnswerBytes {
		return
	}
	for old := range a.all {
		if len(a.all) < maxAsked && a.bytes+len(k.body) <= maxCacheBytes {
			break
		}
		a.drop(old)
	}
	a.all[key] = k
	a.bytes += len(k.body)
}

func (a *asked) drop(key string) {
	a.bytes -= len(a.all[key].body)
	delete(a.all, key)
}

// reply answers with what f makes; ClickHouse's errors are 503 in its words.
func (c *Console) reply(w http.ResponseWriter, r *http.Request, key string, keep time.Duration, f func(ctx context.Context) (any, error)) {
	b, err := c.asked.get(r.Context(), key, keep, f)
	switch {
	case err != nil:
		refuse(w, http.StatusServiceUnavailable, "ClickHouse does not answer: "+plain(err))
	case string(b) == "null":
		refuse(w, http.StatusNotFound, "nothing is stored of it: what is younger than a few seconds is not loaded yet, and sessions are kept for 90 days")
	default:
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.Write(b) // others are given the same bytes
	}
}
