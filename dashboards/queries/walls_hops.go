package queries

import (
	"strconv"

	"github.com/spillway-live/spillway/schemas/hops"
)

// hopOrder is the order of travel.
const hopOrder = `indexOf(['publish', 'ingest', 'stored', 'packaged', 'origin', 'edge', 'player', 'probe'], hop)`

// addedMs is what a hop adds to the one before; players' is of their own CDN.
const addedMs = `delay_ms - multiIf(
            hop = 'ingest', maxIf(delay_ms, hop = 'publish') OVER (),
            hop = 'stored', maxIf(delay_ms, hop = 'ingest') OVER (),
            hop = 'packaged', maxIf(delay_ms, hop = 'stored') OVER (),
            hop = 'origin', maxIf(delay_ms, hop = 'packaged') OVER (),
            hop = 'edge', maxIf(delay_ms, hop = 'origin') OVER (),
            hop = 'player', maxIf(delay_ms, hop = 'edge') OVER (PARTITION BY cdn), NULL)`

// hopVerdict says what is bad of a hop in a word, by the limits that spillway trace has (schemas/hops).
func hopVerdict() string {
	return `multiIf(
        failed >= ` + strconv.Itoa(hops.MinFailed) + ` AND failed_share >= ` + limit(hops.BadFailedShare) + `, 'failing',
        pace < ` + limit(hops.BadPace) + `, 'starved',
        staleness_ms > ` + limit(hops.BadStalenessMs) + `, 'stale',
        hop = 'ingest' AND added_ms > ` + limit(hops.BadIngestMs) + `
            OR hop = 'stored' AND added_ms > ` + limit(hops.BadStoredMs) + `
            OR hop = 'packaged' AND added_ms > ` + limit(hops.BadPackagedMs) + `
            OR hop = 'edge' AND wait_ms > ` + limit(hops.BadEdgeMs) + `
            OR hop = 'player' AND wait_ms > ` + limit(hops.BadPlayerMs) + ` AND ifNull(added_ms > ` + limit(hops.BadPlayerMs) + `, 1)
            OR hop = 'probe' AND wait_ms > ` + limit(hops.BadFirstByteMs) + `, 'slow',
        '')`
}

// hopTable gives a row of each hop, and of each CDN at those that have one, with what is
// bad of it. Columns to choose from: hop, cdn, verdict, seen, failed, failed_share,
// delay_ms (median; mean at publish, where it is below 0), p95_ms, added_ms, wait_ms,
// staleness_ms, pace.
func hopTable(columns, where, whereCDN string) string {
	return `WITH
    ` + Quantiles + `
SELECT ` + columns + `
FROM (
    SELECT *, ` + hopVerdict() + ` AS verdict
    FROM (
        SELECT *, failed / nullIf(seen, 0) AS failed_share, ` + addedMs + ` AS added_ms
        FROM (
        SELECT hop, by_cdn AS cdn, sum(h.reports) AS seen, sum(h.failures) AS failed,
            if(hop = 'publish', sum(h.delay_ms_sum) / nullIf(sum(h.delayed), 0), log_quantile(sumMap(h.delay), 0.5)) AS delay_ms, log_quantile(sumMap(h.delay), 0.95) AS p95_ms,
            log_quantile(sumMap(h.wait), 0.5) AS wait_ms, log_quantile(sumMap(h.staleness), 0.5) AS staleness_ms, log_quantile(sumMap(h.pace), 0.5) / 1000 AS pace
        FROM (SELECT *, if(hop IN ('edge', 'player', 'probe'), r.cdn, '') AS by_cdn FROM rollup_hop_minute AS r WHERE $__timeFilter(minute) AND ` + where + `) AS h
        WHERE ` + whereCDN + `
        GROUP BY hop, by_cdn
        )
    )
)
ORDER BY ` + hopOrder + `, cdn`
}

// StreamHops tells delay and loss of a stream by hop, and which is bad. Columns: hop, cdn, verdict, seen, failed_share, p50_ms, p95_ms, wait_ms, pace.
var StreamHops = hopTable("hop, cdn, verdict, seen, failed_share, delay_ms AS p50_ms, p95_ms, wait_ms, pace", "app = ${app} AND stream = ${stream}", "1")

func limit(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }

func hopPanels() []Panel {
	return []Panel{
		{ID: "cdn-hops", Title: "Which hop is bad: delay and loss in the last five minutes", Kind: Table, Width: 24, Height: 10, Links: toStreams,
			Description: "Reports about sampled parts from publisher to player, and probes of each CDN. Delays count from ingest's receipt of a part's last frame, by each machine's clock (medians; the mean at publish); added is against the hop before; wait is how long who asked waited for a part that was there: at edges and of probes to the first byte, at players to the last. Failed are answers of 400 or above, or none, parts that an origin lists as gaps and those that MEDIA did not take. " +
				"Failing: 5 % of the reports, two at least. Starved: probes get less than the stream's bitrate (pace below 1). Stale: the newest part that probes see listed is over 3 s old. Slow: 3 s from capture to ingest, 250 ms on to MEDIA, 500 ms on to an origin, a wait of 500 ms at edges, 500 ms from edges to players, 800 ms of probes. The same limits as those of spillway trace.",
			SQL: hopTable("hop, cdn, verdict, seen, failed, failed_share, delay_ms, p95_ms, added_ms, wait_ms, pace", "minute > $__toTime - INTERVAL 5 MINUTE AND "+whereApp, "h.by_cdn = '' OR $__conditionalAll(h.by_cdn IN (${cdn:sqlstring}), $cdn)"),
			Columns: cols(text("hop"), text("cdn"), text("verdict"), of("seen", UnitNone), of("failed", UnitNone), of("failed_share", UnitPercent), of("delay_ms", UnitMs), of("p95_ms", UnitMs),
				of("added_ms", UnitMs), of("wait_ms", UnitMs), of("pace", UnitNone))},
		{ID: "cdn-hop-delay", Title: "Delay at the edges, p95", Kind: TimeSeries, Unit: UnitMs, Width: 12, Height: 8, MinInterval: "1m", Links: toStreams,
			Description: "From ingest to the first byte of an edge's answer.",
			SQL: `WITH
    ` + Quantiles + `
SELECT toStartOfInterval(minute, toIntervalSecond(` + stepS + `)) AS time, cdn, log_quantile(sumMap(h.delay), 0.95) AS p95_ms
FROM rollup_hop_minute AS h
WHERE $__timeFilter(minute) AND hop = 'edge' AND ` + whereBoth + `
GROUP BY time, cdn
ORDER BY time, cdn`, Columns: line("p95_ms", UnitMs)},
		{ID: "cdn-probe-pace", Title: "Throughput of probes over the stream's bitrate, p50", Kind: TimeSeries, Unit: UnitNone, Width: 12, Height: 8, MinInterval: "1m", Links: toStreams,
			Description: "Of synthetic requests through each CDN, with viewers or without: below 1 the CDN is starved, and nobody can play through it.",
			SQL: `WITH
    ` + Quantiles + `
SELECT toStartOfInterval(minute, toIntervalSecond(` + stepS + `)) AS time, cdn, log_quantile(sumMap(h.pace), 0.5) / 1000 AS pace
FROM rollup_hop_minute AS h
WHERE $__timeFilter(minute) AND hop = 'probe' AND ` + whereBoth + `
GROUP BY time, cdn
ORDER BY time, cdn`, Columns: line("pace", UnitNone)},
	}
}
