-- Hops: where a part was, when, and whether it was there. Rows of telemetry that are about one have these columns.
ALTER TABLE ${database}.telemetry ADD COLUMN IF NOT EXISTS hop LowCardinality(String) COMMENT 'hop between publisher and player: publish, ingest, stored, packaged, origin, edge, player, probe' AFTER publish_stall_ms;
ALTER TABLE ${database}.telemetry ADD COLUMN IF NOT EXISTS rendition LowCardinality(String) COMMENT 'rendition of the part at the hop' AFTER hop;
ALTER TABLE ${database}.telemetry ADD COLUMN IF NOT EXISTS track LowCardinality(String) COMMENT 'track of the part at the hop: video, audio' AFTER rendition;
ALTER TABLE ${database}.telemetry ADD COLUMN IF NOT EXISTS epoch Nullable(Int64) COMMENT 'publish epoch of the part at the hop' AFTER track;
ALTER TABLE ${database}.telemetry ADD COLUMN IF NOT EXISTS msn Nullable(Int64) COMMENT 'media sequence number of the part at the hop' AFTER epoch;
ALTER TABLE ${database}.telemetry ADD COLUMN IF NOT EXISTS part Nullable(Int32) COMMENT 'index of the part in its segment; -1 for the whole segment' AFTER msn;
ALTER TABLE ${database}.telemetry ADD COLUMN IF NOT EXISTS hop_delay_ms Nullable(Float64) COMMENT 'time at the hop less the time at which ingest had the part\'s last sample, each by its own machine\'s clock, ms' AFTER part;
ALTER TABLE ${database}.telemetry ADD COLUMN IF NOT EXISTS staleness_ms Nullable(Int64) COMMENT 'age of the newest part that a probed playlist lists, since ingest had it, ms' AFTER hop_delay_ms;
ALTER TABLE ${database}.telemetry COMMENT COLUMN IF EXISTS source 'kind of report: cmcd_event, cmcd_request, beacon, cdn_log, publisher, publisher_report, hop, probe';

CREATE TABLE IF NOT EXISTS ${database}.hops
(
    time                   DateTime64(3, 'UTC')     COMMENT 'when the part was at the hop, by the clock of the machine that tells, UTC; from telemetry',
    app                    LowCardinality(String)   COMMENT 'application; from telemetry',
    stream                 LowCardinality(String)   COMMENT 'stream name; from telemetry',
    rendition              LowCardinality(String)   COMMENT 'rendition of the part; from telemetry',
    track                  LowCardinality(String)   COMMENT 'video or audio; from telemetry',
    epoch                  UInt32                   COMMENT 'publish epoch of the part; from telemetry',
    msn                    UInt64                   COMMENT 'media sequence number of the part; from telemetry',
    part                   Int32                    COMMENT 'index of the part in its segment, -1 for the whole segment; from telemetry',
    hop                    LowCardinality(String)   COMMENT 'publish, ingest, stored, packaged, origin, edge, player; from telemetry',
    cdn                    LowCardinality(String)   COMMENT 'CDN: of the edge or player, or the one the publisher came through; from telemetry',
    server                 LowCardinality(String)   COMMENT 'process or edge that tells; from telemetry',
    delay_ms               Nullable(Float64)        COMMENT 'time at the hop less the time at which ingest had the part, ms; null where one of them is not known',
    clock_bound_ms         Nullable(Float64)        COMMENT 'how far the publisher''s clock may be off, ms; only at the hop publish',
    failed                 UInt8                    COMMENT '1: the part was not there: a gap, or an answer of 400 or above, or none',
    reason                 LowCardinality(String)   COMMENT 'gap, or the HTTP status of the failure; 0 is no answer',
    bus_partition          UInt16                   COMMENT 'partition of the bus subject the row came by',
    bus_seq                UInt64                   COMMENT 'stream sequence of the bus message the row came by',
    bus_row                UInt32                   COMMENT 'row number inside that message, from 0'
)
ENGINE = MergeTree
PARTITION BY toDate(time)
ORDER BY (app, stream, rendition, track, epoch, msn, part, hop)
TTL toDateTime(time) + INTERVAL 14 DAY
SETTINGS non_replicated_deduplication_window = 20000, ttl_only_drop_parts = 1
COMMENT 'sampled parts at each hop from publisher to player, one row a part, hop and machine; from telemetry';

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.hops_mv TO ${database}.hops AS
SELECT
    least(greatest(fromUnixTimestamp64Milli(t.ts_ms), t.received_at - INTERVAL 1 DAY), t.received_at + INTERVAL 1 DAY) AS time,
    t.app AS app,
    t.stream AS stream,
    t.rendition AS rendition,
    t.track AS track,
    toUInt32(ifNull(t.epoch, 0)) AS epoch,
    toUInt64(ifNull(t.msn, 0)) AS msn,
    ifNull(t.part, 0) AS part,
    t.hop AS hop,
    t.cdn AS cdn,
    t.server AS server,
    t.hop_delay_ms AS delay_ms,
    if(t.hop = 'publish', t.clock_bound_ms, NULL) AS clock_bound_ms,
    t.error_code != '' OR ifNull(t.response_code = 0 OR t.response_code >= 400, 0) AS failed,
    multiIf(NOT failed, '', t.error_code != '', t.error_code, toString(ifNull(t.response_code, 0))) AS reason,
    t.bus_partition AS bus_partition,
    t.bus_seq AS bus_seq,
    t.bus_row AS bus_row
