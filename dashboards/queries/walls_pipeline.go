package queries

import "strconv"

func experiments(th Thresholds) Wall {
	rows := func(columns ...string) string {
		return rolled("arm_", whereExperiment, append([]string{"concat(experiment, ': ', arm) AS name", "experiment", "arm"}, columns...)...)
	}
	over := func(id, title, unit, expr, name string, warn, bad float64, columns ...string) Panel {
		return Panel{ID: id, Title: title, Kind: TimeSeries, Unit: unit, Width: 12, Height: 8, MinInterval: "1m", Warn: warn, Bad: bad,
			SQL: byLabel(rows(columns...), "name", expr, name), Columns: cols(at("time"), text("name"), of(name, unit))}
	}
	quantile := func(id, title, hist string, warn, bad float64) Panel {
		return Panel{ID: id, Title: title, Kind: TimeSeries, Unit: UnitMs, Width: 12, Height: 8, MinInterval: "1m", Warn: warn, Bad: bad,
			SQL:     quantilesBy(rows(hist), "name", hist, level{"0.5", "p50_ms"}, level{"0.9", "p90_ms"}),
			Columns: cols(at("time"), text("name"), of("p50_ms", UnitMs), of("p90_ms", UnitMs))}
	}
	return Wall{
		UID: WallExperiments, Title: "Spillway: experiments", From: "now-24h", Refresh: "1m",
		Description: "Arms side by side. Whether a difference is one is not read off here: the report tells (spillway experiment report, or the console).",
		Variables:   []Variable{experimentVar}, Annotations: annotations()[:3],
		Sections: []Section{
			{Title: "Arms of the range", Panels: []Panel{
				{ID: "exp-arms", Title: "Arms", Kind: Table, Width: 24, Height: 8,
					SQL: `WITH
    ` + Quantiles + `
SELECT experiment, arm, sum(sessions) AS sessions, ` + hours + ` AS hours, ` + stallRatio + ` AS stall_ratio, ` + startFailRatio + ` AS start_failure_ratio` +
						levelsOf("first_screen", []level{{"0.5", "first_screen_p50_ms"}, {"0.9", "first_screen_p90_ms"}}) + levelsOf("latency", []level{{"0.5", "latency_p50_ms"}}) + `,
    ` + bitrateMean + ` AS bitrate_kbps
FROM ` + rows("sessions", "played_ms", "stalled_ms", "start_failures", "attempts", "first_screen", "latency", "bitrate_kbps_ms_sum", "bitrate_weight_ms") + `
GROUP BY experiment, arm
ORDER BY experiment, arm`,
					Columns: cols(text("experiment"), text("arm"), of("sessions", UnitNone), of("hours", "h"), of("stall_ratio", UnitPercent), of("start_failure_ratio", UnitPercent),
						of("first_screen_p50_ms", UnitMs), of("first_screen_p90_ms", UnitMs), of("latency_p50_ms", UnitMs), of("bitrate_kbps", "Kbits"))},
			}},
			{Title: "Over time", Panels: []Panel{
				over("exp-sessions", "Sessions", UnitNone, "sum(sessions)", "sessions", 0, 0, "sessions"),
				over("exp-stall", "Stall ratio", UnitPercent, stallRatio, "stall_ratio", th.StallWarn, th.StallBad, "played_ms", "stalled_ms"),
				quantile("exp-first-screen", "First screen, p50 and p90", "first_screen", th.FirstScreenWarnMs, th.FirstScreenBadMs),
				quantile("exp-latency", "Live latency, p50 and p90", "latency", th.LatencyWarnMs, th.LatencyBadMs),
				over("exp-lost", "Reports lost, of those sent", UnitPercent, "sum(lost_reports) / nullIf(sum(reports) + sum(lost_reports), 0)", "lost_ratio", 0, 0, "reports", "lost_reports"),
				{ID: "exp-changes", Title: "Changes", Kind: Table, Width: 12, Height: 8,
					SQL: `SELECT time, detail['experiment'] AS experiment, reason
FROM events
WHERE kind = 'experiment_changed' AND $__timeFilter(time)
ORDER BY time DESC
LIMIT 100`, Columns: cols(at("time"), text("experiment"), text("reason"))},
			}},
		},
	}
}

