package telemetry

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/spillway-live/spillway/testenv/child"
)

// holder is a sessioniser in a process of its own, known by its log and its metrics.
type holder struct {
	proc    *child.Process
	log     *child.Tail
	started time.Time

	mu      sync.Mutex
	metrics string // URL
	runs    time.Time
	taken   []time.Time // partitions taken
	reads   []time.Time // partitions restored and read
}

// logLine is what is of use in the sessioniser's log.
type logLine struct {
	Time time.Time `json:"time"`
	Msg  string    `json:"msg"`
	URL  string    `json:"url"`
}

func (s *OpenSettings) holder() (*holder, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	h := &holder{log: &child.Tail{}, started: time.Now()}
	cmd := exec.Command(s.Binary, "sessioniser", "--nats", s.NATS, "--data", s.DataDir, "--metrics", "127.0.0.1:0",
		"--snapshot-every", s.SnapshotEvery.String(), "--log-level", "info", "--log-format", "json")
	cmd.Env = child.Environ("SPILLWAY_") // the caller's own settings must not reach it
	cmd.Stderr = w
	h.proc, err = child.Start(cmd)
	w.Close()
	if err != nil {
		r.Close()
		return nil, err
	}
	go h.follow(r, s.Logger)
	return h, nil
}

func (h *holder) follow(r io.ReadCloser, log *slog.Logger) {
	defer r.Close()
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		log.Debug("the sessioniser said", "pid", h.proc.PID(), "line", sc.Text())
		var l logLine
		_, _ = h.log.Write(append(sc.Bytes(), '\n'))
		if json.Unmarshal(sc.Bytes(), &l) != nil {
			continue
		}
		h.mu.Lock()
		switch l.Msg {
		case "metrics":
			h.metrics = l.URL
		case "role runs":
			h.runs = l.Time
		case "partition taken":
			h.taken = append(h.taken, l.Time)
		case "sessioniser reads":
			h.reads = append(h.reads, l.Time)
		}
		h.mu.Unlock()
	}
	_, _ = io.Copy(io.Discard, r) // a full pipe would stop it
}

// state is what the holder said so far.
type state struct {
	open       int64 // sessions open; 0 where it has no metrics yet
	overflow   int64 // rows left out
	lag        time.Duration
	partitions int // that have told their lag
}

func (h *holder) state(ctx context.Context) (st state, err error) {
	h.mu.Lock()
	u := h.metrics
	h.mu.Unlock()
	select {
	case <-h.proc.Done():
		return st, fmt.Errorf("the sessioniser ended: %w: %s", h.proc.Err(), h.log)
	default:
	}
	if u == "" {
		return st, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return st, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return st, fmt.Errorf("read the sessioniser's metrics: %w", err)
	}
	defer res.Body.Close()
	p := expfmt.NewTextParser(model.UTF8Validation)
	f, err := p.TextToMetricFamilies(res.Body)
	if err != nil {
		return st, fmt.Errorf("read the sessioniser's metrics: %w", err)
	}
	each := func(name string, do func(*dto.Metric)) {
		for _, m := range f["spillway_sessioniser_"+name].GetMetric() {
			do(m)
		}
	}
	each("open_sessions", func(m *dto.Metric) { st.open += int64(m.GetGauge().GetValue()) })
	each("overflow_rows_total", func(m *dto.Metric) { st.overflow += int64(m.GetCounter().GetValue()) })
	each("lag_seconds", func(m *dto.Metric) {
		st.partitions++
		st.lag = max(st.lag, time.Duration(m.GetGauge().GetValue()*float64(time.Second)))
	})
	return st, nil
}

// kill ends it as a crash does and gives the moment.
func (h *holder) kill() (time.Time, error) {
	at := time.Now()
	if err := syscall.Kill(h.proc.PID(), syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return at, fmt.Errorf("kill the sessioniser: %w", err)
	}
	<-h.proc.Done()
	return at, nil
}

func latest(times []time.Time) time.Time {
	var t time.Time
	for _, x := range times {
		if x.After(t) {
			t = x
		}
	}
	return t
}
