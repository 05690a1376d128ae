package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// requestTimeout is above what a server may hold a blocking reload.
	requestTimeout   = 20 * time.Second
	maxPlaylistBytes = 4 << 20
	// againAfter is the pause after a failed request, as long as a part.
	againAfter = 200 * time.Millisecond
)

// newClient makes a client of its own cookies, which some servers count viewers by.
func newClient() *http.Client { return newClientOn(newTransport()) }

func newTransport() *http.Transport {
	return &http.Transport{MaxIdleConnsPerHost: 1024, IdleConnTimeout: 30 * time.Second, DisableCompression: true}
}

func newClientOn(t *http.Transport) *http.Client {
	jar, _ := cookiejar.New(nil) // never an error without a list of public suffixes
	return &http.Client{Transport: t, Jar: jar, Timeout: requestTimeout}
}

// crowd are all readers of a run. Each follows video and audio of one stream as a low-latency player at the live
// edge does: blocking reloads with delta updates, and every part downloaded as soon as it is listed.
type crowd struct {
	transport *http.Transport
	logger    *slog.Logger
	cancel    context.CancelFunc
	wg        sync.WaitGroup
	waiting   atomic.Int64 // tracks that have no part yet
	counting  atomic.Bool

	mu           sync.Mutex
	video, audio []float64
	total        Reading
	last         error
}

func startCrowd(ctx context.Context, urls []string, logger *slog.Logger) *crowd {
	c := &crowd{transport: newTransport(), logger: logger}
	ctx, c.cancel = context.WithCancel(ctx)
	for _, u := range urls {
		c.waiting.Add(1) // until the tracks are known
		c.wg.Go(func() { c.follow(ctx, u) })
	}
	return c
}

// reading tells whether every reader has media.
func (c *crowd) reading() bool { return c.waiting.Load() == 0 }

func (c *crowd) count(on bool) { c.counting.Store(on) }

// stop ends all readers. Stopping twice is harmless.
func (c *crowd) stop() {
	c.cancel()
	c.wg.Wait()
	c.transport.CloseIdleConnections()
}

func (c *crowd) lastError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// result is what was counted; only after stop.
func (c *crowd) result() *Reading {
	r := c.total
	r.VideoLatency, r.AudioLatency = distribution(c.video), distribution(c.audio)
	return &r
}

func (c *crowd) failed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = err
	if c.counting.Load() {
		c.total.Errors++
	}
}

// follow is one reader.
func (c *crowd) follow(ctx context.Context, multivariant string) {
	client := newClientOn(c.transport)
	var r renditions
	for {
		text, base, err := getText(ctx, client, multivariant)
		if err == nil {
			var ok bool
			if r, ok, err = parseMultivariant(text, base); err == nil && !ok {
				err = errors.New("no multivariant playlist")
			}
		}
		if err == nil {
			break
		}
		if !c.again(ctx, err) {
			return
		}
	}
	if r.audio != "" {
		c.waiting.Add(1)
		c.wg.Go(func() { c.track(ctx, client, r.audio, &c.audio) })
	}
	c.track(ctx, client, r.video, &c.video)
}