FROM ${database}.telemetry AS t
WHERE t.hop NOT IN ('', 'probe');

CREATE TABLE IF NOT EXISTS ${database}.rollup_hop_minute
(
    minute                 DateTime('UTC')          COMMENT 'start of the minute in which ingest had the parts, UTC; in which they were at the hop where that is not known; from hops',
    app                    LowCardinality(String)   COMMENT 'application; from hops',
    stream                 LowCardinality(String)   COMMENT 'stream name; from hops',
    hop                    LowCardinality(String)   COMMENT 'publish, ingest, stored, packaged, origin, edge, player; from hops',
    cdn                    LowCardinality(String)   COMMENT 'CDN; from hops',
    reports                SimpleAggregateFunction(sum, UInt64) COMMENT 'sum: rows; from hops',
    failures               SimpleAggregateFunction(sum, UInt64) COMMENT 'sum: rows that say the part was not there; from hops',
    delayed                SimpleAggregateFunction(sum, UInt64) COMMENT 'sum: rows with a known delay; from hops',
    delay_ms_sum           SimpleAggregateFunction(sum, Float64) COMMENT 'sum: of those delays, ms; from hops',
    delay                  SimpleAggregateFunction(sumMap, Map(Int64, Int64)) COMMENT 'log-histogram of delays: bin to count, bin floor(ln ms / ln 1.02), delays below 1 ms in bin 0; from hops',
    parts                  AggregateFunction(uniqExact, UInt64) COMMENT 'uniqExact: parts that were there; from hops',
    failed_parts           AggregateFunction(uniqExact, UInt64) COMMENT 'uniqExact: parts that were not there at least once; from hops'
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(minute)
ORDER BY (app, stream, minute, hop, cdn)
TTL minute + INTERVAL 90 DAY
SETTINGS non_replicated_deduplication_window = 20000
COMMENT 'delay and loss of sampled parts by minute, stream, hop and CDN';

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.rollup_hop_minute_mv TO ${database}.rollup_hop_minute AS
SELECT
    toStartOfMinute(toDateTime(h.time - toIntervalMillisecond(toInt64(ifNull(h.delay_ms, 0))))) AS minute,
    app,
    stream,
    hop,
    cdn,
    count() AS reports,
    countIf(h.failed = 1) AS failures,
    countIf(h.delay_ms IS NOT NULL) AS delayed,
    sum(ifNull(h.delay_ms, 0)) AS delay_ms_sum,
    CAST(sumMapIf([toInt64(floor(log(greatest(ifNull(h.delay_ms, 1), 1)) / log(1.02)))], [toInt64(1)], h.delay_ms IS NOT NULL), 'Map(Int64, Int64)') AS delay,
    uniqExactIfState(sipHash64(h.rendition, h.track, h.epoch, h.msn, h.part), h.failed = 0) AS parts,
    uniqExactIfState(sipHash64(h.rendition, h.track, h.epoch, h.msn, h.part), h.failed = 1) AS failed_parts
FROM ${database}.hops AS h
GROUP BY minute, app, stream, hop, cdn;

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

-- Rows about hops and of probes are made by our own processes, as those about publishers are: no collector accepted them.
CREATE OR REPLACE VIEW ${database}.v_balance_minute
(
    minute               DateTime('UTC')      COMMENT 'minute of reception, UTC; counts of collectors are in the minute in which they were told',
    accepted             Int64                COMMENT 'rows that collectors accepted (answered 204)',
    rejected             Int64                COMMENT 'records of which collectors kept nothing',
    rejected_by_reason   Map(String, Int64)   COMMENT 'those by reason',
    shed                 Int64                COMMENT 'rows not accepted for lack of room',
    repeated_lines       Int64                COMMENT 'log lines of edges that had been accepted before, and are not in accepted again',
    raw_rows             Int64                COMMENT 'rows in telemetry that came by collectors',
    publisher_rows       Int64                COMMENT 'rows in telemetry about publishers, hops and probes, which our own processes write',
    session_rows         Int64                COMMENT 'of raw_rows, those with a session: what slices must account for',
    duplicate_rows       Int64                COMMENT 'rows that the loader left out of telemetry because their batch had been taken before',
    dead_messages        Int64                COMMENT 'messages that the loader could not read; they are in the stream DEAD',
    slice_reports        Int64                COMMENT 'rows that session slices account for',
    rollup_reports       Int64                COMMENT 'rows that rollup_minute accounts for',
    lost_reports         Int64                COMMENT 'reports that never came, by gaps in players\' sequence numbers'
)
AS SELECT
    minute,
    sum(b.accepted) AS accepted,
    sum(b.rejected) AS rejected,
    CAST(sumMap(b.rejected_by_reason), 'Map(String, Int64)') AS rejected_by_reason,
    sum(b.shed) AS shed,
    sum(b.repeated_lines) AS repeated_lines,
    sum(b.raw_rows) AS raw_rows,
    sum(b.publisher_rows) AS publisher_rows,
    sum(b.session_rows) AS session_rows,
    sum(b.duplicate_rows) AS duplicate_rows,
    sum(b.dead_messages) AS dead_messages,
    sum(b.slice_reports) AS slice_reports,
    sum(b.rollup_reports) AS rollup_reports,
    sum(b.lost_reports) AS lost_reports
FROM
(
    SELECT
        toStartOfMinute(toDateTime(time, 'UTC')) AS minute,
        arraySum(arrayMap(v -> toInt64OrZero(v), mapValues(mapFilter((k, v) -> startsWith(k, 'accepted.'), detail)))) AS accepted,
        arraySum(arrayMap(v -> toInt64OrZero(v), mapValues(mapFilter((k, v) -> startsWith(k, 'rejected.'), detail)))) AS rejected,
        CAST((arrayMap(k -> substring(k, 10), mapKeys(mapFilter((k, v) -> startsWith(k, 'rejected.'), detail))),
            arrayMap(v -> toInt64OrZero(v), mapValues(mapFilter((k, v) -> startsWith(k, 'rejected.'), detail)))), 'Map(String, Int64)') AS rejected_by_reason,
        toInt64OrZero(detail['shed']) AS shed,
        toInt64OrZero(detail['repeated']) AS repeated_lines,
        0::Int64 AS raw_rows, 0::Int64 AS publisher_rows, 0::Int64 AS session_rows,
        if(startsWith(detail['lane'], 'telemetry'), toInt64OrZero(detail['duplicate_rows']), 0) AS duplicate_rows,
        toInt64OrZero(detail['dead_messages']) AS dead_messages,
        0::Int64 AS slice_reports, 0::Int64 AS rollup_reports, 0::Int64 AS lost_reports
    FROM (SELECT * FROM ${database}.events WHERE kind IN ('collector_counts', 'loader_left_out') ORDER BY time LIMIT 1 BY id)
    UNION ALL
    SELECT
        toStartOfMinute(t.time) AS minute, 0, 0, CAST(map(), 'Map(String, Int64)'), 0, 0,
        sumIf(t.rows, t.source NOT IN ('publisher', 'hop', 'probe')), sumIf(t.rows, t.source IN ('publisher', 'hop', 'probe')), sum(t.session_rows), 0, 0, 0, 0, 0
    FROM ${database}.rollup_rows AS t
    GROUP BY minute
    UNION ALL
    SELECT
        toStartOfMinute(toDateTime(time, 'UTC')) AS minute, 0, 0, CAST(map(), 'Map(String, Int64)'), 0, 0, 0, 0, 0, 0, 0,
        sum(s.reports), 0, sum(s.lost_reports)
    FROM ${database}.session_slices AS s
    GROUP BY minute
    UNION ALL
    SELECT minute, 0, 0, CAST(map(), 'Map(String, Int64)'), 0, 0, 0, 0, 0, 0, 0, 0, sum(r.reports), 0
    FROM ${database}.rollup_minute AS r
    GROUP BY minute
) AS b
GROUP BY minute;
