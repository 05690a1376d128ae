package story

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Span is a time in one state of the player.
type Span struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// State is starting, playing, stalled, seeking, paused, waiting, ended, failed or quit.
	State string `json:"state"`
}

// Sample is what the player told of itself at a moment.
type Sample struct {
	At time.Time `json:"at"`
	// BufferMs, LatencyMs and BitrateKbps are nil where it did not tell.
	BufferMs    *int32 `json:"buffer_ms,omitempty"`
	LatencyMs   *int32 `json:"latency_ms,omitempty"`
	BitrateKbps *int32 `json:"bitrate_kbps,omitempty"`
	// Error is the code of an error [CMCD ec].
	Error string `json:"error,omitempty"`
}

// Timeline is a story with what the player did at each time.
type Timeline struct {
	*Story
	States []Span `json:"states"`
	// Exact says that the states are the player's reports; else they are put
	// together from slices, because reports are kept for two weeks only.
	Exact   bool     `json:"exact"`
	Samples []Sample `json:"samples"`
}

// maxPoints bounds the states and samples of a time line.
const maxPoints = 5000

// stateNames says what the states of CMCD (sta) are.
var stateNames = map[string]string{
	"s": "starting", "d": "starting", "p": "playing", "r": "stalled", "k": "seeking", "a": "paused", "w": "waiting", "e": "ended", "f": "failed", "q": "quit",
}

// BuildTimeline reads a session's story with its states. An unknown session is *ErrUnknown.
func BuildTimeline(ctx context.Context, conn driver.Conn, database, session string) (*Timeline, error) {
	s, err := Build(ctx, conn, database, session)
	if err != nil {
		return nil, err
	}
	t := &Timeline{Story: s, States: []Span{}, Samples: []Sample{}}
	if err := t.reports(ctx, conn, database); err != nil {
		return nil, fmt.Errorf("read the reports of session %s: %w", session, err)
	}
	if t.Exact = len(t.States) > 0; !t.Exact {
		if err := t.fromSlices(ctx, conn, database); err != nil {
			return nil, fmt.Errorf("read the slices of session %s: %w", session, err)
		}
	}
	return t, nil
}

// reports reads what the player told. Its clock is moved by what makes the quickest of its reports arrive at once.
func (t *Timeline) reports(ctx context.Context, conn driver.Conn, database string) error {
	rows, err := conn.Query(ctx, fmt.Sprintf(`SELECT ts_ms + min(intDiv(received_us, 1000) - ts_ms) OVER () AS at_ms, state, error_code, buffer_ms, live_latency_ms, bitrate_kbps
		FROM %s.telemetry WHERE session_id = ? AND app = ? AND stream = ? AND source IN ('cmcd_event', 'beacon')
			AND (state != '' OR error_code != '' OR buffer_ms IS NOT NULL OR live_latency_ms IS NOT NULL)
		ORDER BY at_ms, seq LIMIT %d`, quote(database), maxPoints), t.SessionID, t.App, t.Stream)
	if err != nil {
		return err
	}
	defer rows.Close()
	played := false
	for rows.Next() {
		var ms int64
		var state string
		var x Sample
		if err := rows.Scan(&ms, &state, &x.Error, &x.BufferMs, &x.LatencyMs, &x.BitrateKbps); err != nil {
			return err
		}
		x.At = time.UnixMilli(ms).UTC()
		if x.BufferMs != nil || x.LatencyMs != nil || x.Error != "" {
			t.Samples = append(t.Samples, x)
		}
		name := stateNames[state]
		played = played || name == "playing"
		if !played && (name == "stalled" || name == "waiting") {
			name = "starting" // before the first picture it is not a stall
		}
		t.enter(name, x.At)
	}
	return rows.Err()
}

// enter ends the span before and begins one, unless the state goes on.
func (t *Timeline) enter(state string, at time.Time) {
	n := len(t.States)
	if n > 0 {
		t.States[n-1].To = at
	}
	if state != "" && (n == 0 || t.States[n-1].State != state) {
		t.States = append(t.States, Span{at, at, state})
	}
}

// fromSlices puts states together from how long each lasted within a slice; their order within one is not known.
func (t *Timeline) fromSlices(ctx context.Context, conn driver.Conn, database string) error {
	rows, err := conn.Query(ctx, fmt.Sprintf(`SELECT time, startup_ms, stalled_ms, seek_ms, paused_ms, played_ms
		FROM %s.session_slices WHERE session_id = ? AND app = ? AND stream = ? ORDER BY time_ms LIMIT %d`, quote(database), maxPoints), t.SessionID, t.App, t.Stream)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var at time.Time
		var ms [5]int64
		if err := rows.Scan(&at, &ms[0], &ms[1], &ms[2], &ms[3], &ms[4]); err != nil {
			return err
		}
		var all int64
		for _, d := range ms {
			all += max(d, 0) // corrections are below 0
		}
		from := at.Add(-time.Duration(all) * time.Millisecond)
		for i, name := range [...]string{"starting", "stalled", "seeking", "paused", "playing"} {
			if ms[i] > 0 {
				t.enter(name, from)
				from = from.Add(time.Duration(ms[i]) * time.Millisecond)
				t.States[len(t.States)-1].To = from
			}
		}
	}
	return rows.Err()
}
