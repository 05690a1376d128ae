package queries

func qoe() Wall {
	over := func(expr, name string) string {
		return `SELECT $__timeInterval(minute) AS time, ` + expr + ` AS ` + name + `
FROM v_cdn_minute
WHERE $__timeFilter(minute) AND ` + whereApp + ` AND ` + whereCDN + `
GROUP BY time
ORDER BY time`
	}
	return Wall{
		UID: WallQoE, Title: "Spillway: quality of experience", Tags: []string{"spillway"}, From: "now-3h", Refresh: "30s",
		Description: "What viewers saw: totals, distributions, and where it differs by player and device.",
		Variables:   []Variable{appVar, cdnVar},
		Sections: []Section{
			{Title: "Totals of the range", Panels: []Panel{
				stat("qoe-hours", "Hours watched", "h", "sum(played_ms + stalled_ms) / 3600000", "hours"),
				stat("qoe-sessions", "Sessions", UnitNone, "sum(sessions)", "sessions"),
				thresholds(stat("qoe-stall", "Stall ratio", UnitPercent, "sum(stalled_ms) / nullIf(sum(played_ms) + sum(stalled_ms), 0)", "stall_ratio"), StallWarn, StallBad),
				thresholds(stat("qoe-start-failures", "Start failures", UnitPercent, "sum(start_failures) / nullIf(sum(attempts), 0)", "ratio"), 0.01, 0.05),
				stat("qoe-exits", "Exits before the first frame", UnitPercent, "sum(exits_before_start) / nullIf(sum(attempts), 0)", "ratio"),
				stat("qoe-stalls-hour", "Stalls an hour", UnitNone, "sum(stalls) * 3600000 / nullIf(sum(played_ms) + sum(stalled_ms), 0)", "stalls"),
			}},
			{Title: "Over time", Panels: []Panel{
				{ID: "qoe-stall-time", Title: "Stall ratio", Kind: TimeSeries, Unit: UnitPercent, Width: 12, Height: 8, MinInterval: "1m", Warn: StallWarn, Bad: StallBad,
					SQL: over("sum(stalled_ms) / nullIf(sum(played_ms) + sum(stalled_ms), 0)", "stall_ratio"), Columns: cols(at("time"), of("stall_ratio", UnitPercent))},
				{ID: "qoe-bitrate", Title: "Bitrate watched", Kind: TimeSeries, Unit: "Kbits", Width: 12, Height: 8, MinInterval: "1m",
					SQL:     over("sum(bitrate_kbps * played_ms) / nullIf(sumIf(played_ms, bitrate_kbps IS NOT NULL), 0)", "bitrate_kbps"),
					Columns: cols(at("time"), of("bitrate_kbps", "Kbits"))},
				{ID: "qoe-first-screen", Title: "First screen by player, p50 and p90", Kind: TimeSeries, Unit: UnitMs, Width: 12, Height: 8, MinInterval: "1m",
					SQL: quantiles("client", "first_screen", "p50_ms", "p90_ms", "0.5", "0.9"), Columns: cols(at("time"), text("client"), of("p50_ms", UnitMs), of("p90_ms", UnitMs))},
				{ID: "qoe-latency", Title: "Live latency by player, p50 and p95", Kind: TimeSeries, Unit: UnitMs, Width: 12, Height: 8, MinInterval: "1m",
					SQL: quantiles("client", "latency", "p50_ms", "p95_ms", "0.5", "0.95"), Columns: cols(at("time"), text("client"), of("p50_ms", UnitMs), of("p95_ms", UnitMs))},
			}},
			{Title: "Distributions", Panels: []Panel{
				distribution("qoe-first-screen-bars", "First screen of the range", "first_screen"),
				distribution("qoe-latency-bars", "Live latency of the range", "latency"),
			}},
			{Title: "By player and device", Panels: []Panel{
				{ID: "qoe-clients", Title: "Players and devices", Kind: Table, Width: 24, Height: 9,
					SQL: `SELECT client, device, sum(played_ms + stalled_ms) / 3600000 AS hours, sum(sessions) AS sessions,
    sum(stalled_ms) / nullIf(sum(played_ms) + sum(stalled_ms), 0) AS stall_ratio,
    sum(start_failures) / nullIf(sum(attempts), 0) AS start_failure_ratio,
    sum(dropped_frames) AS dropped_frames
FROM v_client_minute
WHERE $__timeFilter(minute) AND ` + whereApp + `
GROUP BY client, device
ORDER BY hours DESC
LIMIT 100`,
					Columns: cols(text("client"), text("device"), of("hours", "h"), of("sessions", UnitNone), of("stall_ratio", UnitPercent),
						of("start_failure_ratio", UnitPercent), of("dropped_frames", UnitNone))},
			}},
		},
	}
}

