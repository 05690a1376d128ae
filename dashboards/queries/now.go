package queries

// Quantiles is a WITH expression that defines log_quantile(histogram, p): the
// level-p quantile, ms, of a log-histogram (map of bin to count) as package
// analytics/stats/loghist and the analyst views compute it. NULL without
// samples, inf when the level falls among failed starts.
const Quantiles = `(n, p) -> if(abs(n * p - round(n * p)) <= 1e-9 * greatest(1., n * p), round(n * p), ceil(n * p)) AS ceil_rank,
    (cum, p) -> least(greatest(ceil_rank(toFloat64(cum[-1]), p), 1.), toFloat64(cum[-1])) AS rank_of,
    (keys, counts, cum, r, i) -> multiIf(keys[i] >= 1073741824, inf,
        keys[i] = 0, 1.02 * (r - (cum[i] - counts[i]) - 0.5) / counts[i],
        exp((keys[i] + (r - (cum[i] - counts[i]) - 0.5) / counts[i]) * 0.01980262729617973)) AS value_at,
    (hist, p) -> if(empty(hist), NULL, value_at(mapKeys(hist), mapValues(hist), arrayCumSum(mapValues(hist)),
        rank_of(arrayCumSum(mapValues(hist)), p),
        arrayFirstIndex(c -> c >= rank_of(arrayCumSum(mapValues(hist)), p), arrayCumSum(mapValues(hist))))) AS log_quantile`

// Queries of the console's live columns. Their range is the last seconds, so
// they read session_slices by time: slices arrive each second, roll-ups are minutes.
const (
	// ViewersNow counts open sessions by application, stream and the CDN that
	// served each last. Columns: app, stream, cdn, viewers.
	ViewersNow = `SELECT app, stream, cdn, toInt64(countIf(ended = 0)) AS viewers
FROM (
    SELECT app, stream, session_id, argMaxIf(s.cdn, (s.time, s.bus_seq, s.bus_row), s.cdn != '') AS cdn, sum(s.ended) AS ended
    FROM session_slices AS s
    WHERE $__timeFilter_ms(s.time)
    GROUP BY app, stream, session_id
)
GROUP BY app, stream, cdn
HAVING viewers > 0`

	// QualityNow sums up playback by CDN. Columns: cdn, stall_ratio (0 to 1),
	// latency_ms, bitrate_kbps, request_error_ratio, failures (count), watched_ms.
	QualityNow = `SELECT cdn,
    sum(s.stalled_ms) / nullIf(sum(s.played_ms) + sum(s.stalled_ms), 0) AS stall_ratio,
    sum(s.latency_ms_sum) / nullIf(sum(s.latency_weight_ms), 0) AS latency_ms,
    sum(s.bitrate_kbps_ms_sum) / nullIf(sum(s.bitrate_weight_ms), 0) AS bitrate_kbps,
    sum(s.request_errors) / nullIf(sum(s.requests), 0) AS request_error_ratio,
    sum(s.start_failures) + sum(s.playback_failures) AS failures,
    sum(s.played_ms) + sum(s.stalled_ms) AS watched_ms
FROM session_slices AS s
WHERE $__timeFilter_ms(s.time)
GROUP BY cdn`

	// StreamQualityNow sums up playback by stream. Columns: app, stream, stall_ratio (0 to 1), latency_ms.
	StreamQualityNow = `SELECT app, stream,
    sum(s.stalled_ms) / nullIf(sum(s.played_ms) + sum(s.stalled_ms), 0) AS stall_ratio,
    sum(s.latency_ms_sum) / nullIf(sum(s.latency_weight_ms), 0) AS latency_ms
FROM session_slices AS s
WHERE $__timeFilter_ms(s.time)
GROUP BY app, stream`

	// FirstScreenNow gives first-screen quantiles by CDN from whole minutes.
	// Columns: cdn, attempts, p50_ms, p90_ms (inf when the level falls among failed starts).
	FirstScreenNow = `WITH
    ` + Quantiles + `
SELECT cdn, sum(r.attempts) AS attempts,
    log_quantile(sumMap(r.first_screen), 0.5) AS p50_ms,
    log_quantile(sumMap(r.first_screen), 0.9) AS p90_ms
FROM rollup_minute AS r
WHERE $__timeFilter(r.minute)
GROUP BY cdn`

	// Recent draws the last minutes by CDN in steps of a few seconds. Columns:
	// t, cdn, viewers (mean), stall_ratio (0 to 1), latency_ms, egress_bps.
	Recent = `SELECT $__timeInterval(s.time) AS t, cdn,
    (sum(s.played_ms) + sum(s.stalled_ms) + sum(s.seek_ms)) / ($__interval_s * 1000) AS viewers,
    sum(s.stalled_ms) / nullIf(sum(s.played_ms) + sum(s.stalled_ms), 0) AS stall_ratio,
    sum(s.latency_ms_sum) / nullIf(sum(s.latency_weight_ms), 0) AS latency_ms,
    sum(s.request_bytes) * 8 / $__interval_s AS egress_bps
FROM session_slices AS s
WHERE $__timeFilter(s.time)
GROUP BY t, cdn
ORDER BY t, cdn`

	// RecentFirstScreen draws first-screen quantiles by CDN and minute. Columns: t, cdn, p50_ms, p90_ms.
	RecentFirstScreen = `WITH
    ` + Quantiles + `
SELECT $__timeInterval(r.minute) AS t, cdn,
    log_quantile(sumMap(r.first_screen), 0.5) AS p50_ms,
    log_quantile(sumMap(r.first_screen), 0.9) AS p90_ms
FROM rollup_minute AS r
WHERE $__timeFilter(r.minute)
GROUP BY t, cdn
ORDER BY t, cdn`
)

// Queries of the console's page of one stream; app and stream are its variables.
const (
	// StreamPublisher draws what ingest measures of the publisher. Columns: t, fps, bps, behind_ms.
	StreamPublisher = `SELECT $__timeInterval(received_at) AS t, avg(p.fps) AS fps, avg(p.publish_bps) AS bps, sum(p.publish_stall_ms) AS behind_ms
FROM telemetry AS p
WHERE source = 'publisher' AND app = ${app} AND stream = ${stream} AND $__timeFilter(received_at)
GROUP BY t
ORDER BY t`

	// StreamSessions lists sessions, those that stalled most first. Columns: session_id, cdn, region, isp, client, played_s, stalled_s, stalls, failures, moves, heard.
	StreamSessions = `SELECT session_id, argMaxIf(s.cdn, s.time, s.cdn != '') AS served_by, any(s.region) AS region, any(s.isp) AS isp, any(s.client) AS client,
    sum(s.played_ms) / 1000 AS played_s, sum(s.stalled_ms) / 1000 AS stalled_s, sum(s.stalls) AS stalls, sum(s.start_failures + s.playback_failures) AS failures, sum(s.cdn_moves) AS moves, max(s.time) AS heard
FROM session_slices AS s
WHERE app = ${app} AND stream = ${stream} AND $__timeFilter(s.time)
GROUP BY session_id
ORDER BY stalled_s DESC, failures DESC, session_id
LIMIT 50`

	// StreamEvents lists what happened to the stream. Columns: time, kind, cdn, reason.
	StreamEvents = `SELECT e.time AS time, kind, cdn, reason
FROM events AS e
WHERE $__timeFilter(e.time) AND app = ${app} AND stream = ${stream}
ORDER BY time DESC
LIMIT 50`
)
