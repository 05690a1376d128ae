package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// maxObjectBytes bounds what is read from an origin for one object: the
	// longest segment (4 s) at 100 Mbit/s fits.
	maxObjectBytes = 64 << 20
	// Origins hold a blocking reload for 6 s at most, and hls.js waits 10 s for a
	// first byte: an origin that hangs must be left in between.
	blockingTimeout = 8 * time.Second
	fetchTimeout    = 4 * time.Second
	// A router may wait 8 s for a camera that it wakes.
	playTimeout = 10 * time.Second
	maxBackOff  = 10 * time.Second
)

// pool is a set of equal servers, used in turn; those that failed come last
// until their back-off has passed.
type pool struct {
	what               string
	client             *http.Client
	requests, failures *counter

	mu      sync.Mutex
	servers []*server
	next    int
}

type server struct {
	base    string
	fails   int
	retryAt time.Time
}

func newPool(what string, urls []string, requests, failures *counter) (*pool, error) {
	p := &pool{what: what, requests: requests, failures: failures, client: &http.Client{
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: time.Second, KeepAlive: 15 * time.Second}).DialContext,
			MaxIdleConnsPerHost: 256, IdleConnTimeout: 30 * time.Second, DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	return p, p.set(urls)
}

func (p *pool) set(urls []string) error {
	var list []*server
	for _, s := range urls {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("%s %q is not an http(s) URL", p.what, s)
		}
		list = append(list, &server{base: strings.TrimSuffix(s, "/")})
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.servers = list
	return nil
}

func (p *pool) close() { p.client.CloseIdleConnections() }

// order gives the servers to try: healthy ones in turn, then failed ones, the
// one that may be tried again soonest first.
func (p *pool) order(now time.Time) []*server {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.servers)
	var ok, bad []*server
	for i := range n {
		s := p.servers[(p.next+i)%n]
		if now.Before(s.retryAt) {
			bad = append(bad, s)
		} else {
			ok = append(ok, s)
		}
	}
	if n > 0 {
		p.next = (p.next + 1) % n
	}
	slices.SortStableFunc(bad, func(a, b *server) int { return a.retryAt.Compare(b.retryAt) })
	return append(ok, bad...)
}

func (p *pool) report(s *server, ok bool, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ok {
		s.fails, s.retryAt = 0, time.Time{}
		return
	}
	s.fails++
	s.retryAt = now.Add(min(time.Second<<min(s.fails-1, 5), maxBackOff))
}

// get asks the servers one after the other, twice round, until one answers
// with less than 500. The error says what each of them did.
func (p *pool) get(ctx context.Context, path, query string, header http.Header, timeout time.Duration) (*object, error) {
	var errs []error
	var last *object
	for round := range 2 {
		if round > 0 {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(150 * time.Millisecond):
			}
		}
		servers := p.order(time.Now())
		if len(servers) == 0 {
			return nil, fmt.Errorf("no %s is configured", p.what)
		}
		errs = nil
		for _, s := range servers {
			p.requests.inc()
			o, err := p.one(ctx, s.base, path, query, header, timeout)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			// 504 says that a camera did not answer: another server would wait as long for it.
			if err == nil && (o.status < 500 || o.status == http.StatusGatewayTimeout) {
				p.report(s, true, time.Now())
				return o, nil
			}
			p.failures.inc()
			// 503 is also how an origin ends a hold that took too long: it is alive.
			p.report(s, err == nil, time.Now())
			if err != nil {
				errs = append(errs, err)
			} else {
				last = o
			}
		}
		if last != nil {
			return last, nil
		}
	}
	return nil, fmt.Errorf("every %s failed: %w", p.what, errors.Join(errs...))
}

func (p *pool) one(ctx context.Context, base, path, query string, header http.Header, timeout time.Duration) (*object, error) {
	ctx, cancel := context.WithCancel(ctx)
	late := time.AfterFunc(timeout, cancel)
	growing := false
	defer func() {
		if !growing {
			late.Stop()
			cancel()
		}
	}()
	u := base + path
	if query != "" {
		u += "?" + query
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	res, err := p.client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the address, which may hold a token
		}
		return nil, fmt.Errorf("%s %s: %w", p.what, base, timedOut(err, late))
	}
	o := &object{status: res.StatusCode, header: http.Header{}, at: time.Now()}
	if growing = res.ContentLength < 0 && res.StatusCode == http.StatusOK && late.Reset(streamTimeout); growing {
		o.grow = newGrowing()
		go func() {
			defer cancel()
			defer late.Stop()
			defer res.Body.Close()
			o.grow.read(res.Body)
		}()
	} else {
		defer res.Body.Close()
		if o.body, err = readBody(res); err != nil {
			return nil, fmt.Errorf("read %s: %w", path, timedOut(err, late))
		}
	}
	o.fresh, o.age, o.shared = freshness(o.status, res.Header)
	for _, k := range kept {
		k = http.CanonicalHeaderKey(k)
		if v := res.Header[k]; v != nil {
			o.header[k] = v
		}
	}
	return o, nil
}

