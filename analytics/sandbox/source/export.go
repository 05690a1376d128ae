package source

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spillway-live/spillway/analytics/sandbox/predict"
	"github.com/spillway-live/spillway/schemas"
)

// Views that Export reads, each as <view>.parquet or <view>.arrow.
const (
	viewSessions  = "v_sessions"
	viewDecisions = "decisions"
	viewTelemetry = "telemetry"
)

// Export reads what `spillway export` has written into a folder: v_sessions, and
// where they are there, decisions (which CDN was chosen, and with which probability)
// and telemetry (the throughput that players measured). It gives the same as
// ClickHouse does. The CDNs and the player are taken from recording.json where the
// folder has one; else the caller adds them.
func Export(dir string) (*predict.Recording, error) {
	r := &predict.Recording{}
	b, err := readLimited(filepath.Join(dir, recordFile), maxSettings)
	switch {
	case err == nil:
		if err := schemas.UnmarshalStrict(b, r); err != nil {
			return nil, fmt.Errorf("read exported files: %s: %w", filepath.Join(dir, recordFile), err)
		}
	case !errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("read exported files: %w", err)
	}
	t, ok := find(dir, viewSessions)
	if !ok {
		return nil, fmt.Errorf("read exported files: %s holds neither %s.parquet nor %s.arrow: write one with spillway export %s", dir, viewSessions, viewSessions, viewSessions)
	}
	first, err := firstDecisions(dir)
	if err != nil {
		return nil, fmt.Errorf("read exported files: %w", err)
	}
	bps, err := throughputs(dir)
	if err != nil {
		return nil, fmt.Errorf("read exported files: %w", err)
	}
	if r.Sessions, err = sessionsOf(t, first, bps); err != nil {
		return nil, fmt.Errorf("read exported files: %w", err)
	}
	return r, nil
}

// decision is the first one about a session.
type decision struct {
	at, probability float64
	chosen          string
}

func firstDecisions(dir string) (map[string]decision, error) {
	t, ok := find(dir, viewDecisions)
	if !ok {
		return nil, nil
	}
	out := map[string]decision{}
	err := t.each([]string{"session_id", "kind", "time", "chosen", "probability"}, func(r row, i int) error {
		if kind := r.text(1, i); kind != string(schemas.DecisionDispatch) && kind != string(schemas.DecisionMultivariant) {
			return nil
		}
		at, err1 := r.number(2, i)
		p, err2 := r.number(4, i)
		id := r.text(0, i)
		if d, have := out[id]; !have && len(out) < MaxSessions || have && at < d.at {
			out[id] = decision{at: at, probability: p, chosen: r.text(3, i)}
		}
		return errors.Join(err1, err2)
	})
	return out, err
}

// throughputs gives the mean of what each session's player measured, bit/s.
func throughputs(dir string) (map[string]float64, error) {
	t, ok := find(dir, viewTelemetry)
	if !ok {
		return nil, nil
	}
	type mean struct{ sum, n float64 }
	sums := map[string]mean{}
	err := t.each([]string{"session_id", "throughput_kbps"}, func(r row, i int) error {
		kbps, err := r.number(1, i)
		if kbps > 0 {
			id := r.text(0, i)
			if m, have := sums[id]; have || len(sums) < MaxSessions {
				sums[id] = mean{m.sum + kbps, m.n + 1}
			}
		}
		return err
	})
	out := make(map[string]float64, len(sums))
	for id, m := range sums {
		out[id] = m.sum / m.n * 1000
	}
	return out, err
}

// sessionColumns of v_sessions: texts, then numbers in the order of sessionOf.
var sessionColumns = []string{
	"session_id", "viewer_id", "region", "isp", "cdn",
	"final", "first_time", "last_time", "starts", "startup_ms", "played_ms", "stalled_ms", "stalls", "latency_mean_ms", "request_bytes", "bitrate_kbps", "requests", "request_errors",
}

func sessionsOf(t table, first map[string]decision, bps map[string]float64) ([]predict.Session, error) {
	var out []predict.Session
	const texts = 5
	n := make([]float64, len(sessionColumns)-texts)
	err := t.each(sessionColumns, func(r row, i int) error {
		for k := range n {
			var err error
			if n[k], err = r.number(texts+k, i); err != nil {
				return fmt.Errorf("column %s: %w", sessionColumns[texts+k], err)
			}
		}
		const starts = texts + 3
		if n[0] == 0 || r[starts].IsNull(i) {
			return nil // open, or its player has told nothing
		}
		s := predict.Session{ID: r.text(0, i), Viewer: r.text(1, i), Region: r.text(2, i), ISP: r.text(3, i)}
		d := first[s.ID]
		s.CDN, s.Probability = cmp.Or(d.chosen, r.text(4, i)), d.probability
		if s.CDN == "" {
			return nil
		}
		if len(out) == MaxSessions {
			return fmt.Errorf("it holds more than %d sessions: export a shorter time (--from, --to)", MaxSessions)
		}
		s.AtSec, s.WatchSec, s.Started = n[1], n[2]-n[1], n[3] > 0
		if s.Started {
			s.FirstScreenSec = n[4] / n[3] / 1000
		}
		s.PlayedSec, s.StalledSec, s.Stalls, s.LatencySec = n[5]/1000, n[6]/1000, int(n[7]), n[8]/1000
		if s.Bytes = n[9]; s.Bytes <= 0 {
			s.Bytes = n[10] * n[5] / 8
		}
		s.ThroughputBps, s.Requests, s.RequestErrors = bps[s.ID], n[11], n[12]
		out = append(out, s)
		return nil
	})
	slices.SortStableFunc(out, func(a, b predict.Session) int { return cmp.Compare(a.AtSec, b.AtSec) })
	return out, err
}
