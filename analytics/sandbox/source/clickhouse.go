package source

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/spillway-live/spillway/analytics/sandbox/predict"
)

// sessionsSQL joins closed sessions with the decision that began them and the
// throughput that their players measured; sessions whose player told nothing are
// left out. {db} is the database.
const sessionsSQL = `
SELECT s.session_id, s.viewer_id, toFloat64(toUnixTimestamp64Milli(s.first_time)) / 1000,
	toFloat64(toUnixTimestamp64Milli(s.last_time) - toUnixTimestamp64Milli(s.first_time)) / 1000,
	toString(s.region), toString(s.isp), if(ifNull(d.chosen, '') = '', toString(s.cdn), ifNull(d.chosen, '')), ifNull(d.probability, 0),
	toBool(ifNull(s.starts, 0) > 0), ifNull(s.startup_ms / nullIf(s.starts, 0) / 1000, 0), ifNull(s.played_ms, 0) / 1000, ifNull(s.stalled_ms, 0) / 1000,
	toInt64(ifNull(s.stalls, 0)), ifNull(s.latency_mean_ms, 0) / 1000,
	if(ifNull(s.request_bytes, 0) > 0, toFloat64(ifNull(s.request_bytes, 0)), ifNull(s.bitrate_kbps, 0) * ifNull(s.played_ms, 0) / 8), ifNull(t.bps, 0),
	toFloat64(ifNull(s.requests, 0)), toFloat64(ifNull(s.request_errors, 0))
FROM {db}.v_sessions AS s
LEFT JOIN (
	SELECT session_id, argMin(toString(chosen), time) AS chosen, argMin(probability, time) AS probability FROM {db}.decisions
	WHERE kind IN ('dispatch', 'multivariant') AND time >= ? AND time < ? GROUP BY session_id
) AS d ON d.session_id = s.session_id
LEFT JOIN (
	SELECT session_id, avg(throughput_kbps) * 1000 AS bps FROM {db}.telemetry
	WHERE throughput_kbps > 0 AND received_at >= ? AND received_at < ? GROUP BY session_id
) AS t ON t.session_id = s.session_id
WHERE s.final AND s.starts IS NOT NULL AND s.first_time >= ? AND s.first_time < ? AND if(ifNull(d.chosen, '') = '', toString(s.cdn), ifNull(d.chosen, '')) != ''
ORDER BY s.first_time LIMIT {limit}`

// ClickHouse reads the sessions that began in a time and are closed. The CDNs and
// the player are not in ClickHouse: the caller adds them.
func ClickHouse(ctx context.Context, conn driver.Conn, database string, from, to time.Time) (*predict.Recording, error) {
	sql := strings.NewReplacer("{db}", "`"+strings.ReplaceAll(database, "`", "``")+"`", "{limit}", fmt.Sprint(MaxSessions)).Replace(sessionsSQL)
	// Decisions come shortly before the first slice, telemetry up to a day behind.
	rows, err := conn.Query(ctx, sql, from.Add(-time.Minute), to, from, to.Add(24*time.Hour), from, to)
	if err != nil {
		return nil, fmt.Errorf("read sessions from ClickHouse: %w", err)
	}
	defer rows.Close()
	r := &predict.Recording{}
	for rows.Next() {
		var s predict.Session
		var started bool
		var stalls int64
		if err := rows.Scan(&s.ID, &s.Viewer, &s.AtSec, &s.WatchSec, &s.Region, &s.ISP, &s.CDN, &s.Probability, &started, &s.FirstScreenSec,
			&s.PlayedSec, &s.StalledSec, &stalls, &s.LatencySec, &s.Bytes, &s.ThroughputBps, &s.Requests, &s.RequestErrors); err != nil {
			return nil, fmt.Errorf("read sessions from ClickHouse: %w", err)
		}
		s.Started, s.Stalls = started, int(stalls)
		r.Sessions = append(r.Sessions, s)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read sessions from ClickHouse: %w", err)
	}
	return r, nil
}