// timedOut tells a cancellation by the timer from one by the viewer.
func timedOut(err error, late *time.Timer) error {
	if errors.Is(err, context.Canceled) && !late.Stop() {
		return fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
	}
	return err
}

func readBody(res *http.Response) ([]byte, error) {
	if n := res.ContentLength; n >= 0 && n <= maxObjectBytes {
		b := make([]byte, n)
		_, err := io.ReadFull(res.Body, b)
		return b, err
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, maxObjectBytes+1))
	if err == nil && len(b) > maxObjectBytes {
		err = fmt.Errorf("more than %d bytes", maxObjectBytes)
	}
	return b, err
}

// flights are the fetches under way: identical requests share one.
type flights struct {
	origins *pool
	cache   *cache
	header  http.Header // sent to origins

	mu    sync.Mutex
	byKey map[string]*flight
}

type flight struct {
	done    chan struct{}
	cancel  context.CancelFunc
	waiters int
	obj     *object
	err     error
}

func newFlights(origins *pool, c *cache, edgeKey string) *flights {
	h := http.Header{}
	if edgeKey != "" {
		h.Set(HeaderEdgeKey, edgeKey)
	}
	return &flights{origins: origins, cache: c, header: h, byKey: map[string]*flight{}}
}

// source says where an answer came from.
type source int

const (
	fromOrigin source = iota
	fromCache
	fromOther // a fetch that another request had begun
)

func (f *flights) get(ctx context.Context, path, query string) (*object, source, error) {
	key := path
	if query != "" {
		key += "?" + query
	}
	timeout := fetchTimeout
	if strings.Contains(query, "_HLS_msn=") {
		timeout = blockingTimeout
	}
	src := fromOrigin
	f.mu.Lock()
	// Under the lock, so that no flight can land between a miss and a new flight.
	if o := f.cache.get(key, time.Now()); o != nil {
		f.mu.Unlock()
		return o, fromCache, nil
	}
	fl := f.byKey[key]
	if fl != nil {
		src = fromOther
	} else {
		fl = f.start(key, path, query, timeout)
	}
	fl.waiters++
	f.mu.Unlock()

	select {
	case <-fl.done:
	case <-ctx.Done():
		f.leave(key, fl)
		return nil, src, ctx.Err()
	}
	if src == fromOther && fl.err == nil && !fl.obj.shared {
		o, err := f.origins.get(ctx, path, query, f.header, timeout)
		return o, fromOrigin, err
	}
	return fl.obj, src, fl.err
}

// start begins a fetch that belongs to nobody: it goes on when the request that
// caused it ends, as long as another waits. f.mu is held.
func (f *flights) start(key, path, query string, timeout time.Duration) *flight {
	ctx, cancel := context.WithCancel(context.Background())
	fl := &flight{done: make(chan struct{}), cancel: cancel}
	f.byKey[key] = fl
	go func() {
		defer cancel()
		o, err := f.origins.get(ctx, path, query, f.header, timeout)
		if err == nil && o.grow != nil {
			f.mu.Lock()
			fl.obj = o
			f.mu.Unlock()
			close(fl.done)
			f.grown(key, fl, o)
			return
		}
		f.mu.Lock()
		fl.obj, fl.err = o, err
		if err == nil && o.fresh > 0 {
			f.cache.put(key, o)
		}
		if f.byKey[key] == fl {
			delete(f.byKey, key)
		}
		f.mu.Unlock()
		close(fl.done)
	}()
	return fl
}

// grown keeps a flight whose body is arriving where others find it, and the
// whole object once it is there.
func (f *flights) grown(key string, fl *flight, o *object) {
	<-o.grow.done
	f.mu.Lock()
	defer f.mu.Unlock()
	if b, _, _, err := o.grow.from(0); err == nil && o.fresh > 0 {
		whole := *o
		whole.grow, whole.body = nil, b
		f.cache.put(key, &whole)
	}
	if f.byKey[key] == fl {
		delete(f.byKey, key)
	}
}

func (f *flights) leave(key string, fl *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl.waiters--; fl.waiters == 0 {
		fl.cancel()
		if f.byKey[key] == fl {
			delete(f.byKey, key) // a new request must not join a fetch that is being given up
		}
	}
}
