package edge

import (
	"container/list"
	"net/http"
	"net/url"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

// object is an answer of an origin, held in memory whole. It is never changed
// once made, so any number of requests may share it.
type object struct {
	status int
	header http.Header // those of kept
	body   []byte
	at     time.Time     // when it arrived
	age    time.Duration // how old it was then
	fresh  time.Duration // how long it may be kept from at; 0: not at all
	shared bool          // requests that waited together may share it
	grow   *growing      // instead of body, while it is still arriving
}

func (o *object) size() int64 { return int64(len(o.body)) + 1024 }

// kept are the response headers of an origin that viewers get.
var kept = []string{
	"Content-Type", "Cache-Control", "ETag", "Last-Modified", "Date", "Retry-After", "CMSD-Static", "CMSD-Dynamic",
	schemas.HeaderPrivate,
}

// cache keeps objects up to a number of bytes; the least recently used go first.
type cache struct {
	mu       sync.Mutex
	maxBytes int64
	bytes    int64
	order    *list.List // of *cached, most recently used in front
	byKey    map[string]*list.Element
}

type cached struct {
	key string
	obj *object
}

func newCache(maxBytes int64) *cache {
	return &cache{maxBytes: maxBytes, order: list.New(), byKey: map[string]*list.Element{}}
}

func (c *cache) get(key string, now time.Time) *object {
	c.mu.Lock()
	defer c.mu.Unlock()
	el := c.byKey[key]
	if el == nil {
		return nil
	}
	o := el.Value.(*cached).obj
	if now.Sub(o.at) >= o.fresh {
		c.remove(el)
		return nil
	}
	c.order.MoveToFront(el)
	return o
}

func (c *cache) put(key string, o *object) {
	if o.size() > c.maxBytes/4 {
		return // one object must not push out everything else
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if el := c.byKey[key]; el != nil {
		c.remove(el)
	}
	c.byKey[key] = c.order.PushFront(&cached{key, o})
	c.bytes += o.size()
	for c.bytes > c.maxBytes {
		c.remove(c.order.Back())
	}
}

func (c *cache) remove(el *list.Element) {
	e := c.order.Remove(el).(*cached)
	delete(c.byKey, e.key)
	c.bytes -= e.obj.size()
}

// ignored are query parameters that differ between viewers and do not change
// the answer: they stay out of the cache key and are not sent to origins.
func ignored(name string) bool {
	switch name {
	case "CMCD", "_HLS_throughput", "_HLS_pathway", "_DASH_throughput", "_DASH_pathway", "t", "s":
		return true
	}
	return false
}

// cacheQuery is a query without what is ignored, sorted, so that one question
// has one spelling. A query that cannot be parsed counts as none.
func cacheQuery(raw string) string {
	if raw == "" {
		return ""
	}
	q, err := url.ParseQuery(raw)
	if err != nil {
		return ""
	}
	names := make([]string, 0, len(q))
	for n := range q {
		if !ignored(n) {
			names = append(names, n)
		}
	}
	sort.Strings(names)
	var b strings.Builder
	for _, n := range names {
		for _, v := range q[n] {
			if b.Len() > 0 {
				b.WriteByte('&')
			}
			b.WriteString(url.QueryEscape(n))
			b.WriteByte('=')
			b.WriteString(url.QueryEscape(v))
		}
	}
	return b.String()
}

// microFresh is how long an answer with max-age=0 is given to others who ask
// the same: a live playlist without directives changes with each part of 200 ms,
// and without this every viewer who joins costs the origin requests. Seconds, the
// unit of Cache-Control, are too coarse for it; other CDNs call it micro-caching.
const microFresh = 200 * time.Millisecond

// freshness reads Cache-Control and Age of an answer (RFC 9111). Only what
// allows it explicitly is kept; failures of the origin never are.
func freshness(status int, h http.Header) (fresh, age time.Duration, shared bool) {
	maxAge, sMaxAge := int64(-1), int64(-1)
	shared, keep := true, status < 500
	for _, d := range strings.Split(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, v, _ := strings.Cut(strings.TrimSpace(d), "=")
		n, err := strconv.ParseInt(strings.Trim(v, `"`), 10, 32)
		switch strings.ToLower(name) {
		case "no-store", "private":
			shared, keep = false, false
		case "no-cache":
			keep = false
		case "max-age":
			if err == nil {
				maxAge = n
			}
		case "s-maxage":
			if err == nil {
				sMaxAge = n
			}
		}
	}
	if sMaxAge >= 0 {
		maxAge = sMaxAge
	}
	if n, err := strconv.ParseInt(h.Get("Age"), 10, 32); err == nil && n > 0 {
		age = time.Duration(n) * time.Second
	}
	if keep && maxAge == 0 && status == http.StatusOK && age == 0 {
		return microFresh, age, shared
	}
	if !keep || maxAge <= 0 {
		return 0, age, shared
	}
	return max(time.Duration(maxAge)*time.Second-age, 0), age, shared
}
