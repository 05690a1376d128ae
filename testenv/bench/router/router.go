// Package router measures what answers of a router cost: dispatch and steering
// over HTTP, with a registry of many CDNs and viewers in many places.
//
// It promises: real requests over kept connections; the router's CPU is that of
// its own process, the generator's is left out; latency is measured at a given
// rate, from when a request was due. It leaves out players and media.
package router

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/bench"
	"github.com/spillway-live/spillway/testenv/peers/procstat"
)

// Settings of a run.
type Settings struct {
	// URL of the router, PID of its process.
	URL string
	PID int
	// App and Stream are asked for; it is live.
	App, Stream string
	// CDNs are in its registry; Cells of region and provider are asked from.
	CDNs, Cells int
	// Connections ask at once; Window is how long each measurement lasts.
	Connections int
	Window      time.Duration
	// Rate is that at which latency is measured, answers a second.
	Rate int
	// Slices a second are on the bus meanwhile, of the sessions that were opened; Publish puts them there.
	Slices  int
	Publish func(context.Context, []schemas.Slice) error
}

// Report is what was measured.
type Report struct {
	Bench    string        `json:"bench"`
	Began    time.Time     `json:"began"`
	Machine  bench.Machine `json:"machine"`
	CDNs     int           `json:"cdns"`
	Cells    int           `json:"cells"`
	Slices   int           `json:"slices_per_second"`
	Dispatch Figures       `json:"dispatch"`
	Steering Figures       `json:"steering"`
}

// Figures of one kind of answer.
type Figures struct {
	// Answers given as fast as the connections ask, and what they cost the router's process.
	Answers             int64   `json:"answers"`
	CPUMicrosEach       float64 `json:"cpu_us_each"`
	AnswersPerCPUSecond float64 `json:"answers_per_cpu_second"`
	// Latency at Rate answers a second, milliseconds from when each was due.
	Rate  int     `json:"rate"`
	P50Ms float64 `json:"p50_ms"`
	P99Ms float64 `json:"p99_ms"`
}

// Run measures.
func Run(ctx context.Context, s Settings) (rep *Report, err error) {
	if s.CDNs < 1 || s.Cells < 1 || s.Connections < 1 || s.Window < time.Second || s.Rate < 1 {
		return nil, fmt.Errorf("CDNs %d, cells %d, connections %d, window %s, rate %d: all must be above 0, the window a second at least", s.CDNs, s.Cells, s.Connections, s.Window, s.Rate)
	}
	rep = &Report{Bench: "router", Began: time.Now().UTC().Truncate(time.Second), Machine: bench.ThisMachine(), CDNs: s.CDNs, Cells: s.Cells, Slices: s.Slices}
	path := "/v1/dispatch?" + url.Values{"app": {s.App}, "stream": {s.Stream}, "viewer": {"bench"}}.Encode()
	var dispatch, steering [][]byte
	var sessions []string
	for i := range s.Cells {
		q := s.request(path, i)
		dispatch = append(dispatch, q)
		id, tok, err := s.open(ctx, path, i)
		if err != nil {
			return nil, err
		}
		sessions = append(sessions, id)
		steering = append(steering, s.request("/v1/steering?s="+tok+"&_HLS_pathway=cdn1&_HLS_throughput=5000000", i))
	}
	stop := s.feed(ctx, sessions)
	defer func() { err = errors.Join(err, stop()) }()
	if rep.Dispatch, err = s.measure(ctx, dispatch); err != nil {
		return nil, fmt.Errorf("dispatch: %w", err)
	}
	if rep.Steering, err = s.measure(ctx, steering); err != nil {
		return nil, fmt.Errorf("steering: %w", err)
	}
	return rep, nil
}

// request is one from a viewer of a cell.
func (s *Settings) request(path string, cell int) []byte {
	u, _ := url.Parse(s.URL)
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nX-Spillway-Region: region%d\r\nX-Spillway-ISP: isp%d\r\n\r\n", path, u.Host, cell/20, cell%20)
}

// feed publishes slices of the sessions until stop is called.
func (s *Settings) feed(ctx context.Context, sessions []string) (stop func() error) {
	if s.Slices == 0 {
		return func() error { return nil }
	}
	const every = 100 * time.Millisecond
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		t := time.NewTicker(every)
		defer t.Stop()
		next := 0
		for {
			select {
			case <-ctx.Done():
				done <- nil
				return
			case now := <-t.C:
				batch := make([]schemas.Slice, s.Slices/int(time.Second/every))
				for i := range batch {
					cell := next % len(sessions)
					batch[i] = schemas.Slice{
						TimeUnixMs: now.UnixMilli(), Kind: schemas.SliceDelta, SessionID: sessions[cell], App: s.App, Stream: s.Stream,
						CDN: fmt.Sprint("cdn", 1+(next+next/len(sessions))%s.CDNs), Region: fmt.Sprint("region", cell/20), ISP: fmt.Sprint("isp", cell%20), PlayedMs: 9900, StalledMs: 100,
						BitrateKbpsMsSum: 3000 * 9900, BitrateWeightMs: 9900, Requests: 50, RequestBytes: 3_000_000, Reports: 2,
					}
					next++
				}
				if err := s.Publish(ctx, batch); err != nil && ctx.Err() == nil {
					done <- fmt.Errorf("publish slices: %w", err)
					return
				}
			}
		}
	}()
	return func() error { cancel(); return <-done }
}

