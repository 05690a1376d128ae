package queries

// The UIDs of the walls.
const (
	WallCDNs        = "spillway-cdn-health"
	WallStreams     = "spillway-streams"
	WallSession     = "spillway-session"
	WallQoE         = "spillway-qoe"
	WallExperiments = "spillway-experiments"
	WallPipeline    = "spillway-pipeline"
)

func text(name string) Column      { return Column{name, UnitText} }
func at(name string) Column        { return Column{name, UnitTime} }
func of(name, unit string) Column  { return Column{name, unit} }
func cols(c ...Column) []Column    { return c }
func line(name, u string) []Column { return cols(at("time"), text("cdn"), of(name, u)) }

// toStreams opens the streams of a CDN.
var toStreams = []Link{{Column: "cdn", Wall: WallStreams, Vars: map[string]string{"cdn": "cdn"}}}

// cdnState is what the role usage told last of each CDN in the range's last minutes.
const cdnState = `(
    SELECT cdn, argMax(detail, (time, bus_seq)) AS d
    FROM events
    WHERE kind = 'cdn_state' AND detail['state'] != '' AND time > $__toTime - INTERVAL 10 MINUTE AND time <= $__toTime AND ` + whereCDN + `
    GROUP BY cdn
)`

func cdnHealth(th Thresholds) Wall {
	rows := func(columns ...string) string {
		return rolled("", "cdn != '' AND "+whereBoth, append([]string{"cdn"}, columns...)...)
	}
	edges := func(columns ...string) string {
		return rolled("cdn_", "cdn != '' AND "+whereBoth, append([]string{"cdn"}, columns...)...)
	}
	series := func(id, title, unit, description, sql, name string, warn, bad float64) Panel {
		return Panel{ID: id, Title: title, Kind: TimeSeries, Unit: unit, Width: 12, Height: 8, MinInterval: "1m", Description: description,
			SQL: sql, Columns: line(name, unit), Warn: warn, Bad: bad, Links: toStreams}
	}
	quantile := func(id, title, hist string, levels []level, warn, bad float64, description string) Panel {
		c := cols(at("time"), text("cdn"))
		for _, l := range levels {
			c = append(c, of(l.name, UnitMs))
		}
		return Panel{ID: id, Title: title, Kind: TimeSeries, Unit: UnitMs, Width: 12, Height: 8, MinInterval: "1m", Description: description,
			SQL: quantilesBy(rows(hist), "cdn", hist, levels...), Columns: c, Warn: warn, Bad: bad, Links: toStreams}
	}
	return Wall{
		UID: WallCDNs, Title: "Spillway: CDN health", From: "now-1h", Refresh: "10s",
		Description: "Every CDN side by side: viewers, bandwidth against capacity, stalls, first screen, latency, errors, cost.",
		Variables:   []Variable{appVar, cdnVar}, Annotations: annotations(),
		Sections: []Section{
			{Title: "Now", Panels: []Panel{cdnNow(), cdnCapacity(th)}},
			{Title: "Over time", Panels: []Panel{
				series("cdn-viewers", "Viewers", UnitNone, "Concurrent viewers: time played, stalled and seeking over the length of each minute (hour, for ranges above two days), mean of a step.",
					meanOf(rows("played_ms", "stalled_ms", "seek_ms"), "cdn", watchedBy, "viewers"), "viewers", 0, 0),
				series("cdn-egress", "Egress", UnitBps, "Bytes sent by the CDN's edges as they report them.",
					meanOf(rows("request_bytes"), "cdn", "sum(request_bytes) * 8 / "+grain, "egress_bps"), "egress_bps", 0, 0),
				series("cdn-load", "Bandwidth against capacity", UnitPercent, "Egress over the capacity in the registry; CDNs without one are not drawn. The role usage tells capacities.",
					cdnLoad(rows("request_bytes")), "load", th.LoadWarn, th.LoadBad),
				series("cdn-stall", "Stall ratio", UnitPercent, "Stalled time / (played + stalled time).",
					byLabel(rows("played_ms", "stalled_ms"), "cdn", stallRatio, "stall_ratio"), "stall_ratio", th.StallWarn, th.StallBad),
				quantile("cdn-first-screen", "First screen, p50 and p90", "first_screen", []level{{"0.5", "p50_ms"}, {"0.9", "p90_ms"}}, th.FirstScreenWarnMs, th.FirstScreenBadMs,
					"Start-up time of all attempts decided; failed and abandoned starts count as infinite. From merged histograms, so a step of any length is exact to 1 %."),
				quantile("cdn-latency", "Live latency, p50 and p90", "latency", []level{{"0.5", "p50_ms"}, {"0.9", "p90_ms"}}, th.LatencyWarnMs, th.LatencyBadMs, ""),
				series("cdn-failures", "Failures", UnitNone, "Starts that failed and playbacks that failed after the first frame, a step.",
					byLabel(rows("start_failures", "playback_failures"), "cdn", "sum(start_failures) + sum(playback_failures)", "failures"), "failures", 0, 0),
				series("cdn-request-errors", "Request errors", UnitPercent, "Media requests answered 400 or above, or not at all, as edges report them.",
					byLabel(rows("requests", "request_errors"), "cdn", "sum(request_errors) / nullIf(sum(requests), 0)", "request_error_ratio"), "request_error_ratio", th.ErrorsWarn, th.ErrorsBad),
				series("cdn-moves", "Where sessions are sent", UnitNone, "Routing decisions by the CDN chosen, a step.",
					`SELECT toStartOfInterval(minute, toIntervalSecond(`+stepS+`)) AS time, chosen AS cdn, sum(d.decisions) AS decisions
FROM rollup_decisions AS d
WHERE $__timeFilter(minute) AND chosen != '' AND `+whereApp+` AND $__conditionalAll(chosen IN (${cdn:sqlstring}), $cdn)
GROUP BY time, cdn
ORDER BY time, cdn`, "decisions", 0, 0),
				series("cdn-spend-time", "Spend of the month so far", UnitUSD, "What the registry's prices make of the volume delivered since the first of the month, as the role usage tells it.",
					`SELECT $__timeInterval(e.time) AS time, cdn, max(toFloat64OrZero(e.detail['spend_usd'])) AS spend_usd
FROM events AS e
WHERE kind = 'cdn_state' AND $__timeFilter(e.time) AND `+whereCDN+`
GROUP BY time, cdn
ORDER BY time, cdn`, "spend_usd", 0, 0),
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
			{Title: "Edges", Panels: []Panel{
				quantileEdges("cdn-first-byte", "First byte, p50 and p90", edges("first_byte_sketch")),
				series("cdn-hits", "Cache hits", UnitPercent, "Of the requests whose log line tells it.",
					byLabel(edges("cache_hits", "cache_known"), "cdn", "sum(cache_hits) / nullIf(sum(cache_known), 0)", "hit_ratio"), "hit_ratio", 0, 0),
			}},
			{Title: "Hop by hop", Panels: hopPanels()},
			{Title: "Where it hurts", Panels: []Panel{
				{ID: "cdn-audience", Title: "By region and provider", Kind: Table, Width: 24, Height: 9,
					SQL: `SELECT cdn, region, isp, ` + hours + ` AS hours, ` + stallRatio + ` AS stall_ratio, ` + startFailRatio + ` AS start_failure_ratio, ` + latencyMean + ` AS latency_ms
FROM ` + rows("region", "isp", "played_ms", "stalled_ms", "start_failures", "attempts", "latency_ms_sum", "latency_weight_ms") + `
GROUP BY cdn, region, isp
ORDER BY stall_ratio DESC, hours DESC
LIMIT 100`,
					Columns: cols(text("cdn"), text("region"), text("isp"), of("hours", "h"), of("stall_ratio", UnitPercent), of("start_failure_ratio", UnitPercent), of("latency_ms", UnitMs)),
					Links:   toStreams},
			}},
		},
	}
}

func quantileEdges(id, title, from string) Panel {
	return Panel{ID: id, Title: title, Kind: TimeSeries, Unit: UnitMs, Width: 12, Height: 8, MinInterval: "1m", Links: toStreams,
		Description: "From the request to the first byte of the answer, by edges' logs.",
		SQL: `SELECT time, cdn, q[1] AS p50_ms, q[2] AS p90_ms
FROM (
    SELECT ` + stepTime + ` AS time, cdn, quantilesDDMerge(0.01, 0.5, 0.9, 0.99)(first_byte_sketch) AS q
    FROM ` + from + `
    GROUP BY time, cdn
)
ORDER BY time, cdn`,
		Columns: cols(at("time"), text("cdn"), of("p50_ms", UnitMs), of("p90_ms", UnitMs))}
}

func cdnLoad(from string) string {
	return `SELECT time, cdn, egress / capacity AS load
FROM (
    SELECT ` + stepTime + ` AS time, cdn, sum(request_bytes) * 8 / ` + stepS + ` AS egress
    FROM ` + from + `
    GROUP BY time, cdn
) AS e
INNER JOIN (SELECT cdn, toFloat64OrZero(d['capacity_bps']) AS capacity FROM ` + cdnState + ` WHERE capacity > 0) AS c USING (cdn)
ORDER BY time, cdn`
}

func cdnNow() Panel {
	return Panel{
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
		Links: toStreams,
	}
}

func cdnCapacity(th Thresholds) Panel {
	return Panel{
		ID: "cdn-capacity", Title: "Capacity", Kind: Table, Width: 24, Height: 7,
		Description: "What was in use in the last three whole minutes, against the registry as the role usage told it last.",
		SQL: `SELECT cdn, d['state'] AS state, viewers, nullIf(toFloat64OrZero(d['capacity_viewers']), 0) AS capacity_viewers,
    egress_bps, nullIf(toFloat64OrZero(d['capacity_bps']), 0) AS capacity_bps,
    greatest(ifNull(egress_bps / capacity_bps, 0), ifNull(viewers / capacity_viewers, 0)) AS load
FROM ` + cdnState + ` AS s
LEFT JOIN (
    SELECT cdn, sum(played_ms + stalled_ms + seek_ms) / 180000 AS viewers, sum(request_bytes) * 8 / 180 AS egress_bps
    FROM rollup_minute
    WHERE minute >= toStartOfMinute($__toTime) - INTERVAL 3 MINUTE AND minute < toStartOfMinute($__toTime) AND ` + whereBoth + `
    GROUP BY cdn
) AS u USING (cdn)
ORDER BY cdn`,
		Columns: cols(text("cdn"), text("state"), of("viewers", UnitNone), of("capacity_viewers", UnitNone), of("egress_bps", UnitBps), of("capacity_bps", UnitBps),
			of("load", UnitPercent)),
		Links: toStreams, Warn: th.LoadWarn, Bad: th.LoadBad,
	}
}
