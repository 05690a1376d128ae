CREATE VIEW spillway.v_hop_minute (
`minute` DateTime('UTC') COMMENT 'minute in which ingest had the parts, UTC',
`app` String COMMENT 'application',
`stream` String COMMENT 'stream name',
`hop` String COMMENT 'publish, ingest, stored, packaged, origin, edge, player; probe: synthetic requests through the CDN',
`cdn` String COMMENT 'CDN of edges, players and probes; empty at our own hops',
`parts` UInt64 COMMENT 'sampled parts that were there; what ingest has and the next of our hops has not is lost between them, but for origins, which have only what is watched',
`failed_parts` UInt64 COMMENT 'sampled parts that were asked for and not there at least once',
`failure_ratio` Nullable(Float64) COMMENT 'rows that say the part was not there, of all, 0 to 1',
`delay_mean_ms` Nullable(Float64) COMMENT 'mean delay since ingest had the parts, ms; below 0 at publish', `delay_p50_ms` Nullable(Float64) COMMENT 'median delay since ingest had the parts, ms; to 1 %, at least 1', `delay_p95_ms` Nullable(Float64) COMMENT '95th percentile of the delay, ms; to 1 %, at least 1', `wait_p50_ms` Nullable(Float64) COMMENT 'median wait for a part that was there, ms: at edges to the first byte, at players to the last, both from ingest where the request was earlier; of probes to the first byte; to 1 %, at least 1', `staleness_p50_ms` Nullable(Float64) COMMENT 'median age of the newest part that probed playlists list, ms; only at probe; to 1 %, at least 1', `pace_p50` Nullable(Float64) COMMENT 'median throughput of probes over the stream\'s bitrate: below 1 it cannot be played; only at probe; to 1 %',
`reports` UInt64 COMMENT 'rows: reports about parts, of probes the probes')
 AS WITH (m, q) -> arrayFirst((b, c) -> (c >= (q * arraySum(mapValues(m)))), arraySort(mapKeys(m)), arrayCumSum(arrayMap(b -> (m[b]), arraySort(mapKeys(m))))) AS bin_at, ((m, q) -> if(empty(m), NULL, exp((bin_at(m, q) + 0.5) * log(1.02)))) AS level SELECT minute, app, stream, hop, cdn, p AS parts, f AS failed_parts, failures / nullIf(n, 0) AS failure_ratio, delay_ms_sum / nullIf(delayed, 0) AS delay_mean_ms, level(d, 0.5) AS delay_p50_ms, level(d, 0.95) AS delay_p95_ms, level(w, 0.5) AS wait_p50_ms, level(s, 0.5) AS staleness_p50_ms, level(p1000, 0.5) / 1000 AS pace_p50, n AS reports
 FROM (SELECT r.minute AS minute, r.app AS app, r.stream AS stream, r.hop AS hop, if((r.hop IN ('edge', 'player', 'probe')), r.cdn, '') AS cdn, uniqExactMerge(r.parts) AS p, uniqExactMerge(r.failed_parts) AS f, sum(r.failures) AS failures, sum(r.reports) AS n, sum(r.delay_ms_sum) AS delay_ms_sum, sum(r.delayed) AS delayed, sumMap(r.delay) AS d, sumMap(r.wait) AS w, sumMap(r.staleness) AS s, sumMap(r.pace) AS p1000
 FROM spillway.rollup_hop_minute AS r
 GROUP BY minute, app, stream, hop, cdn) AS q
