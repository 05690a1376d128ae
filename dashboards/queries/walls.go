package queries

// The UIDs of the walls.
const (
	WallCDNs     = "spillway-cdn-health"
	WallStreams  = "spillway-streams"
	WallQoE      = "spillway-qoe"
	WallPipeline = "spillway-pipeline"
)

func text(name string) Column      { return Column{name, UnitText} }
func at(name string) Column        { return Column{name, UnitTime} }
func of(name, unit string) Column  { return Column{name, unit} }
func cols(c ...Column) []Column    { return c }
func line(name, u string) []Column { return cols(at("time"), text("cdn"), of(name, u)) }

// over is a time series by CDN of one expression over v_cdn_minute: f says how
// minutes become a longer step.
func over(expr, name string) string {
	return `SELECT $__timeInterval(minute) AS time, cdn, ` + expr + ` AS ` + name + `
FROM v_cdn_minute
WHERE $__timeFilter(minute) AND cdn != '' AND ` + whereApp + ` AND ` + whereCDN + `
GROUP BY time, cdn
ORDER BY time, cdn`
}

// meanOverMinutes adds applications up within a minute and averages the minutes of a step.
func meanOverMinutes(column string) string {
	return `SELECT $__timeInterval(minute) AS time, cdn, avg(one) AS ` + column + `
FROM (
    SELECT minute, cdn, sum(` + column + `) AS one
    FROM v_cdn_minute
    WHERE $__timeFilter(minute) AND cdn != '' AND ` + whereApp + ` AND ` + whereCDN + `
    GROUP BY minute, cdn
)
GROUP BY time, cdn
ORDER BY time, cdn`
}

// quantiles is a time series by label of two levels of a histogram of rollup_minute.
func quantiles(label, hist, a, b string, pa, pb string) string {
	return `WITH
    ` + Quantiles + `
SELECT $__timeInterval(minute) AS time, ` + label + `,
    log_quantile(sumMap(` + hist + `), ` + pa + `) AS ` + a + `,
    log_quantile(sumMap(` + hist + `), ` + pb + `) AS ` + b + `
FROM rollup_minute
WHERE $__timeFilter(minute) AND ` + label + ` != '' AND ` + whereApp + ` AND ` + whereCDN + `
GROUP BY time, ` + label + `
ORDER BY time, ` + label
}

