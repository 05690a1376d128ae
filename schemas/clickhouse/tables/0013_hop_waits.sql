-- How long a hop made its asker wait, and probes: what tells a slow or starved hop from one that was asked late.
ALTER TABLE ${database}.hops ADD COLUMN IF NOT EXISTS wait_ms Nullable(Float64) COMMENT 'how long who asked waited for a part that was there, ms: from the request, or from ingest where that was later, to the first byte (edge) or the last (player); probe: to the first byte' AFTER delay_ms;

ALTER TABLE ${database}.hops ADD COLUMN IF NOT EXISTS staleness_ms Nullable(Int64) COMMENT 'age of the newest part that a probed playlist lists, ms; only at probe' AFTER wait_ms;

ALTER TABLE ${database}.hops ADD COLUMN IF NOT EXISTS throughput_kbps Nullable(Int32) COMMENT 'throughput of a probe from the first byte to the last, kbit/s; only at probe' AFTER staleness_ms;

ALTER TABLE ${database}.hops ADD COLUMN IF NOT EXISTS bitrate_kbps Nullable(Int32) COMMENT 'bitrate of the stream when it was probed, kbit/s; only at probe' AFTER throughput_kbps;

ALTER TABLE ${database}.hops COMMENT COLUMN IF EXISTS hop 'publish, ingest, stored, packaged, origin, edge, player; probe: a synthetic request through the CDN, about no part; from telemetry';

ALTER TABLE ${database}.hops_mv MODIFY QUERY
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
    t.error_code != '' OR ifNull(t.response_code = 0 OR t.response_code >= 400, 0) AS failed,
    multiIf(failed, NULL, t.hop = 'probe', toFloat64(t.first_byte_ms),
        t.hop = 'edge' AND t.hop_delay_ms IS NOT NULL AND t.first_byte_ms IS NOT NULL, greatest(0, least(assumeNotNull(t.hop_delay_ms), assumeNotNull(t.first_byte_ms))),
        t.hop = 'player' AND t.hop_delay_ms IS NOT NULL AND t.last_byte_ms IS NOT NULL, greatest(0, least(assumeNotNull(t.hop_delay_ms), assumeNotNull(t.last_byte_ms))), NULL) AS wait_ms,
    if(t.hop = 'probe', t.staleness_ms, NULL) AS staleness_ms,
    if(t.hop = 'probe', t.throughput_kbps, NULL) AS throughput_kbps,
    if(t.hop = 'probe', t.bitrate_kbps, NULL) AS bitrate_kbps,
    if(t.hop = 'publish', t.clock_bound_ms, NULL) AS clock_bound_ms,
    multiIf(NOT failed, '', t.error_code != '', t.error_code, toString(ifNull(t.response_code, 0))) AS reason,
    t.bus_partition AS bus_partition,
    t.bus_seq AS bus_seq,
    t.bus_row AS bus_row
FROM ${database}.telemetry AS t
WHERE t.hop != '';

ALTER TABLE ${database}.rollup_hop_minute ADD COLUMN IF NOT EXISTS wait SimpleAggregateFunction(sumMap, Map(Int64, Int64)) COMMENT 'log-histogram of waits, as of delays; from hops' AFTER delay;

ALTER TABLE ${database}.rollup_hop_minute ADD COLUMN IF NOT EXISTS staleness SimpleAggregateFunction(sumMap, Map(Int64, Int64)) COMMENT 'log-histogram of the staleness that probes saw, ms, as of delays; from hops' AFTER wait;

ALTER TABLE ${database}.rollup_hop_minute ADD COLUMN IF NOT EXISTS pace SimpleAggregateFunction(sumMap, Map(Int64, Int64)) COMMENT 'log-histogram of the throughput of probes in thousandths of the stream''s bitrate, as of delays; from hops' AFTER staleness;

ALTER TABLE ${database}.rollup_hop_minute COMMENT COLUMN IF EXISTS hop 'publish, ingest, stored, packaged, origin, edge, player, probe; from hops';

ALTER TABLE ${database}.rollup_hop_minute_mv MODIFY QUERY
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
    CAST(sumMapIf([toInt64(floor(log(greatest(ifNull(h.wait_ms, 1), 1)) / log(1.02)))], [toInt64(1)], h.wait_ms IS NOT NULL), 'Map(Int64, Int64)') AS wait,
    CAST(sumMapIf([toInt64(floor(log(greatest(ifNull(h.staleness_ms, 1), 1)) / log(1.02)))], [toInt64(1)], h.staleness_ms IS NOT NULL), 'Map(Int64, Int64)') AS staleness,
    CAST(sumMapIf([toInt64(floor(log(greatest(1000 * ifNull(h.throughput_kbps, 1) / greatest(ifNull(h.bitrate_kbps, 1), 1), 1)) / log(1.02)))], [toInt64(1)], h.throughput_kbps IS NOT NULL AND h.bitrate_kbps > 0), 'Map(Int64, Int64)') AS pace,
    uniqExactIfState(sipHash64(h.rendition, h.track, h.epoch, h.msn, h.part), h.failed = 0 AND h.hop != 'probe') AS parts,
    uniqExactIfState(sipHash64(h.rendition, h.track, h.epoch, h.msn, h.part), h.failed = 1 AND h.hop != 'probe') AS failed_parts
FROM ${database}.hops AS h
GROUP BY minute, app, stream, hop, cdn;
