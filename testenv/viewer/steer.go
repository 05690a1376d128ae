package viewer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// request is a kind of request, as hls.js's load policies tell them apart.
type request int

const (
	forPlaylist request = iota
	forAudioPlaylist
	forMedia
)

// As hls.js 1.7.4's playlistLoadPolicy and fragLoadPolicy have them: what times
// out is asked for again at once so many times, what is answered 5xx after
// 1, 2, 4, then 8 s. A connection that breaks and 4xx are not tried again.
const (
	playlistTimeouts, playlistErrors = 2, 2
	mediaTimeouts, mediaErrors       = 4, 6
	firstRetry, longestRetry         = time.Second, 8 * time.Second
)

func playlistOf(t track, lead track) request {
	if t != lead {
		return forAudioPlaylist
	}
	return forPlaylist
}

// again says whether hls.js would ask again on the same pathway after the n-th
// failure in a row (from 0), and after which time. Where sound has a playlist of
// its own, one failure of that is enough.
func (k request) again(err error, n int) (time.Duration, bool) {
	var s *statusError
	timeouts, failures := playlistTimeouts, playlistErrors
	if k == forMedia {
		timeouts, failures = mediaTimeouts, mediaErrors
	}
	switch {
	case k == forAudioPlaylist:
		return 0, false
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return 0, n < timeouts
	case errors.As(err, &s) && s.status >= 500:
		return min(firstRetry<<min(n, 3), longestRetry), n < failures
	}
	return 0, false
}

func (v *view) succeeded(p *pathway) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if p == v.path {
		v.failures[forPlaylist], v.failures[forAudioPlaylist], v.lastOK = 0, 0, time.Now()
	}
}

// failed accounts for a failed request on p: the pathway is left for the next in
// the order of priority when hls.js would leave it. The error is final.
func (v *view) failed(ctx context.Context, p *pathway, kind request, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	v.log.Debug("viewer request", "pathway", p.id, "err", err)
	var s *statusError
	if errors.As(err, &s) && (s.status == http.StatusForbidden || s.status == http.StatusUnauthorized) {
		return fmt.Errorf("pathway %s: %w", p.id, err) // no other pathway would say anything else
	}
	now := time.Now()
	v.mu.Lock()
	silent := now.Sub(v.lastOK)
	moved := p != v.path
	var pause time.Duration
	if !moved {
		wait, same := kind.again(err, v.failures[kind])
		v.failures[kind]++
		pause = wait
		if !same {
			if v.c.CDN == "" {
				v.penalty[p.id] = now.Add(v.c.Penalty)
				moved = v.pick(now)
			}
			// Nowhere else to go: hls.js gives up here, and the page begins anew.
			pause = min(time.Duration(v.failures[kind])*250*time.Millisecond, 2*time.Second)
		}
	}
	v.mu.Unlock()
	if silent > v.c.GiveUp {
		return fmt.Errorf("nothing could be fetched for %v: pathway %s: %w", silent.Round(time.Second), p.id, err)
	}
	if moved {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pause):
		return nil
	}
}

// pick takes the best pathway that is not in the penalty box. v.mu is held.
func (v *view) pick(now time.Time) bool {
	for _, id := range v.priority {
		p := v.m.paths[id]
		if p == nil || now.Before(v.penalty[id]) {
			continue
		}
		if p == v.path {
			return false
		}
		v.path, v.failures = p, [3]int{}
		v.switches++
		return true
	}
	return false
}

// steer asks the steering server as hls.js does: the pathway unquoted, every
// TTL, and never again after 410; 429 ends steering as well.
func (v *view) steer(ctx context.Context) {
	uri := v.m.steeringURI
	ttl := 300 * time.Second
	for wait := time.Duration(0); ; wait = ttl {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		v.mu.Lock()
		q := "_HLS_pathway=" + v.path.id + "&_HLS_throughput=" + strconv.FormatInt(int64(max(v.throughput*1000, 500_000)), 10) +
			"&bl=" + strconv.FormatInt(v.p.ahead().Milliseconds(), 10)
		v.mu.Unlock()
		sep := "?"
		if strings.Contains(uri, "?") {
			sep = "&"
		}
		text, err := fetchText(ctx, &v.c, uri+sep+q)
		var s *statusError
		if errors.As(err, &s) && (s.status == http.StatusGone || s.status == http.StatusTooManyRequests) {
			return
		}
		var list struct {
			Version  int      `json:"VERSION"`
			TTL      int      `json:"TTL"`
			Reload   string   `json:"RELOAD-URI"`
			Priority []string `json:"PATHWAY-PRIORITY"`
			Clones   []clone  `json:"PATHWAY-CLONES"`
		}
		if err != nil || json.Unmarshal([]byte(text), &list) != nil || list.Version != 1 {
			if ctx.Err() == nil {
				v.log.Debug("viewer steering", "err", err)
			}
			continue
		}
		if list.TTL > 0 {
			ttl = time.Duration(list.TTL) * time.Second
		}
		if base, err := url.Parse(uri); err == nil && list.Reload != "" {
			uri = resolve(base, list.Reload)
		}
		v.mu.Lock()
		for i := range list.Clones {
			v.m.clone(&list.Clones[i])
		}
		v.priority = list.Priority
		v.pick(time.Now())
		v.mu.Unlock()
	}
}

// clone is a pathway that was not in the playlist.
type clone struct {
	Base string `json:"BASE-ID"`
	ID   string `json:"ID"`
	URI  struct {
		Host         string            `json:"HOST"`
		PerVariant   map[string]string `json:"PER-VARIANT-URIS"`
		PerRendition map[string]string `json:"PER-RENDITION-URIS"`
	} `json:"URI-REPLACEMENT"`
}

// clone adds a pathway as hls.js does: its own addresses where they are given,
// else the base's with another name of the host, whose port stays.
func (m *multivariant) clone(c *clone) {
	base := m.paths[c.Base]
	if base == nil || c.ID == "" || m.paths[c.ID] != nil {
		return
	}
	p := *base
	p.id = c.ID
	for _, x := range []struct {
		uri *string
		own map[string]string
		id  string
	}{{&p.video, c.URI.PerVariant, base.stableVideo}, {&p.audio, c.URI.PerRendition, base.stableAudio}} {
		if own := x.own[x.id]; own != "" {
			*x.uri = own
		} else if u, err := url.Parse(*x.uri); err == nil && c.URI.Host != "" && *x.uri != "" {
			u.Host = c.URI.Host + strings.TrimPrefix(u.Host, u.Hostname())
			*x.uri = u.String()
		}
	}
	if u, err := url.Parse(cmp.Or(p.video, p.audio)); err == nil {
		p.host = u.Host
	}
	m.paths[c.ID] = &p
	m.order = append(m.order, c.ID)
}