func cdnHealth() Wall {
	return Wall{
		UID: WallCDNs, Title: "Spillway: CDN health", Tags: []string{"spillway"}, From: "now-1h", Refresh: "10s",
		Description: "Every CDN side by side: viewers, egress, stalls, first screen, latency, failures.",
		Variables:   []Variable{appVar, cdnVar},
		Sections: []Section{
			{Title: "Now", Panels: []Panel{
				{
					ID: "cdn-now", Title: "Last 20 seconds", Kind: Table, Width: 24, Height: 7,
					Description: "From session slices, which arrive each second. Viewers are sessions heard of in the last 30 s and not ended.",
					SQL: `SELECT cdn, viewers, stall_ratio, latency_ms, bitrate_kbps, egress_bps, request_error_ratio, failures
FROM (
    WITH s.time >= $__toTime - INTERVAL 20 SECOND AS recent
    SELECT s.cdn AS cdn,
        sumIf(s.stalled_ms, recent) / nullIf(sumIf(s.played_ms + s.stalled_ms, recent), 0) AS stall_ratio,
        sumIf(s.latency_ms_sum, recent) / nullIf(sumIf(s.latency_weight_ms, recent), 0) AS latency_ms,
        sumIf(s.bitrate_kbps_ms_sum, recent) / nullIf(sumIf(s.bitrate_weight_ms, recent), 0) AS bitrate_kbps,
        sumIf(s.request_bytes, recent) * 8 / 20 AS egress_bps,
        sumIf(s.request_errors, recent) / nullIf(sumIf(s.requests, recent), 0) AS request_error_ratio,
        sumIf(s.start_failures + s.playback_failures, recent) AS failures
    FROM session_slices AS s
    WHERE s.time >= $__toTime - INTERVAL 30 SECOND AND s.time <= $__toTime AND s.cdn != '' AND ` + whereApp + ` AND ` + whereCDN + `
    GROUP BY cdn
) AS q
LEFT JOIN (
    SELECT cdn, countIf(ended = 0) AS viewers
    FROM (
        SELECT argMaxIf(v.cdn, (v.time, v.bus_seq, v.bus_row), v.cdn != '') AS cdn, sum(v.ended) AS ended
        FROM session_slices AS v
        WHERE v.time >= $__toTime - INTERVAL 30 SECOND AND v.time <= $__toTime AND ` + whereApp + `
        GROUP BY v.app, v.stream, v.session_id
    )
    GROUP BY cdn
) AS w USING (cdn)
ORDER BY cdn`,
					Columns: cols(text("cdn"), of("viewers", UnitNone), of("stall_ratio", UnitPercent), of("latency_ms", UnitMs), of("bitrate_kbps", "Kbits"),
						of("egress_bps", UnitBps), of("request_error_ratio", UnitPercent), of("failures", UnitNone)),
					LinkWall: WallStreams, LinkVar: "cdn",
				},
			}},
			{Title: "Over time", Panels: []Panel{
				{ID: "cdn-viewers", Title: "Viewers", Kind: TimeSeries, Unit: UnitNone, Width: 12, Height: 8, MinInterval: "1m",
					Description: "Concurrent viewers: time played, stalled and seeking over the length of each minute, mean of the minutes of a step.",
					SQL:         meanOverMinutes("viewers"), Columns: line("viewers", UnitNone)},
				{ID: "cdn-egress", Title: "Egress", Kind: TimeSeries, Unit: UnitBps, Width: 12, Height: 8, MinInterval: "1m",
					Description: "Bytes sent by the CDN's edges as they report them. Capacities are in the registry, which the console shows.",
					SQL:         meanOverMinutes("egress_bps"), Columns: line("egress_bps", UnitBps)},
				{ID: "cdn-stall", Title: "Stall ratio", Kind: TimeSeries, Unit: UnitPercent, Width: 12, Height: 8, MinInterval: "1m", Warn: StallWarn, Bad: StallBad,
					Description: "Stalled time / (played + stalled time).",
					SQL:         over("sum(stalled_ms) / nullIf(sum(played_ms) + sum(stalled_ms), 0)", "stall_ratio"), Columns: line("stall_ratio", UnitPercent)},
				{ID: "cdn-first-screen", Title: "First screen, p50 and p90", Kind: TimeSeries, Unit: UnitMs, Width: 12, Height: 8, MinInterval: "1m",
					Description: "Start-up time of all attempts decided; failed and abandoned starts count as infinite. From merged histograms, so a step of any length is exact to 1 %.",
					SQL:         quantiles("cdn", "first_screen", "p50_ms", "p90_ms", "0.5", "0.9"),
					Columns:     cols(at("time"), text("cdn"), of("p50_ms", UnitMs), of("p90_ms", UnitMs))},
				{ID: "cdn-latency", Title: "Live latency, p50 and p90", Kind: TimeSeries, Unit: UnitMs, Width: 12, Height: 8, MinInterval: "1m",
					SQL:     quantiles("cdn", "latency", "p50_ms", "p90_ms", "0.5", "0.9"),
					Columns: cols(at("time"), text("cdn"), of("p50_ms", UnitMs), of("p90_ms", UnitMs))},
				{ID: "cdn-failures", Title: "Failures", Kind: TimeSeries, Unit: UnitNone, Width: 12, Height: 8, MinInterval: "1m",
					Description: "Starts that failed and playbacks that failed after the first frame, a step.",
					SQL:         over("sum(start_failures) + sum(playback_failures)", "failures"), Columns: line("failures", UnitNone)},
				{ID: "cdn-request-errors", Title: "Request errors", Kind: TimeSeries, Unit: UnitPercent, Width: 12, Height: 8, MinInterval: "1m",
					Description: "Media requests answered 400 or above, or not at all, as edges report them.",
					SQL:         over("sum(request_error_ratio * requests) / nullIf(sum(requests), 0)", "request_error_ratio"), Columns: line("request_error_ratio", UnitPercent)},
				{ID: "cdn-moves", Title: "Where sessions are sent", Kind: TimeSeries, Unit: UnitNone, Width: 12, Height: 8, MinInterval: "10s",
					Description: "Routing decisions by the CDN chosen, a step.",
					SQL: `SELECT $__timeInterval(time) AS step, chosen AS cdn, count() AS decisions
FROM decisions
WHERE $__timeFilter(time) AND chosen != '' AND ` + whereApp + ` AND $__conditionalAll(chosen IN (${cdn:sqlstring}), $cdn)
GROUP BY step, cdn
ORDER BY step, cdn`, Columns: cols(at("step"), text("cdn"), of("decisions", UnitNone))},
			}},
			{Title: "Money", Panels: []Panel{
				{ID: "cdn-spend", Title: "This month", Kind: Table, Width: 24, Height: 6,
					Description: "Volume and spend of the month, UTC, by the registry's prices, tiers and commitments, as the role usage tells it once a minute. The share of the commitment beside that of the month: below it, the commitment will not be used up.",
					SQL: `SELECT cdn, toFloat64OrZero(said['gb']) AS gb, toFloat64OrZero(said['spend_usd']) AS spend_usd,
    if(toInt64OrZero(said['commit_gb']) > 0, toFloat64OrZero(said['commit_share']), NULL) AS commit_share, toFloat64OrZero(said['month_share']) AS month_share
FROM (
    SELECT cdn, argMax(detail, (time, bus_seq)) AS said
    FROM events
    WHERE kind = 'cdn_state' AND time >= toStartOfMonth(toDateTime($__toTime, 'UTC')) AND time <= $__toTime AND ` + whereCDN + `
    GROUP BY cdn
)
ORDER BY spend_usd DESC, cdn`,
					Columns: cols(text("cdn"), of("gb", UnitNone), of("spend_usd", UnitUSD), of("commit_share", UnitPercent), of("month_share", UnitPercent))},
			}},
			{Title: "Hop by hop", Panels: []Panel{
				{ID: "cdn-hops", Title: "Delay and loss by hop", Kind: Table, Width: 24, Height: 9,
					Description: "Sampled parts from publisher to player. Delays count from ingest's receipt of a part's last frame, by each machine's clock; failed are answers of 400 or above, or none, and parts that an origin lists as gaps.",
					SQL: `SELECT hop, cdn, sum(parts) AS seen, sum(failed_parts) AS failed,
    sum(failed_parts) / nullIf(sum(parts) + sum(failed_parts), 0) AS failed_share,
    sum(delay_mean_ms * parts) / nullIf(sumIf(parts, delay_mean_ms IS NOT NULL), 0) AS mean_ms,
    max(delay_p95_ms) AS worst_p95_ms
FROM v_hop_minute
WHERE $__timeFilter(minute) AND ` + whereApp + ` AND (cdn = '' OR ` + whereCDN + `)
GROUP BY hop, cdn
ORDER BY indexOf(['publish', 'ingest', 'stored', 'packaged', 'origin', 'edge', 'player'], hop), cdn`,
					Columns: cols(text("hop"), text("cdn"), of("seen", UnitNone), of("failed", UnitNone), of("failed_share", UnitPercent), of("mean_ms", UnitMs), of("worst_p95_ms", UnitMs))},
				{ID: "cdn-hop-delay", Title: "Delay at the edges, p95", Kind: TimeSeries, Unit: UnitMs, Width: 24, Height: 8, MinInterval: "1m",
					Description: "Worst minute of a step: from ingest to the first byte of an edge's answer.",
					SQL: `SELECT $__timeInterval(minute) AS time, cdn, max(delay_p95_ms) AS p95_ms
FROM v_hop_minute
WHERE $__timeFilter(minute) AND hop = 'edge' AND ` + whereApp + ` AND ` + whereCDN + `
GROUP BY time, cdn
ORDER BY time, cdn`, Columns: line("p95_ms", UnitMs)},
			}},
			{Title: "Where it hurts", Panels: []Panel{
				{ID: "cdn-audience", Title: "By region and provider", Kind: Table, Width: 24, Height: 9,
					SQL: `SELECT cdn, region, isp, sum(played_ms + stalled_ms) / 3600000 AS hours,
    sum(stalled_ms) / nullIf(sum(played_ms) + sum(stalled_ms), 0) AS stall_ratio,
    sum(start_failures) / nullIf(sum(attempts), 0) AS start_failure_ratio
FROM v_audience_minute
WHERE $__timeFilter(minute) AND cdn != '' AND ` + whereApp + ` AND ` + whereCDN + `
GROUP BY cdn, region, isp
ORDER BY stall_ratio DESC, hours DESC
LIMIT 100`,
					Columns:  cols(text("cdn"), text("region"), text("isp"), of("hours", "h"), of("stall_ratio", UnitPercent), of("start_failure_ratio", UnitPercent)),
					LinkWall: WallStreams, LinkVar: "cdn"},
			}},
		},
	}
}