// open opens a session from a cell.
func (s *Settings) open(ctx context.Context, path string, cell int) (id, tok string, err error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, nil)
	if err != nil {
		return "", "", err
	}
	q.Header.Set("X-Spillway-Region", fmt.Sprint("region", cell/20))
	q.Header.Set("X-Spillway-ISP", fmt.Sprint("isp", cell%20))
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		return "", "", err
	}
	defer r.Body.Close()
	var d struct {
		ID    string `json:"session_id"`
		Token string `json:"token"`
		Error string `json:"error"`
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&d); err != nil || d.Token == "" {
		return "", "", fmt.Errorf("open a session: %s: %s (%w)", r.Status, d.Error, err)
	}
	return d.ID, d.Token, nil
}

func (s *Settings) measure(ctx context.Context, requests [][]byte) (Figures, error) {
	f := Figures{Rate: s.Rate}
	if _, err := s.load(ctx, requests, 0, time.Second); err != nil { // warm
		return f, err
	}
	before, err := procstat.CPUSeconds(s.PID)
	if err != nil {
		return f, err
	}
	waits, err := s.load(ctx, requests, 0, s.Window)
	if err != nil {
		return f, err
	}
	after, err := procstat.CPUSeconds(s.PID)
	if err != nil {
		return f, err
	}
	f.Answers = int64(len(waits))
	f.CPUMicrosEach = (after - before) * 1e6 / float64(max(f.Answers, 1))
	f.AnswersPerCPUSecond = 1e6 / f.CPUMicrosEach
	if waits, err = s.load(ctx, requests, s.Rate, s.Window); err != nil {
		return f, err
	}
	if len(waits) == 0 {
		return f, errors.New("no answer at all")
	}
	slices.Sort(waits)
	at := func(share float64) float64 {
		return float64(waits[int(share*float64(len(waits)-1))]) / float64(time.Millisecond)
	}
	f.P50Ms, f.P99Ms = at(0.5), at(0.99)
	return f, nil
}

// load asks over all connections, at a rate in all or, at 0, as fast as answers
// come, and gives how long each answer took from when it was due.
func (s *Settings) load(ctx context.Context, requests [][]byte, rate int, window time.Duration) ([]time.Duration, error) {
	u, err := url.Parse(s.URL)
	if err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var all []time.Duration
	var failed error
	var next atomic.Int64
	begin := time.Now()
	end := begin.Add(window)
	for range s.Connections {
		wg.Go(func() {
			got, err := ask(ctx, u.Host, requests, &next, rate, begin, end)
			mu.Lock()
			defer mu.Unlock()
			all, failed = append(all, got...), errors.Join(failed, err)
		})
	}
	wg.Wait()
	return all, failed
}

func ask(ctx context.Context, host string, requests [][]byte, next *atomic.Int64, rate int, begin, end time.Time) ([]time.Duration, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	_ = c.SetDeadline(end.Add(10 * time.Second))
	r := bufio.NewReaderSize(c, 64<<10)
	var out []time.Duration
	for ctx.Err() == nil {
		i := next.Add(1) - 1
		due := time.Now()
		if rate > 0 {
			due = begin.Add(time.Duration(float64(i) / float64(rate) * float64(time.Second)))
			time.Sleep(time.Until(due)) // an open loop: requests are sent by the clock, whatever the answers take
		}
		if due.After(end) {
			return out, nil
		}
		if _, err := c.Write(requests[int(i)%len(requests)]); err != nil {
			return out, err
		}
		if err := skip(r); err != nil {
			return out, err
		}
		out = append(out, time.Since(due))
	}
	return out, ctx.Err()
}

// skip reads an answer, which must be 200.
func skip(r *bufio.Reader) error {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) {
		return fmt.Errorf("answer %q", bytes.TrimSpace(line))
	}
	size := -1
	for {
		if line, err = r.ReadSlice('\n'); err != nil {
			return err
		}
		if len(bytes.TrimSpace(line)) == 0 {
			break
		}
		if name, v, ok := bytes.Cut(line, []byte(":")); ok && bytes.EqualFold(name, []byte("content-length")) {
			if size, err = strconv.Atoi(string(bytes.TrimSpace(v))); err != nil {
				return err
			}
		}
	}
	if size < 0 {
		return errors.New("an answer without Content-Length")
	}
	_, err = r.Discard(size)
	return err
}