func stat(id, title, unit, expr, name string) Panel {
	return Panel{
		ID: id, Title: title, Kind: Stat, Unit: unit, Width: 4, Height: 4, Columns: cols(of(name, unit)),
		SQL: `SELECT ` + expr + ` AS ` + name + `
FROM v_cdn_minute
WHERE $__timeFilter(minute) AND ` + whereApp + ` AND ` + whereCDN,
	}
}

func thresholds(p Panel, warn, bad float64) Panel {
	p.Warn, p.Bad = warn, bad
	return p
}

// distribution is a bar for each doubling of a log-histogram: bins have a width of 2 %, 35 of them double.
func distribution(id, title, hist string) Panel {
	return Panel{
		ID: id, Title: title, Kind: Bar, Unit: UnitNone, Width: 12, Height: 8,
		Description: "Counts by size; each bar reaches to twice the one before it. Failed and abandoned starts are the last bar.",
		SQL: `SELECT if(octave >= 100, 'never', concat('up to ', toString(round(exp((octave + 1) * 35 * 0.01980262729617973))), ' ms')) AS size, n AS attempts
FROM (
    SELECT if(bin >= 1073741824, 100, intDiv(bin, 35)) AS octave, sum(c) AS n
    FROM (SELECT sumMap(` + hist + `) AS h FROM rollup_minute WHERE $__timeFilter(minute) AND ` + whereApp + ` AND ` + whereCDN + `)
    ARRAY JOIN mapKeys(h) AS bin, mapValues(h) AS c
    GROUP BY octave
)
ORDER BY octave`,
		Columns: cols(text("size"), of("attempts", UnitNone)),
	}
}

