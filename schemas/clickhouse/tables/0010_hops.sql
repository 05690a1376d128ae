-- Hops: where a sampled part was, when, and whether it was there. Made of rows of telemetry that are about one.
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

-- Delay and loss of them by minute.
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
