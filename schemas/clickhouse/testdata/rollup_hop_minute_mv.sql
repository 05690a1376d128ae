CREATE MATERIALIZED VIEW spillway.rollup_hop_minute_mv TO spillway.rollup_hop_minute (
`minute` DateTime('UTC'),
`app` LowCardinality(String),
`stream` LowCardinality(String),
`hop` LowCardinality(String),
`cdn` LowCardinality(String),
`reports` UInt64,
`failures` UInt64,
`delayed` UInt64,
`delay_ms_sum` Float64,
`delay` Map(Int64, Int64),
`wait` Map(Int64, Int64),
`staleness` Map(Int64, Int64),
`pace` Map(Int64, Int64),
`parts` AggregateFunction(uniqExactIf, UInt64, UInt8),
`failed_parts` AggregateFunction(uniqExactIf, UInt64, UInt8))
 AS SELECT toStartOfMinute(toDateTime(h.time - toIntervalMillisecond(toInt64(ifNull(h.delay_ms, 0))))) AS minute, app, stream, hop, cdn, count() AS reports, countIf(h.failed = 1) AS failures, countIf(h.delay_ms IS NOT NULL) AS delayed, sum(ifNull(h.delay_ms, 0)) AS delay_ms_sum, CAST(sumMapIf([toInt64(floor(log(greatest(ifNull(h.delay_ms, 1), 1)) / log(1.02)))], [toInt64(1)], h.delay_ms IS NOT NULL), 'Map(Int64, Int64)') AS delay, CAST(sumMapIf([toInt64(floor(log(greatest(ifNull(h.wait_ms, 1), 1)) / log(1.02)))], [toInt64(1)], h.wait_ms IS NOT NULL), 'Map(Int64, Int64)') AS wait, CAST(sumMapIf([toInt64(floor(log(greatest(ifNull(h.staleness_ms, 1), 1)) / log(1.02)))], [toInt64(1)], h.staleness_ms IS NOT NULL), 'Map(Int64, Int64)') AS staleness, CAST(sumMapIf([toInt64(floor(log(greatest((1000 * ifNull(h.throughput_kbps, 1)) / greatest(ifNull(h.bitrate_kbps, 1), 1), 1)) / log(1.02)))], [toInt64(1)], (h.throughput_kbps IS NOT NULL) AND (h.bitrate_kbps > 0)), 'Map(Int64, Int64)') AS pace, uniqExactIfState(sipHash64(h.rendition, h.track, h.epoch, h.msn, h.part), (h.failed = 0) AND (h.hop != 'probe')) AS parts, uniqExactIfState(sipHash64(h.rendition, h.track, h.epoch, h.msn, h.part), (h.failed = 1) AND (h.hop != 'probe')) AS failed_parts
 FROM spillway.hops AS h
 GROUP BY minute, app, stream, hop, cdn