func streams() Wall {
	return Wall{
		UID: WallStreams, Title: "Spillway: streams", Tags: []string{"spillway"}, From: "now-1h", Refresh: "30s",
		Description: "Streams by viewers and by quality, their publishers, and what happened to them.",
		Variables:   []Variable{appVar, cdnVar},
		Sections: []Section{
			{Title: "Viewers and quality", Panels: []Panel{
				{ID: "streams-top", Title: "Streams", Kind: Table, Width: 24, Height: 10,
					SQL: `SELECT app, stream, sum(played_ms + stalled_ms) / 3600000 AS hours, sum(sessions) AS sessions,
    sum(stalled_ms) / nullIf(sum(played_ms) + sum(stalled_ms), 0) AS stall_ratio,
    sum(start_failures) / nullIf(sum(attempts), 0) AS start_failure_ratio,
    sum(latency_mean_ms * played_ms) / nullIf(sumIf(played_ms, latency_mean_ms IS NOT NULL), 0) AS latency_ms
FROM v_stream_minute
WHERE $__timeFilter(minute) AND ` + whereApp + ` AND ` + whereCDN + `
GROUP BY app, stream
ORDER BY hours DESC
LIMIT 200`,
					Columns: cols(text("app"), text("stream"), of("hours", "h"), of("sessions", UnitNone), of("stall_ratio", UnitPercent),
						of("start_failure_ratio", UnitPercent), of("latency_ms", UnitMs))},
				{ID: "streams-viewers", Title: "Viewers of the ten largest", Kind: TimeSeries, Unit: UnitNone, Width: 24, Height: 9, MinInterval: "1m",
					SQL: `SELECT $__timeInterval(minute) AS time, name, avg(one) AS viewers
FROM (
    SELECT minute, concat(app, '/', stream) AS name, sum(viewers) AS one
    FROM v_stream_minute
    WHERE $__timeFilter(minute) AND ` + whereApp + ` AND ` + whereCDN + ` AND (app, stream) IN (
        SELECT app, stream FROM v_stream_minute WHERE $__timeFilter(minute) AND ` + whereApp + ` AND ` + whereCDN + `
        GROUP BY app, stream ORDER BY sum(played_ms + stalled_ms) DESC LIMIT 10)
    GROUP BY minute, name
)
GROUP BY time, name
ORDER BY time, name`, Columns: cols(at("time"), text("name"), of("viewers", UnitNone))},
			}},
			{Title: "Publishers", Panels: []Panel{
				{ID: "streams-fps", Title: "Frame rate", Kind: TimeSeries, Unit: UnitFPS, Width: 8, Height: 8, MinInterval: "10s",
					SQL: publisher("avg(fps)", "fps"), Columns: cols(at("time"), text("name"), of("fps", UnitFPS))},
				{ID: "streams-bitrate", Title: "Bitrate", Kind: TimeSeries, Unit: UnitBps, Width: 8, Height: 8, MinInterval: "10s",
					SQL: publisher("avg(publish_bps)", "bps"), Columns: cols(at("time"), text("name"), of("bps", UnitBps))},
				{ID: "streams-behind", Title: "Fallen behind real time", Kind: TimeSeries, Unit: UnitMs, Width: 8, Height: 8, MinInterval: "10s",
					SQL: publisher("sum(publish_stall_ms)", "behind_ms"), Columns: cols(at("time"), text("name"), of("behind_ms", UnitMs))},
			}},
			{Title: "What happened", Panels: []Panel{
				{ID: "streams-events", Title: "Events", Kind: Table, Width: 24, Height: 9,
					SQL: `SELECT time, kind, app, stream, cdn, reason
FROM events
WHERE $__timeFilter(time) AND kind NOT IN ('collector_counts', 'loader_left_out', 'cdn_state') AND (app = '' OR ` + whereApp + `)
ORDER BY time DESC
LIMIT 200`, Columns: cols(at("time"), text("kind"), text("app"), text("stream"), text("cdn"), text("reason"))},
			}},
		},
	}
}

// publisher is a time series by stream of what ingest reports about publishers.
func publisher(expr, name string) string {
	return `SELECT $__timeInterval(received_at) AS time, concat(app, '/', stream) AS name, ` + expr + ` AS ` + name + `
FROM telemetry
WHERE source = 'publisher' AND $__timeFilter(received_at) AND ` + whereApp + `
GROUP BY time, name
ORDER BY time, name
LIMIT 50000`
}
