package queries

func streams(th Thresholds) Wall {
	where := whereBoth + " AND " + whereStream
	rows := func(columns ...string) string {
		return rolled("stream_", where, append([]string{"app", "stream", "cdn"}, columns...)...)
	}
	largest := `(app, stream) IN (SELECT app, stream FROM ` + rows("played_ms", "stalled_ms") + ` GROUP BY app, stream ORDER BY sum(played_ms + stalled_ms) DESC LIMIT 10)`
	toStream := []Link{{Column: "stream", Wall: WallStreams, Vars: map[string]string{"app": "app", "stream": "stream"}}}
	return Wall{
		UID: WallStreams, Title: "Spillway: streams", From: "now-1h", Refresh: "30s",
		Description: "Streams by viewers and by quality, their publishers, what changed, and their sessions.",
		Variables:   []Variable{appVar, cdnVar, streamVar}, Annotations: annotations(),
		Sections: []Section{
			{Title: "Viewers and quality", Panels: []Panel{
				{ID: "streams-top", Title: "Streams", Kind: Table, Width: 24, Height: 10, Links: toStream,
					SQL: `SELECT app, stream, ` + hours + ` AS hours, sum(sessions) AS sessions, ` + stallRatio + ` AS stall_ratio, ` + startFailRatio + ` AS start_failure_ratio, ` + latencyMean + ` AS latency_ms
FROM ` + rows("sessions", "played_ms", "stalled_ms", "start_failures", "attempts", "latency_ms_sum", "latency_weight_ms") + `
GROUP BY app, stream
ORDER BY hours DESC
LIMIT 200`,
					Columns: cols(text("app"), text("stream"), of("hours", "h"), of("sessions", UnitNone), of("stall_ratio", UnitPercent),
						of("start_failure_ratio", UnitPercent), of("latency_ms", UnitMs))},
				{ID: "streams-viewers", Title: "Viewers of the ten largest", Kind: TimeSeries, Unit: UnitNone, Width: 12, Height: 9, MinInterval: "1m",
					SQL:     meanOf("(SELECT *, concat(app, '/', stream) AS name FROM "+rows("played_ms", "stalled_ms", "seek_ms")+" WHERE "+largest+")", "name", watchedBy, "viewers"),
					Columns: cols(at("time"), text("name"), of("viewers", UnitNone))},
				{ID: "streams-stall", Title: "Stall ratio of the ten largest", Kind: TimeSeries, Unit: UnitPercent, Width: 12, Height: 9, MinInterval: "1m", Warn: th.StallWarn, Bad: th.StallBad,
					SQL:     byLabel("(SELECT *, concat(app, '/', stream) AS name FROM "+rows("played_ms", "stalled_ms")+" WHERE "+largest+")", "name", stallRatio, "stall_ratio"),
					Columns: cols(at("time"), text("name"), of("stall_ratio", UnitPercent))},
				{ID: "streams-cdns", Title: "By CDN", Kind: Table, Width: 24, Height: 7,
					Description: "Which CDN carries what of the streams selected.",
					SQL: `SELECT cdn, ` + hours + ` AS hours, ` + stallRatio + ` AS stall_ratio, ` + startFailRatio + ` AS start_failure_ratio, sum(cdn_moves) AS moves
FROM ` + rows("played_ms", "stalled_ms", "start_failures", "attempts", "cdn_moves") + `
GROUP BY cdn
ORDER BY hours DESC`,
					Columns: cols(text("cdn"), of("hours", "h"), of("stall_ratio", UnitPercent), of("start_failure_ratio", UnitPercent), of("moves", UnitNone)),
					Links:   toStreams},
			}},
			{Title: "Publishers", Panels: []Panel{
				publisherPanel("streams-fps", "Frame rate", UnitFPS, "sum(fps_sum) / nullIf(sum(fps_count), 0)", "fps"),
				publisherPanel("streams-bitrate", "Bitrate", UnitBps, "sum(publish_bps_sum) / nullIf(sum(publish_bps_count), 0)", "bps"),
				publisherPanel("streams-behind", "Fallen behind real time", UnitMs, "sum(publish_stall_ms)", "behind_ms"),
			}},
			{Title: "What changed", Panels: []Panel{
				{ID: "streams-changed", Title: "Against the same time before", Kind: Table, Width: 24, Height: 8, Links: toStream,
					Description: "The second half of the range against the first: streams whose stall ratio rose most.",
					SQL: `SELECT app, stream, sumIf(stalled_ms, late) / nullIf(sumIf(played_ms + stalled_ms, late), 0) AS stall_ratio,
    sumIf(stalled_ms, NOT late) / nullIf(sumIf(played_ms + stalled_ms, NOT late), 0) AS stall_ratio_before,
    stall_ratio - stall_ratio_before AS rise, sumIf(played_ms + stalled_ms, late) / 3600000 AS hours, sumIf(played_ms + stalled_ms, NOT late) / 3600000 AS hours_before
FROM (SELECT *, slot >= $__fromTime + intDiv(dateDiff('second', $__fromTime, $__toTime), 2) AS late FROM ` + rows("played_ms", "stalled_ms") + `)
GROUP BY app, stream
HAVING hours > 0
ORDER BY rise DESC NULLS LAST
LIMIT 50`,
					Columns: cols(text("app"), text("stream"), of("stall_ratio", UnitPercent), of("stall_ratio_before", UnitPercent), of("rise", UnitPercent), of("hours", "h"), of("hours_before", "h"))},
				{ID: "streams-events", Title: "Events", Kind: Table, Width: 24, Height: 9, Links: toStream,
					SQL: `SELECT time, kind, app, stream, cdn, reason
FROM events
WHERE $__timeFilter(time) AND kind NOT IN ('collector_counts', 'loader_left_out', 'cdn_state', 'bus_state') AND (app = '' OR ` + whereApp + `) AND (stream = '' OR ` + whereStream + `)
ORDER BY time DESC
LIMIT 200`, Columns: cols(at("time"), text("kind"), text("app"), text("stream"), text("cdn"), text("reason"))},
			}},
			{Title: "Sessions", Panels: []Panel{
				{ID: "streams-sessions", Title: "Sessions that stalled most", Kind: Table, Width: 24, Height: 10,
					Description: "Of the last two days of the range. A click on one tells its story.",
					SQL: `SELECT session_id, app, stream, argMaxIf(s.cdn, s.time, s.cdn != '') AS served_by, any(s.region) AS region, any(s.isp) AS isp, any(s.client) AS client,
    sum(s.played_ms) / 1000 AS played_s, sum(s.stalled_ms) / 1000 AS stalled_s, sum(s.stalls) AS stalls, sum(s.start_failures + s.playback_failures) AS failures, sum(s.cdn_moves) AS moves
FROM session_slices AS s
WHERE s.time >= greatest($__fromTime, $__toTime - INTERVAL 2 DAY) AND s.time <= $__toTime AND ` + where + `
GROUP BY app, stream, session_id
ORDER BY stalled_s DESC, failures DESC
LIMIT 100`,
					Columns: cols(text("session_id"), text("app"), text("stream"), text("served_by"), text("region"), text("isp"), text("client"), of("played_s", "s"), of("stalled_s", "s"),
						of("stalls", UnitNone), of("failures", UnitNone), of("moves", UnitNone)),
					Links: []Link{{Column: "session_id", Wall: WallSession, Vars: map[string]string{"session": "session_id"}}}},
			}},
		},
	}
}

