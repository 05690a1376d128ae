// Package story tells what became of one playback session: where it was sent and
// why, how it was served there, when it moved, how it ended. It reads ClickHouse;
// whatever has not been loaded yet (a few seconds) is not in it.
package story

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// maxRows bounds what is read of one session: a session of twelve hours has about
// 700 repeated decisions and some thousand slices.
const maxRows = 100_000

// Story is one session.
type Story struct {
	SessionID string `json:"session_id"`
	App       string `json:"app"`
	Stream    string `json:"stream"`
	Region    string `json:"region,omitempty"`
	ISP       string `json:"isp,omitempty"`
	Client    string `json:"client,omitempty"`
	Device    string `json:"device,omitempty"`
	Arms      string `json:"arms,omitempty"`
	// Decisions as routers made them, repetitions that changed nothing left out
	// and counted in Repeated.
	Decisions []Decision `json:"decisions"`
	// Stays are the times on one CDN, as it was really served, in order.
	Stays []Stay `json:"stays"`
	// EndReason is empty while the session plays.
	EndReason string `json:"end_reason,omitempty"`
}

// Decision is one answer of a router.
type Decision struct {
	At            time.Time `json:"at"`
	Kind          string    `json:"kind"`
	Policy        string    `json:"policy"`
	PolicyVersion string    `json:"policy_version"`
	Chosen        string    `json:"chosen"`
	Previous      string    `json:"previous,omitempty"`
	ReasonCode    string    `json:"reason_code"`
	Probability   float64   `json:"probability"`
	InputAgeMs    int64     `json:"input_age_ms"`
	// CapBps is the bitrate its renditions were held to, bit/s, QueuedMs how long it had to wait for a place.
	CapBps     int64       `json:"cap_bps,omitempty"`
	QueuedMs   int64       `json:"queued_ms,omitempty"`
	Candidates []Candidate `json:"candidates"`
	// Repeated counts later answers that were the same.
	Repeated int `json:"repeated,omitempty"`
}

// Candidate is a CDN as the decision saw it.
type Candidate struct {
	CDN      string  `json:"cdn"`
	Score    float64 `json:"score"`
	Viewers  int64   `json:"viewers"`
	Excluded string  `json:"excluded,omitempty"`
	Tier     string  `json:"tier,omitempty"`
	Load     float64 `json:"load,omitempty"`
	Harm     float64 `json:"harm,omitempty"`
}

// Stay is what happened while one CDN served. Durations are milliseconds.
type Stay struct {
	CDN           string    `json:"cdn"`
	From          time.Time `json:"from"`
	To            time.Time `json:"to"`
	StartupMs     int64     `json:"startup_ms,omitempty"`
	Starts        int64     `json:"starts,omitempty"`
	PlayedMs      int64     `json:"played_ms"`
	StalledMs     int64     `json:"stalled_ms,omitempty"`
	Stalls        int64     `json:"stalls,omitempty"`
	StartFailures int64     `json:"start_failures,omitempty"`
	PlayFailures  int64     `json:"playback_failures,omitempty"`
	RequestErrors int64     `json:"request_errors,omitempty"`
	LostReports   int64     `json:"lost_reports,omitempty"`

	latencySum, latencyWeight int64
	// LatencyMs is the mean live latency, milliseconds; 0 where nobody told.
	LatencyMs int64 `json:"latency_ms,omitempty"`
}

// ErrUnknown says that nothing is stored of a session.
type ErrUnknown struct{ SessionID string }

func (e *ErrUnknown) Error() string {
	return fmt.Sprintf("nothing is stored of session %q: check the id (the player's sid; v_sessions lists them), and that it began more than a few seconds and less than 90 days ago", e.SessionID)
}

// Build reads a session's story. An unknown session is *ErrUnknown.
func Build(ctx context.Context, conn driver.Conn, database, session string) (*Story, error) {
	s := &Story{SessionID: session}
	if err := s.decisions(ctx, conn, database); err != nil {
		return nil, fmt.Errorf("read the decisions of session %s: %w", session, err)
	}
	if err := s.slices(ctx, conn, database); err != nil {
		return nil, fmt.Errorf("read the slices of session %s: %w", session, err)
	}
	if len(s.Decisions) == 0 && len(s.Stays) == 0 {
		return nil, &ErrUnknown{session}
	}
	return s, nil
}

