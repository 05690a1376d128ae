package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

const (
	shipEvery    = 500 * time.Millisecond
	maxShipLines = 4000
	shipTimeout  = 5 * time.Second
	maxShipPause = 5 * time.Second
	// lastShip bounds the sending of what is left when the edge stops.
	lastShip = 2 * time.Second
)

// logShipper keeps log lines until the collector has them.
type logShipper struct {
	url, key, cdn, boot string
	server              string
	maxLines            int
	m                   *metrics
	logger              *slog.Logger
	client              *http.Client

	mu    sync.Mutex
	seq   uint64
	lines []schemas.CDNLogLine
	more  chan struct{} // a full batch is there
}

func newLogShipper(s Settings, m *metrics) *logShipper {
	l := &logShipper{
		key: s.EdgeKey, cdn: s.Name, boot: newBootID(), maxLines: s.MaxLogLines, m: m, logger: s.Logger,
		client: &http.Client{Timeout: shipTimeout, Transport: &http.Transport{IdleConnTimeout: 30 * time.Second}},
		more:   make(chan struct{}, 1),
	}
	if s.Collector != "" {
		l.url = strings.TrimSuffix(s.Collector, "/") + "/v1/cdnlog"
	}
	return l
}

func (l *logShipper) add(line schemas.CDNLogLine) {
	if l.url == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	line.Server, line.Boot, line.Seq = l.server, l.boot, l.seq
	if len(l.lines) >= l.maxLines {
		// A tenth at a time, so that dropping costs nothing per line.
		drop := l.maxLines/10 + 1
		l.lines = append(l.lines[:0:0], l.lines[min(drop, len(l.lines)):]...)
		l.m.logDropped.n.Add(uint64(drop))
	}
	l.lines = append(l.lines, line)
	if len(l.lines) >= maxShipLines {
		select {
		case l.more <- struct{}{}:
		default:
		}
	}
}

// run posts batches until ctx ends, then what is left.
func (l *logShipper) run(ctx context.Context) {
	defer l.client.CloseIdleConnections()
	pause := shipEvery
	tick := time.NewTimer(pause)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastShip)
			defer cancel()
			if err := l.ship(last); err != nil {
				l.mu.Lock()
				n := len(l.lines)
				l.mu.Unlock()
				l.logger.Warn("edge stops with log lines that the collector has not taken", "lines", n, "err", err)
			}
			return
		case <-tick.C:
		case <-l.more:
			if failing {
				continue // the pause is there to be kept
			}
		}
		if err := l.ship(ctx); err != nil {
			if !failing && ctx.Err() == nil {
				l.logger.Warn("collector does not take log lines: they are kept", "err", err)
			}
			failing, pause = true, min(pause*2, maxShipPause)
		} else {
			if failing {
				l.logger.Info("collector takes log lines again")
			}
			failing, pause = false, shipEvery
		}
		tick.Reset(pause)
	}
}

// ship posts everything there is, in batches.
func (l *logShipper) ship(ctx context.Context) error {
	if l.url == "" {
		return nil
	}
	for {
		l.mu.Lock()
		n := min(len(l.lines), maxShipLines)
		batch := l.lines[:n:n]
		l.mu.Unlock()
		if n == 0 {
			return nil
		}
		refused, err := l.post(ctx, batch)
		if err != nil {
			return err
		}
		if refused {
			l.m.logRefused.n.Add(uint64(n))
		} else {
			l.m.logSent.n.Add(uint64(n))
		}
		l.done(batch[n-1].Seq)
	}
}

// done forgets lines up to seq; some of them may have been dropped meanwhile.
func (l *logShipper) done(seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := 0
	for i < len(l.lines) && l.lines[i].Seq <= seq {
		i++
	}
	if l.lines = l.lines[i:]; len(l.lines) == 0 {
		l.lines = nil
	}
}

// post sends one batch. refused means that repeating it would not help.
func (l *logShipper) post(ctx context.Context, batch []schemas.CDNLogLine) (refused bool, err error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for i := range batch {
		if err := enc.Encode(&batch[i]); err != nil {
			return false, fmt.Errorf("encode log line: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.url, &b)
	if err != nil {
		return false, err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	req.Header.Set(HeaderEdgeKey, l.key)
	req.Header.Set(HeaderCDN, l.cdn)
	res, err := l.client.Do(req)
	if err != nil {
		return false, fmt.Errorf("post log lines: %w", err)
	}
	defer res.Body.Close()
	what, _ := io.ReadAll(io.LimitReader(res.Body, 512)) // only for the message below
	switch {
	case res.StatusCode < 300:
		return false, nil
	case res.StatusCode == http.StatusBadRequest, res.StatusCode == http.StatusRequestEntityTooLarge, res.StatusCode == http.StatusUnprocessableEntity:
		l.logger.Error("collector refuses log lines for good: they are dropped", "lines", len(batch), "status", res.StatusCode, "answer", string(what))
		return true, nil
	}
	return false, fmt.Errorf("post log lines: collector answers %d: %s", res.StatusCode, what)
}