// again notes an error and waits before the next attempt; false when it is over.
func (c *crowd) again(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	c.failed(err)
	t := time.NewTimer(againAfter)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// track follows one media playlist until ctx ends.
func (c *crowd) track(ctx context.Context, client *http.Client, playlist string, latency *[]float64) {
	var last *mediaPlaylist
	starts := map[int64]time.Time{}
	initURI, started := "", false
	var seen listedPart
	for ctx.Err() == nil {
		m, err := reload(ctx, client, playlist, last, starts)
		if err != nil {
			last = nil
			if !c.again(ctx, err) {
				return
			}
			continue
		}
		c.add(func(r *Reading) { r.Requests++ })
		last = m
		if m.initURI != "" && m.initURI != initURI {
			if _, err := discard(ctx, client, m.initURI); err != nil {
				if !c.again(ctx, err) {
					return
				}
				continue
			}
			initURI = m.initURI
		}
		if len(m.parts) == 0 {
			continue
		}
		if !started {
			seen = m.parts[len(m.parts)-1] // begin at the edge, with the part that comes next
			started = true
			c.waiting.Add(-1)
			continue
		}
		for i, p := range m.parts {
			if p.msn < seen.msn || p.msn == seen.msn && p.part <= seen.part {
				continue
			}
			n, err := discard(ctx, client, p.uri)
			now := time.Now()
			if err != nil {
				if !c.again(ctx, fmt.Errorf("part %d.%d: %w", p.msn, p.part, err)) {
					return
				}
				break // it is listed again with the next reload
			}
			missed := i == 0 && (p.msn > seen.msn+1 || p.part > seen.part+1 && p.msn == seen.msn)
			seen = p
			c.add(func(r *Reading) {
				r.Parts, r.Bytes, r.Requests = r.Parts+1, r.Bytes+n, r.Requests+1
				if missed {
					r.Missed++
				}
				if !p.end.IsZero() {
					*latency = append(*latency, float64(now.Sub(p.end).Microseconds())/1000)
				}
			})
		}
	}
}

func (c *crowd) add(f func(r *Reading)) {
	if !c.counting.Load() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.total)
}

// reload gets the version of a media playlist that follows last, held by the server until it is there; the
// present one if last is nil.
func reload(ctx context.Context, client *http.Client, playlist string, last *mediaPlaylist, starts map[int64]time.Time) (*mediaPlaylist, error) {
	if last != nil {
		if !last.canBlock {
			return nil, errors.New("the server does not offer blocking reloads")
		}
		separator := "?"
		if strings.Contains(playlist, "?") {
			separator = "&"
		}
		playlist += separator + "_HLS_msn=" + strconv.FormatInt(last.nextMSN, 10) + "&_HLS_part=" + strconv.Itoa(last.nextPart)
		if last.canSkip {
			playlist += "&_HLS_skip=YES"
		}
	}
	text, base, err := getText(ctx, client, playlist)
	if err != nil {
		return nil, err
	}
	return parseMedia(text, base, starts)
}

// getText fetches a playlist; base is where it came from in the end.
func getText(ctx context.Context, client *http.Client, address string) (text string, base *url.URL, err error) {
	res, err := get(ctx, client, address)
	if err != nil {
		return "", nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxPlaylistBytes))
	if err != nil {
		return "", nil, fmt.Errorf("read %s: %w", address, err)
	}
	return string(b), res.Request.URL, nil
}

// discard downloads and throws away.
func discard(ctx context.Context, client *http.Client, address string) (int64, error) {
	res, err := get(ctx, client, address)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	n, err := io.Copy(io.Discard, res.Body)
	if err != nil {
		return n, fmt.Errorf("read %s: %w", address, err)
	}
	return n, nil
}

func get(ctx context.Context, client *http.Client, address string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		res.Body.Close()
		return nil, fmt.Errorf("get %s: %s", address, res.Status)
	}
	return res, nil
}

// probe waits until a stream's playlist has media that can be fetched.
func probe(ctx context.Context, client *http.Client, address string) error {
	for {
		err := probeOnce(ctx, client, address)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pollEvery):
		}
	}
}

func probeOnce(ctx context.Context, client *http.Client, address string) error {
	text, base, err := getText(ctx, client, address)
	if err != nil {
		return err
	}
	r, ok, err := parseMultivariant(text, base)
	if err != nil {
		return err
	}
	if !ok { // a media playlist itself
		_, err := parseMedia(text, base, map[int64]time.Time{})
		return err
	}
	for _, u := range []string{r.video, r.audio} {
		if u == "" {
			continue
		}
		m, err := reload(ctx, client, u, nil, map[int64]time.Time{})
		if err != nil {
			return err
		}
		if len(m.parts) == 0 {
			return fmt.Errorf("%s lists no parts", u)
		}
		if _, err := discard(ctx, client, m.parts[len(m.parts)-1].uri); err != nil {
			return err
		}
	}
	return nil
}
