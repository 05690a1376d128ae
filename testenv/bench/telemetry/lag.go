package telemetry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spillway-live/spillway/testenv/peers/procstat"
)

// Lag is how far the roll-up was behind what was accepted, at a moment of the load.
type Lag struct {
	AtSeconds     float64 `json:"at_s"`
	BehindEvents  int64   `json:"behind_events"`
	BehindSeconds float64 `json:"behind_s"` // at the rate accepted so far
	// Memory resident at that moment.
	ServerRSSBytes     int64 `json:"server_rss_bytes"`
	ClickHouseRSSBytes int64 `json:"clickhouse_rss_bytes"`
}

// lagSamples is how often a window is looked at.
const lagSamples = 30

// followLag looks at the roll-up and at memory until ctx ends.
func (s *Settings) followLag(ctx context.Context, l *load) ([]Lag, error) {
	t := time.NewTicker(max(s.Window/lagSamples, 500*time.Millisecond))
	defer t.Stop()
	var out []Lag
	for begin := time.Now(); ; {
		select {
		case <-ctx.Done():
			return out, nil
		case <-t.C:
		}
		p := Lag{AtSeconds: time.Since(begin).Seconds()}
		accepted := l.accepted.Load()
		var there int64
		err := s.ClickHouse.QueryRow(ctx, "SELECT toInt64(sum(reports)) FROM rollup_minute WHERE app = 'bench'").Scan(&there)
		if ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) { // the connection's clock is that of the window
			return out, nil
		}
		if err != nil {
			return out, fmt.Errorf("look how far the roll-up is: %w", err)
		}
		p.BehindEvents = max(accepted-there, 0)
		p.BehindSeconds = float64(p.BehindEvents) * p.AtSeconds / float64(max(accepted, 1))
		server, err := procstat.Tree(s.ServerPID)
		if err != nil {
			return out, fmt.Errorf("read the server's memory: %w", err)
		}
		database, err := procstat.Tree(s.ClickHousePID)
		if err != nil {
			return out, fmt.Errorf("read ClickHouse's memory: %w", err)
		}
		p.ServerRSSBytes, p.ClickHouseRSSBytes = server.RSSBytes, database.RSSBytes
		out = append(out, p)
	}
}

// lagOf gives the mean lag in the first, the middle and the last third of the load, seconds.
func lagOf(all []Lag) (start, middle, end float64) {
	mean := func(l []Lag) (sum float64) {
		for _, p := range l {
			sum += p.BehindSeconds
		}
		return sum / float64(max(len(l), 1))
	}
	n := len(all)
	return mean(all[:n/3]), mean(all[n/3 : 2*n/3]), mean(all[2*n/3:])
}
