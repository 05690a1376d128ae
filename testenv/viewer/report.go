package viewer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/spillway-live/spillway/ingest/cmcd"
	"github.com/spillway-live/spillway/schemas"
)

const (
	maxWaitingEvents = 1000
	maxBatchEvents   = 50
	postTimeout      = 3 * time.Second
	lastFlush        = 1500 * time.Millisecond
)

// reporter posts CMCD events, in order, and keeps them while the target is away.
type reporter struct {
	url, agent string
	client     *http.Client

	mu    sync.Mutex
	sn    int64
	lines [][]byte
	lost  int
	sent  int
	gone  bool // the target said 410
	wake  chan struct{}
}

func newReporter(url, agent string, client *http.Client) *reporter {
	return &reporter{url: url, agent: agent, client: client, wake: make(chan struct{}, 1)}
}

// add numbers a record and queues it.
func (r *reporter) add(rec *cmcd.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.url == "" || r.gone {
		return
	}
	rec.Seq = r.sn
	rec.Put(cmcd.SN)
	r.sn++
	if len(r.lines) == maxWaitingEvents {
		r.lines = r.lines[1:]
		r.lost++
	}
	r.lines = append(r.lines, rec.Append(nil))
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run posts until ctx ends, then what is left within lastFlush.
func (r *reporter) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastFlush)
			defer cancel()
			for r.post(last) == nil && r.waiting() > 0 {
			}
			return
		case <-r.wake:
		}
		for r.waiting() > 0 && ctx.Err() == nil {
			// Not cut off by the end of the view: the target might have it, and would get it twice.
			if r.post(context.WithoutCancel(ctx)) == nil {
				continue
			}
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}
}

func (r *reporter) waiting() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.lines)
}

// post sends the oldest events in one body.
func (r *reporter) post(ctx context.Context) error {
	r.mu.Lock()
	batch := r.lines[:min(len(r.lines), maxBatchEvents)]
	first := r.sn - int64(len(r.lines))
	r.mu.Unlock()
	if len(batch) == 0 {
		return nil
	}
	status, err := post(ctx, r.client, r.agent, r.url, "application/cmcd", bytes.Join(batch, []byte{'\n'}))
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case status == http.StatusGone:
		r.gone, r.lost, r.lines = true, r.lost+len(r.lines), nil
	case status >= 500 || status == http.StatusTooManyRequests:
		return fmt.Errorf("telemetry target answers %d", status)
	case status >= 400:
		r.lost += len(batch)
		r.forget(first + int64(len(batch)))
	default:
		r.sent += len(batch)
		r.forget(first + int64(len(batch)))
	}
	return nil
}

// forget drops lines numbered below sn; some may have been pushed out meanwhile.
func (r *reporter) forget(sn int64) {
	n := sn - (r.sn - int64(len(r.lines)))
	r.lines = r.lines[min(max(n, 0), int64(len(r.lines))):]
}

func post(ctx context.Context, client *http.Client, agent, url, contentType string, body []byte) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, postTimeout)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	q.Header.Set("Content-Type", contentType)
	q.Header.Set("User-Agent", agent)
	res, err := client.Do(q)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10)) // so that the connection can be used again
	return res.StatusCode, nil
}

// ask gets a dispatch answer.
func ask(ctx context.Context, c *Config) (schemas.Dispatch, error) {
	u, err := url.Parse(c.Dispatch)
	if err != nil {
		return schemas.Dispatch{}, err
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/dispatch"
	}
	q := u.Query()
	for k, v := range map[string]string{"app": c.App, "stream": c.Stream, "viewer": c.Viewer, "pin": c.CDN, "key": c.PlayKey} {
		if v != "" {
			q.Set(k, v)
		}
	}
	u.RawQuery = q.Encode()
	var d schemas.Dispatch
	text, err := fetchText(ctx, c, u.String())
	if err != nil {
		return d, err
	}
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		return d, fmt.Errorf("answer is not JSON: %w", err)
	}
	if d.URL == "" || d.SessionID == "" {
		return d, errors.New("answer has no URL or session")
	}
	return d, nil
}

// fetchText gets a small text; an answer other than 200 is an error that repeats its beginning.
func fetchText(ctx context.Context, c *Config, u string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return "", err
	}
	c.headers(q.Header)
	res, err := c.HTTPClient.Do(q)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return "", err
	}
	if res.StatusCode != http.StatusOK {
		return "", &statusError{res.StatusCode, strings.TrimSpace(string(b[:min(len(b), 200)]))}
	}
	return string(b), nil
}

// statusError is an HTTP status other than 200.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return fmt.Sprintf("HTTP status %d: %s", e.status, e.text) }

// syncClock measures the local clock's offset to the server's: of three samples the one with the least bound.
func (v *view) syncClock(ctx context.Context) {
	if v.d.Clock == "" {
		return
	}
	for range 3 {
		t1 := time.Now()
		text, err := fetchText(ctx, &v.c, v.d.Clock)
		t4 := time.Now()
		var a schemas.ClockAnswer
		if err != nil || json.Unmarshal([]byte(text), &a) != nil || a.SentMs == 0 {
			return // without a clock the local one counts, and no offset is reported
		}
		ms := func(t time.Time) float64 { return float64(t.UnixMicro()) / 1000 }
		bound := ((ms(t4) - ms(t1)) - (a.SentMs - a.ReceivedMs)) / 2
		if v.clockBoundMs == 0 || bound < v.clockBoundMs {
			v.clock = time.Duration(((a.ReceivedMs - ms(t1)) + (a.SentMs - ms(t4))) / 2 * float64(time.Millisecond))
			v.clockBoundMs = max(bound, 0.001)
		}
	}
}

// sendBeacon posts what the view measured itself.
func (v *view) sendBeacon(ctx context.Context, r *Report, now time.Time) {
	if v.d.Beacon == "" {
		return
	}
	sn, ts, stall, played, stalls := int64(0), now.UnixMilli(), r.Stalled.Milliseconds(), r.Played.Milliseconds(), int32(r.Stalls)
	b := schemas.Beacon{
		Kind: "end", SessionID: v.d.SessionID, Seq: &sn, TsUnixMs: &ts, App: v.d.App, Stream: v.d.Stream,
		Client: Client, Version: "1", Device: v.c.Device, OS: v.c.OS, Network: v.c.Network,
		PageStallMs: &stall, PageStallCount: &stalls, PagePlayedMs: &played,
	}
	if r.Started {
		s := int32(r.Startup.Milliseconds())
		b.PageStartupMs = &s
	}
	if v.clockBoundMs > 0 {
		off := float64(v.clock.Microseconds()) / 1000
		b.ClockOffsetMs, b.ClockBoundMs = &off, &v.clockBoundMs
	}
	body, err := json.Marshal(&b)
	if err != nil {
		v.log.Error("viewer beacon", "err", err)
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastFlush)
	defer cancel()
	for {
		status, err := post(ctx, v.c.HTTPClient, v.c.agent(), v.d.Beacon, "application/json", body)
		if err == nil && status < 500 || ctx.Err() != nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(300 * time.Millisecond):
		}
	}
}
