package relay_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

// get gives the body of a 200, else "".
func get(t *testing.T, url string) string {
	t.Helper()
	b, err := fetch(t.Context(), url)
	if err != nil {
		return ""
	}
	return b
}

func fetch(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	return string(b), err
}

// follower reads a low-latency playlist by blocking reloads, and each part as it is listed.
type follower struct {
	base string

	mu    sync.Mutex
	order []string
	parts map[string]string
	bad   []string
}

var partLine = regexp.MustCompile(`#EXT-X-PART:.*URI="(\d+)-(\d+)\.(\d+)\.m4s"`)

// follow begins to read; it ends with the test.
func follow(t *testing.T, base string) *follower {
	f := &follower{base: base, parts: map[string]string{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); f.run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return f
}

func (f *follower) run(ctx context.Context) {
	msn, part := -1, -1
	for ctx.Err() == nil {
		url := f.base + "playlist.m3u8"
		if msn >= 0 {
			url += fmt.Sprintf("?_HLS_msn=%d&_HLS_part=%d", msn, part+1)
		}
		body, err := fetch(ctx, url)
		if err != nil {
			continue
		}
		for _, line := range strings.Split(body, "\n") {
			m := partLine.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			n, _ := strconv.Atoi(m[2])
			k, _ := strconv.Atoi(m[3])
			if n < msn || n == msn && k <= part {
				continue
			}
			f.take(ctx, fmt.Sprintf("%s-%s.%s.m4s", m[1], m[2], m[3]), line, n, k, msn, part)
			msn, part = n, k
		}
	}
}

func (f *follower) take(ctx context.Context, name, line string, n, k, msn, part int) {
	body, err := fetch(ctx, f.base+name)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		f.bad = append(f.bad, err.Error())
	case strings.Contains(line, "GAP=YES"):
		f.bad = append(f.bad, line)
	case msn >= 0 && !(n == msn && k == part+1) && !(n == msn+1 && k == 0):
		f.bad = append(f.bad, fmt.Sprintf("part %d of segment %d follows part %d of %d", k, n, part, msn))
	}
	f.order = append(f.order, name)
	f.parts[name] = body
}

func (f *follower) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.order)
}

// grows waits for so many parts more.
func grows(t *testing.T, f *follower, n int) {
	t.Helper()
	n += f.count()
	await.True(t, fmt.Sprintf("the viewer has %d parts", n), func() bool { return f.count() >= n })
}

// check compares what was read with what another origin has.
func (f *follower) check(t *testing.T, base string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.bad {
		t.Error(b)
	}
	if len(f.parts) != len(f.order) {
		t.Errorf("%d parts came, %d different ones", len(f.order), len(f.parts))
	}
	for name, body := range f.parts {
		if want := get(t, base+name); want == "" || want != body {
			t.Errorf("%s has %d bytes here and %d where it was published", name, len(body), len(want))
		}
	}
}

// pace publishes a chunk every 60 ms until the function is called.
func pace(t *testing.T, p *media.Publisher, js jetstream.JetStream) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		tick := time.NewTicker(60 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				done <- nil
				return
			case <-tick.C:
			}
			if err := p.Push(context.Background(), js); err != nil {
				done <- err
				return
			}
		}
	}()
	ended := false
	stop = func() {
		if !ended {
			ended = true
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop)
	return stop
}