// publisherPanel is a time series by stream of what ingest reports about publishers.
func publisherPanel(id, title, unit, expr, name string) Panel {
	from := rolled("publisher_", whereApp+" AND "+whereStream, "app", "stream", "fps_sum", "fps_count", "publish_bps_sum", "publish_bps_count", "publish_stall_ms")
	return Panel{ID: id, Title: title, Kind: TimeSeries, Unit: unit, Width: 8, Height: 8, MinInterval: "1m",
		SQL:     byLabel("(SELECT *, concat(app, '/', stream) AS name FROM "+from+")", "name", expr, name) + "\nLIMIT 50000",
		Columns: cols(at("time"), text("name"), of(name, unit))}
}

// session is the wall that a session's id leads to.
func session() Wall {
	const is = "session_id = ${session:sqlstring}"
	return Wall{
		UID: WallSession, Title: "Spillway: session", From: "now-6h", Refresh: "1m",
		Description: "What became of one playback: give its id, or come by a click on the wall of streams. The console tells the same on one time line.",
		Variables:   []Variable{{Name: "session", Label: "Session id"}}, Annotations: annotations()[:2],
		Sections: []Section{
			{Title: "In short", Panels: []Panel{
				{ID: "session-sum", Title: "Session", Kind: Table, Width: 24, Height: 4,
					SQL: `SELECT any(s.app) AS app, any(s.stream) AS stream, any(s.region) AS region, any(s.isp) AS isp, any(s.client) AS client, any(s.device) AS device,
    min(s.time) AS began, max(s.time) AS heard, sum(s.played_ms) / 1000 AS played_s, sum(s.stalled_ms) / 1000 AS stalled_s, sum(s.stalls) AS stalls,
    sum(s.startup_ms) AS first_screen_ms, sum(s.cdn_moves) AS moves, max(s.end_reason) AS ended
FROM session_slices AS s
WHERE $__timeFilter(s.time) AND ` + is + `
HAVING count() > 0`,
					Columns: cols(text("app"), text("stream"), text("region"), text("isp"), text("client"), text("device"), at("began"), at("heard"), of("played_s", "s"), of("stalled_s", "s"),
						of("stalls", UnitNone), of("first_screen_ms", UnitMs), of("moves", UnitNone), text("ended"))},
			}},
			{Title: "Over time", Panels: []Panel{
				{ID: "session-time", Title: "Played and stalled, by CDN", Kind: TimeSeries, Unit: UnitMs, Width: 24, Height: 8, MinInterval: "10s",
					SQL: `SELECT $__timeInterval(s.time) AS step, cdn, sum(s.played_ms) AS played_ms, sum(s.stalled_ms) AS stalled_ms
FROM session_slices AS s
WHERE $__timeFilter(s.time) AND ` + is + `
GROUP BY step, cdn
ORDER BY step, cdn`, Columns: cols(at("step"), text("cdn"), of("played_ms", UnitMs), of("stalled_ms", UnitMs))},
				{ID: "session-buffer", Title: "Buffer and live latency as the player tells", Kind: TimeSeries, Unit: UnitMs, Width: 24, Height: 8, MinInterval: "1s",
					SQL: `SELECT $__timeInterval(received_at) AS step, min(t.buffer_ms) AS buffer_ms, max(t.live_latency_ms) AS latency_ms
FROM telemetry AS t
WHERE $__timeFilter(received_at) AND ` + is + ` AND (t.buffer_ms IS NOT NULL OR t.live_latency_ms IS NOT NULL)
GROUP BY step
ORDER BY step`, Columns: cols(at("step"), of("buffer_ms", UnitMs), of("latency_ms", UnitMs))},
			}},
			{Title: "What happened", Panels: []Panel{
				{ID: "session-decisions", Title: "Where routers sent it, and why", Kind: Table, Width: 12, Height: 10,
					SQL: `SELECT time, kind, previous, chosen, reason_code, policy, probability
FROM decisions
WHERE $__timeFilter(time) AND ` + is + `
ORDER BY time DESC
LIMIT 500`, Columns: cols(at("time"), text("kind"), text("previous"), text("chosen"), text("reason_code"), text("policy"), of("probability", UnitPercent))},
				{ID: "session-states", Title: "What the player told", Kind: Table, Width: 12, Height: 10,
					SQL: `SELECT received_at AS time, event, state, cdn, error_code, bitrate_kbps, buffer_ms
FROM telemetry
WHERE $__timeFilter(received_at) AND ` + is + ` AND source IN ('cmcd_event', 'beacon')
ORDER BY received_us DESC
LIMIT 500`, Columns: cols(at("time"), text("event"), text("state"), text("cdn"), text("error_code"), of("bitrate_kbps", "Kbits"), of("buffer_ms", UnitMs))},
			}},
		},
	}
}
