package viewer

import (
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

func (v *view) succeeded(p *pathway) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if p == v.path {
		v.failures, v.lastOK = 0, time.Now()
	}
}

// failed accounts for a failed request on p: the pathway is left for the next
// in the order of priority once it failed twice in a row. The error is final.
func (v *view) failed(ctx context.Context, p *pathway, err error) error {
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
	if !moved {
		if v.failures++; v.failures >= attemptsPerPath && v.c.CDN == "" {
			v.penalty[p.id] = now.Add(v.c.Penalty)
			moved = v.pick(now)
		}
	}
	pause := min(time.Duration(max(v.failures, 1))*250*time.Millisecond, 2*time.Second)
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
		v.path, v.failures = p, 0
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
		q := "_HLS_pathway=" + v.path.id + "&_HLS_throughput=" + strconv.FormatInt(int64(max(v.throughput*1000, 500_000)), 10)
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
		v.priority = list.Priority
		v.pick(time.Now())
		v.mu.Unlock()
	}
}