func pipeline() Wall {
	return Wall{
		UID: WallPipeline, Title: "Spillway: pipeline", Tags: []string{"spillway"}, From: "now-1h", Refresh: "30s",
		Description: "Whether telemetry arrives, in time and completely. Lags of the bus itself are on the roles' Prometheus metrics.",
		Variables:   []Variable{appVar, cdnVar},
		Sections: []Section{
			{Title: "Balance", Panels: []Panel{
				{ID: "pipe-balance", Title: "Telemetry balance of the range", Kind: Stat, Unit: UnitNone, Width: 12, Height: 5,
					Description: "Raw rows of playback sessions, and rows that session slices account for. They agree once the last rows are loaded; a difference that stays is a loss or a repeat. Rows at the edges of the range may fall on different sides.",
					SQL: `SELECT
    (SELECT sum(r.session_rows) FROM rollup_rows AS r WHERE r.time > $__fromTime - INTERVAL 10 SECOND AND r.time <= $__toTime AND ` + whereApp + `) AS raw_rows,
    (SELECT sum(s.reports) FROM session_slices AS s WHERE $__timeFilter(s.time) AND ` + whereApp + `) AS accounted_rows,
    raw_rows - accounted_rows AS difference`,
					Columns: cols(of("raw_rows", UnitNone), of("accounted_rows", UnitNone), of("difference", UnitNone))},
				{ID: "pipe-age", Title: "Age of the newest row", Kind: Stat, Unit: UnitMs, Width: 12, Height: 5, Warn: 5000, Bad: 30000,
					Description: "How long ago the newest raw row was received and the newest slice attributed; grows when loader or sessioniser stand still, or when nobody watches.",
					SQL: `SELECT
    dateDiff('millisecond', (SELECT max(received_at) FROM telemetry), now64(3)) AS raw_ms,
    dateDiff('millisecond', (SELECT max(s.time) FROM session_slices AS s), now64(3)) AS slices_ms`,
					Columns: cols(of("raw_ms", UnitMs), of("slices_ms", UnitMs))},
			}},
			{Title: "Flow", Panels: []Panel{
				{ID: "pipe-rows", Title: "Raw rows by source", Kind: TimeSeries, Unit: UnitPerSec, Width: 12, Height: 8, MinInterval: "10s",
					SQL: `SELECT $__timeInterval(r.time) AS step, source, sum(r.rows) / $__interval_s AS per_second
FROM rollup_rows AS r
WHERE $__timeFilter(r.time) AND ` + whereApp + `
GROUP BY step, source
ORDER BY step, source`, Columns: cols(at("step"), text("source"), of("per_second", UnitPerSec))},
				{ID: "pipe-accounted", Title: "Raw rows and rows accounted for", Kind: TimeSeries, Unit: UnitPerSec, Width: 12, Height: 8, MinInterval: "10s",
					SQL: `SELECT time, kind, sum(n) / $__interval_s AS per_second
FROM (
    SELECT $__timeInterval(r.time) AS time, 'raw' AS kind, sum(r.session_rows) AS n FROM rollup_rows AS r
    WHERE $__timeFilter(r.time) AND ` + whereApp + ` GROUP BY time
    UNION ALL
    SELECT $__timeInterval(s.time) AS time, 'in slices' AS kind, sum(s.reports) AS n FROM session_slices AS s
    WHERE $__timeFilter(s.time) AND ` + whereApp + ` GROUP BY time
)
GROUP BY time, kind
ORDER BY time, kind`, Columns: cols(at("time"), text("kind"), of("per_second", UnitPerSec))},
				{ID: "pipe-lost", Title: "Reports lost before they reached us", Kind: TimeSeries, Unit: UnitNone, Width: 12, Height: 8, MinInterval: "1m",
					Description: "Gaps in the sequence numbers of players (CMCD sn).",
					SQL:         over("sum(lost_reports)", "lost_reports"), Columns: line("lost_reports", UnitNone)},
				{ID: "pipe-gates", Title: "Values dropped as implausible", Kind: TimeSeries, Unit: UnitNone, Width: 12, Height: 8, MinInterval: "10s",
					SQL: `SELECT $__timeInterval(r.time) AS step, arrayJoin(splitByChar('|', toString(gates))) AS gate, sum(r.rows) AS values
FROM rollup_rows AS r
WHERE $__timeFilter(r.time) AND gates != '' AND ` + whereApp + `
GROUP BY step, gate
ORDER BY step, gate`, Columns: cols(at("step"), text("gate"), of("values", UnitNone))},
			}},
			{Title: "What happened", Panels: []Panel{
				{ID: "pipe-decisions", Title: "Decisions by reason", Kind: TimeSeries, Unit: UnitNone, Width: 12, Height: 8, MinInterval: "10s",
					SQL: `SELECT $__timeInterval(time) AS step, reason_code, count() AS decisions
FROM decisions
WHERE $__timeFilter(time) AND ` + whereApp + `
GROUP BY step, reason_code
ORDER BY step, reason_code`, Columns: cols(at("step"), text("reason_code"), of("decisions", UnitNone))},
				{ID: "pipe-events", Title: "Events of the system", Kind: Table, Width: 12, Height: 8,
					Description: "Refused publishers, back-pressure, pictures that failed, workers lost.",
					SQL: `SELECT time, kind, concat(app, '/', stream) AS name, reason
FROM events
WHERE $__timeFilter(time) AND kind IN ('publish_refused', 'second_publisher', 'back_pressure', 'picture_failed', 'packager_covered', 'cdn_fault', 'cdn_changed')
ORDER BY time DESC
LIMIT 100`, Columns: cols(at("time"), text("kind"), text("name"), text("reason"))},
			}},
		},
	}
}
