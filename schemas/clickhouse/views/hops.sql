-- Delay and loss of sampled parts by minute, stream, hop and CDN.
CREATE OR REPLACE VIEW ${database}.v_hop_minute
(
    minute               DateTime('UTC')      COMMENT 'minute in which ingest had the parts, UTC',
    app                  String               COMMENT 'application',
    stream               String               COMMENT 'stream name',
    hop                  String               COMMENT 'publish, ingest, stored, packaged, origin, edge, player',
    cdn                  String               COMMENT 'CDN of edges and players; empty at our own hops',
    parts                UInt64               COMMENT 'sampled parts that were there; what ingest has and the next of our hops has not is lost between them, but for origins, which have only what is watched',
    failed_parts         UInt64               COMMENT 'sampled parts that were asked for and not there at least once',
    failure_ratio        Nullable(Float64)    COMMENT 'rows that say the part was not there, of all, 0 to 1',
    delay_mean_ms        Nullable(Float64)    COMMENT 'mean delay since ingest had the parts, ms; below 0 at publish',
    delay_p50_ms         Nullable(Float64)    COMMENT 'median delay since ingest had the parts, ms; to 1 %, at least 1',
    delay_p95_ms         Nullable(Float64)    COMMENT '95th percentile of the delay, ms; to 1 %, at least 1'
)
AS WITH
    arraySort(mapKeys(d)) AS bins,
    arrayCumSum(arrayMap(b -> d[b], bins)) AS upto
SELECT
    minute, app, stream, hop, cdn,
    p AS parts,
    f AS failed_parts,
    failures / nullIf(reports, 0) AS failure_ratio,
    delay_ms_sum / nullIf(delayed, 0) AS delay_mean_ms,
    if(empty(bins), NULL, exp((bins[arrayFirstIndex(c -> c >= 0.5 * upto[-1], upto)] + 0.5) * log(1.02))) AS delay_p50_ms,
    if(empty(bins), NULL, exp((bins[arrayFirstIndex(c -> c >= 0.95 * upto[-1], upto)] + 0.5) * log(1.02))) AS delay_p95_ms
FROM
(
    SELECT
        r.minute AS minute, r.app AS app, r.stream AS stream, r.hop AS hop,
        if(r.hop IN ('edge', 'player'), r.cdn, '') AS cdn,
        uniqExactMerge(r.parts) AS p, uniqExactMerge(r.failed_parts) AS f,
        sum(r.failures) AS failures, sum(r.reports) AS reports, sum(r.delay_ms_sum) AS delay_ms_sum, sum(r.delayed) AS delayed,
        sumMap(r.delay) AS d
    FROM ${database}.rollup_hop_minute AS r
    GROUP BY minute, app, stream, hop, cdn
) AS q;