// busState unfolds what the role alerts tells of the bus: one row for each value
// whose key begins with the prefix.
func busState(prefix string) string {
	return `(
    SELECT time, substring(k, ` + strconv.Itoa(len(prefix)+1) + `) AS name, toFloat64OrZero(v) AS value
    FROM (SELECT time, arrayJoin(mapFilter((name, v) -> startsWith(name, '` + prefix + `'), detail)) AS kv, kv.1 AS k, kv.2 AS v FROM events WHERE kind = 'bus_state' AND $__timeFilter(time))
)`
}

func pipeline() Wall {
	bus := func(id, title, unit, prefix, expr, name, description string) Panel {
		return Panel{ID: id, Title: title, Kind: TimeSeries, Unit: unit, Width: 12, Height: 8, MinInterval: "1m", Description: description,
			SQL: `SELECT $__timeInterval(time) AS step, name, ` + expr + ` AS ` + name + `
FROM ` + busState(prefix) + `
GROUP BY step, name
ORDER BY step, name`, Columns: cols(at("step"), text("name"), of(name, unit))}
	}
	return Wall{
		UID: WallPipeline, Title: "Spillway: pipeline", From: "now-1h", Refresh: "30s",
		Description: "Whether telemetry arrives, in time and completely; how far workers are behind; what was rejected. What the bus does is told by the role alerts once a minute.",
		Variables:   []Variable{appVar}, Annotations: annotations()[:2],
		Sections: []Section{
			{Title: "Balance", Panels: []Panel{
				{ID: "pipe-balance", Title: "Telemetry balance of the range", Kind: Stat, Unit: UnitNone, Width: 12, Height: 5,
					Description: "Raw rows of playback sessions, and rows that session slices account for. They agree once the last rows are loaded; a difference that stays is a loss or a repeat. Rows at the edges of the range may fall on different sides.",
					SQL: `SELECT
    (SELECT sum(r.session_rows) FROM rollup_rows AS r WHERE r.time > $__fromTime - INTERVAL 10 SECOND AND r.time <= $__toTime AND ` + whereApp + `) AS raw_rows,
    (SELECT sum(reports) FROM ` + rolled("", whereApp, "reports") + `) AS accounted_rows,
    raw_rows - accounted_rows AS difference`,
					Columns: cols(of("raw_rows", UnitNone), of("accounted_rows", UnitNone), of("difference", UnitNone))},
				{ID: "pipe-age", Title: "Age of the newest row in ClickHouse", Kind: Stat, Unit: UnitMs, Width: 12, Height: 5, Warn: 5000, Bad: 30000,
					Description: "How long ago the newest raw row was received and the newest slice attributed; grows when loader or sessioniser stand still, or when nobody watches.",
					SQL: `SELECT
    dateDiff('millisecond', (SELECT max(received_at) FROM telemetry), now64(3)) AS raw_ms,
    dateDiff('millisecond', (SELECT max(s.time) FROM session_slices AS s), now64(3)) AS slices_ms`,
					Columns: cols(of("raw_ms", UnitMs), of("slices_ms", UnitMs))},
			}},
			{Title: "Bus and workers", Panels: []Panel{
				bus("pipe-lag", "Messages that consumers are behind", UnitNone, "pending.", "max(value)", "pending", "Messages stored and not yet given to the consumer, and given and not yet acknowledged."),
				bus("pipe-throughput", "Throughput of consumers", UnitPerSec, "rate.", "avg(value)", "per_second", "Messages acknowledged, a second."),
				bus("pipe-dead", "Dead letters", UnitNone, "dead.", "max(value)", "messages", "Messages that a role rejected, kept in the stream DEAD."),
				bus("pipe-stored", "What streams hold", UnitBytes, "bytes.", "max(value)", "bytes", "Bytes of each stream of the bus."),
			}},
			{Title: "Flow", Panels: []Panel{
				{ID: "pipe-rows", Title: "Raw rows by source", Kind: TimeSeries, Unit: UnitPerSec, Width: 12, Height: 8, MinInterval: "10s",
					SQL: `SELECT $__timeInterval(r.time) AS step, source, sum(r.rows) / $__interval_s AS per_second
FROM rollup_rows AS r
WHERE $__timeFilter(r.time) AND ` + whereApp + `
GROUP BY step, source
ORDER BY step, source`, Columns: cols(at("step"), text("source"), of("per_second", UnitPerSec))},
				{ID: "pipe-accounted", Title: "Raw rows and rows accounted for", Kind: TimeSeries, Unit: UnitPerSec, Width: 12, Height: 8, MinInterval: "1m",
					SQL: `SELECT time, kind, sum(n) / ` + stepS + ` AS per_second
FROM (
    SELECT toStartOfInterval(r.time, toIntervalSecond(` + stepS + `)) AS time, 'raw' AS kind, sum(r.session_rows) AS n FROM rollup_rows AS r
    WHERE $__timeFilter(r.time) AND ` + whereApp + ` GROUP BY time
    UNION ALL
    SELECT ` + stepTime + ` AS time, 'in slices' AS kind, sum(reports) AS n FROM ` + rolled("", whereApp, "reports") + ` GROUP BY time
)
GROUP BY time, kind
ORDER BY time, kind`, Columns: cols(at("time"), text("kind"), of("per_second", UnitPerSec))},
				{ID: "pipe-lost", Title: "Reports lost before they reached us", Kind: TimeSeries, Unit: UnitNone, Width: 12, Height: 8, MinInterval: "1m",
					Description: "Gaps in the sequence numbers of players (CMCD sn).",
					SQL:         byLabel(rolled("", "cdn != '' AND "+whereApp, "cdn", "lost_reports"), "cdn", "sum(lost_reports)", "lost_reports"), Columns: line("lost_reports", UnitNone)},
				{ID: "pipe-gates", Title: "Values dropped as implausible", Kind: TimeSeries, Unit: UnitNone, Width: 12, Height: 8, MinInterval: "10s",
					SQL: `SELECT $__timeInterval(r.time) AS step, arrayJoin(splitByChar('|', toString(gates))) AS gate, sum(r.rows) AS values
FROM rollup_rows AS r
WHERE $__timeFilter(r.time) AND gates != '' AND ` + whereApp + `
GROUP BY step, gate
ORDER BY step, gate`, Columns: cols(at("step"), text("gate"), of("values", UnitNone))},
				{ID: "pipe-refused", Title: "Records that collectors refused", Kind: TimeSeries, Unit: UnitNone, Width: 12, Height: 8, MinInterval: "1m",
					SQL: `SELECT $__timeInterval(time) AS step, substring(k, 10) AS why, sum(toInt64OrZero(v)) AS records
FROM (SELECT time, arrayJoin(detail) AS kv, kv.1 AS k, kv.2 AS v FROM (SELECT * FROM events WHERE kind = 'collector_counts' AND $__timeFilter(time) LIMIT 1 BY id))
WHERE startsWith(k, 'rejected.')
GROUP BY step, why
ORDER BY step, why`, Columns: cols(at("step"), text("why"), of("records", UnitNone))},
				bus("pipe-clickhouse", "Time ClickHouse takes for the alerts' questions", UnitMs, "query_ms.", "max(value)", "took_ms", ""),
			}},
			{Title: "What happened", Panels: []Panel{
				{ID: "pipe-decisions", Title: "Decisions by reason", Kind: TimeSeries, Unit: UnitNone, Width: 12, Height: 8, MinInterval: "1m",
					SQL: `SELECT toStartOfInterval(minute, toIntervalSecond(` + stepS + `)) AS time, reason_code, sum(d.decisions) AS decisions
FROM rollup_decisions AS d
WHERE $__timeFilter(minute) AND ` + whereApp + `
GROUP BY time, reason_code
ORDER BY time, reason_code`, Columns: cols(at("time"), text("reason_code"), of("decisions", UnitNone))},
				{ID: "pipe-events", Title: "Events of the system", Kind: Table, Width: 12, Height: 8,
					Description: "Refused publishers, back-pressure, pictures that failed, workers lost.",
					SQL: `SELECT time, kind, concat(app, '/', stream) AS name, reason
FROM events
WHERE $__timeFilter(time) AND kind IN ('publish_refused', 'second_publisher', 'back_pressure', 'picture_failed', 'packager_covered', 'cdn_fault', 'cdn_changed', 'alert_opened', 'alert_resolved',
    'transcode_failed', 'transcode_behind', 'pull_failed', 'no_key')
ORDER BY time DESC
LIMIT 100`, Columns: cols(at("time"), text("kind"), text("name"), text("reason"))},
			}},
		},
	}
}
