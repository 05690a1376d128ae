package chaos

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spillway-live/spillway/schemas/nap"
	"github.com/spillway-live/spillway/workers/hls/hlscheck"
)

// app is the application that everything is published in.
const app = "live"

// reader follows one playlist at one origin, by itself: it takes every part and every segment that is listed, and
// remembers what it got. When the origin is gone it comes back, and then takes what is listed again.
type reader struct {
	origin *process
	list   string // <stream>/<rendition>/<track>
	client *http.Client
	found  *findings
	// gaps: the playlist may be gone at times, as those of renditions, which are made by one process at a time.
	gaps bool

	check hlscheck.Checker

	mu       sync.Mutex
	got      []taken
	parts    map[string]digest
	segments map[string]digest
	compared int // parts and segments taken, more than once after the origin was away
}

// taken is one part in the order in which it was listed.
type taken struct {
	name string
	sum  digest
	at   time.Time
	// away: the reader could not read for a while before it, so that parts may lie between.
	away bool
	// old: it was listed when the reader came, or came back, and may have been for long.
	old bool
}

const requestTimeout = 10 * time.Second

func (r *reader) url(name string) string {
	return "http://" + r.origin.addr + "/" + app + "/" + r.list + "/" + name
}

// get fetches; gone says that the origin was not there all the time, or that its absence is no fault.
func (r *reader) get(ctx context.Context, name string) (body []byte, status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url(name), nil)
	if err != nil {
		return nil, 0, err
	}
	res, err := r.client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer res.Body.Close()
	body, err = io.ReadAll(io.LimitReader(res.Body, 64<<20))
	return body, res.StatusCode, err
}

// run reads until ctx ends.
func (r *reader) run(ctx context.Context) {
	query, away, known := "", true, false
	var again map[string]bool // what was taken since the origin was away
	for ctx.Err() == nil {
		began := time.Now()
		text, status, err := r.get(ctx, "playlist.m3u8"+query)
		if ctx.Err() != nil {
			return
		}
		if err != nil || status != http.StatusOK {
			alive := r.origin.runsSince(began)
			if known && alive && (err != nil || !r.gaps) {
				r.found.add("origin", "%s at %s: asked for %q, got %d, %v, %.200s", r.list, r.origin.name, query, status, err, text)
			}
			query, away = "", true
			_ = nap.For(ctx, 50*time.Millisecond)
			continue
		}
		for _, v := range r.check.Add(text) {
			r.found.add("playlist", "%s at %s: %s", r.list, r.origin.name, v)
		}
		p := r.check.Last()
		if p == nil || len(p.Segments) == 0 {
			query = ""
			_ = nap.For(ctx, 50*time.Millisecond)
			continue
		}
		if away {
			again = map[string]bool{}
		}
		known = true
		var whole bool
		if away, whole = r.take(ctx, p, away, again); !whole {
			query, away = "", true
			continue
		}
		last := &p.Segments[len(p.Segments)-1]
		query = fmt.Sprintf("?_HLS_msn=%d&_HLS_part=%d", last.MSN, len(last.Parts))
		if last.URI != "" {
			query = fmt.Sprintf("?_HLS_msn=%d&_HLS_part=0", last.MSN+1)
		}
		if p.EndList {
			query = ""
			_ = nap.For(ctx, 200*time.Millisecond)
		}
	}
}

// take fetches what is new in p. whole is false when the origin went away in between.
func (r *reader) take(ctx context.Context, p *hlscheck.Playlist, away bool, again map[string]bool) (stillAway, whole bool) {
	old := away
	for i := range p.Segments {
		s := &p.Segments[i]
		for _, part := range s.Parts {
			if part.Gap {
				r.found.add("missing", "%s at %s: part %s is a gap", r.list, r.origin.name, part.URI)
				continue
			}
			if again[part.URI] {
				continue
			}
			isNew, ok := r.one(ctx, part.URI, r.parts)
			if !ok {
				return away, false
			}
			again[part.URI] = true
			if isNew {
				r.mu.Lock()
				r.got = append(r.got, taken{part.URI, r.parts[part.URI], time.Now(), away, old})
				r.mu.Unlock()
				away = false
			}
		}
		if s.Gap {
			r.found.add("missing", "%s at %s: segment %s is a gap", r.list, r.origin.name, s.URI)
			continue
		}
		if s.URI == "" || again[s.URI] {
			continue
		}
		if _, ok := r.one(ctx, s.URI, r.segments); !ok {
			return away, false
		}
		again[s.URI] = true
	}
	return away, true
}

// one fetches a part or segment and holds it against what the name had before.
func (r *reader) one(ctx context.Context, name string, into map[string]digest) (isNew, ok bool) {
	began := time.Now()
	body, status, err := r.get(ctx, name)
	if ctx.Err() != nil {
		return false, false
	}
	if err != nil || status != http.StatusOK {
		if r.origin.runsSince(began) {
			r.found.add("origin", "%s/%s is listed at %s and cannot be fetched: %d, %v, %.200s", r.list, name, r.origin.name, status, err, body)
		}
		return false, false
	}
	sum := digest(sha256.Sum256(body))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.compared++
	before, had := into[name]
	if had && before != sum {
		r.found.add("different", "%s/%s has two contents at %s", r.list, name, r.origin.name)
	}
	into[name] = sum
	return !had, true
}

// findings are what is wrong, by kind; equal sentences once, and not more than maxFindings of a kind in words.
type findings struct {
	mu    sync.Mutex
	list  []string
	count map[string]int
	said  map[string]bool
}

const maxFindings = 30

// all is what was found.
func (f *findings) all() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.list)
}

func (f *findings) add(kind, format string, a ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count == nil {
		f.count, f.said = map[string]int{}, map[string]bool{}
	}
	text := kind + ": " + strings.TrimSpace(fmt.Sprintf(format, a...))
	if f.said[text] {
		return
	}
	f.count[kind]++
	f.said[text] = true
	if f.count[kind] <= maxFindings {
		f.list = append(f.list, time.Now().Format("15:04:05.000")+" "+text)
	}
}