func (s *Story) decisions(ctx context.Context, conn driver.Conn, database string) error {
	rows, err := conn.Query(ctx, fmt.Sprintf(`SELECT time, kind, app, stream, region, isp, arms, policy, policy_version, chosen, previous,
		reason_code, probability, input_age_ms, candidate_cdns, candidate_scores, candidate_viewers, candidate_excluded,
		candidate_tiers, candidate_loads, candidate_harms, cap_bps, queued_ms
		FROM %s.decisions WHERE session_id = ? ORDER BY time LIMIT %d`, quote(database), maxRows), s.SessionID)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var d Decision
		var cdns, excluded, tiers []string
		var scores, loads, harms []float64
		var viewers []int64
		if err := rows.Scan(&d.At, &d.Kind, &s.App, &s.Stream, &s.Region, &s.ISP, &s.Arms, &d.Policy, &d.PolicyVersion, &d.Chosen, &d.Previous,
			&d.ReasonCode, &d.Probability, &d.InputAgeMs, &cdns, &scores, &viewers, &excluded,
			&tiers, &loads, &harms, &d.CapBps, &d.QueuedMs); err != nil {
			return err
		}
		for i := range min(len(cdns), len(scores), len(viewers), len(excluded)) {
			c := Candidate{CDN: cdns[i], Score: scores[i], Viewers: viewers[i], Excluded: excluded[i]}
			if i < min(len(tiers), len(loads), len(harms)) { // not stored before they were columns
				c.Tier, c.Load, c.Harm = tiers[i], loads[i], harms[i]
			}
			d.Candidates = append(d.Candidates, c)
		}
		if n := len(s.Decisions); n > 0 && s.Decisions[n-1].Chosen == d.Chosen && s.Decisions[n-1].Policy == d.Policy && d.Kind == "steering" {
			s.Decisions[n-1].Repeated++
			continue
		}
		s.Decisions = append(s.Decisions, d)
	}
	return rows.Err()
}

func (s *Story) slices(ctx context.Context, conn driver.Conn, database string) error {
	rows, err := conn.Query(ctx, fmt.Sprintf(`SELECT time, kind, app, stream, region, isp, client, device, arms, cdn, end_reason, startup_ms, starts,
		played_ms, stalled_ms, stalls, start_failures, playback_failures, request_errors, lost_reports, latency_ms_sum, latency_weight_ms
		FROM %s.session_slices WHERE session_id = ? ORDER BY time LIMIT %d`, quote(database), maxRows), s.SessionID)
	if err != nil {
		return err
	}
	defer rows.Close()
	keep := func(into *string, v string) {
		if v != "" {
			*into = v
		}
	}
	for rows.Next() {
		var at time.Time
		var x Stay
		var kind, app, stream, region, isp, client, device, arms, end string
		if err := rows.Scan(&at, &kind, &app, &stream, &region, &isp, &client, &device, &arms, &x.CDN, &end, &x.StartupMs, &x.Starts,
			&x.PlayedMs, &x.StalledMs, &x.Stalls, &x.StartFailures, &x.PlayFailures, &x.RequestErrors, &x.LostReports, &x.latencySum, &x.latencyWeight); err != nil {
			return err
		}
		keep(&s.App, app)
		keep(&s.Stream, stream)
		keep(&s.Region, region)
		keep(&s.ISP, isp)
		keep(&s.Client, client)
		keep(&s.Device, device)
		keep(&s.Arms, arms)
		if kind == "final" {
			s.EndReason = end
		}
		s.add(&x, at)
	}
	return rows.Err()
}

// add puts a slice into the stay it belongs to; a slice without CDN belongs to the one before.
func (s *Story) add(x *Stay, at time.Time) {
	n := len(s.Stays)
	if n == 0 || x.CDN != "" && s.Stays[n-1].CDN != "" && s.Stays[n-1].CDN != x.CDN {
		s.Stays = append(s.Stays, Stay{CDN: x.CDN, From: at})
		n++
	}
	y := &s.Stays[n-1]
	if y.CDN == "" {
		y.CDN = x.CDN
	}
	y.To = at
	y.StartupMs += x.StartupMs
	y.Starts += x.Starts
	y.PlayedMs += x.PlayedMs
	y.StalledMs += x.StalledMs
	y.Stalls += x.Stalls
	y.StartFailures += x.StartFailures
	y.PlayFailures += x.PlayFailures
	y.RequestErrors += x.RequestErrors
	y.LostReports += x.LostReports
	y.latencySum += x.latencySum
	y.latencyWeight += x.latencyWeight
	if y.latencyWeight > 0 {
		y.LatencyMs = y.latencySum / y.latencyWeight
	}
}

func quote(name string) string { return "`" + strings.ReplaceAll(name, "`", "") + "`" }
