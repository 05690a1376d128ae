CREATE MATERIALIZED VIEW spillway.hops_mv TO spillway.hops (
`time` DateTime64(3),
`app` LowCardinality(String),
`stream` LowCardinality(String),
`rendition` LowCardinality(String),
`track` LowCardinality(String),
`epoch` UInt32,
`msn` UInt64,
`part` Int32,
`hop` LowCardinality(String),
`cdn` LowCardinality(String),
`server` LowCardinality(String),
`delay_ms` Nullable(Float64),
`clock_bound_ms` Nullable(Float64),
`failed` UInt8,
`reason` String,
`bus_partition` UInt16,
`bus_seq` UInt64,
`bus_row` UInt32)
 AS SELECT least(greatest(fromUnixTimestamp64Milli(t.ts_ms), t.received_at - toIntervalDay(1)), t.received_at + toIntervalDay(1)) AS time, t.app AS app, t.stream AS stream, t.rendition AS rendition, t.track AS track, toUInt32(ifNull(t.epoch, 0)) AS epoch, toUInt64(ifNull(t.msn, 0)) AS msn, ifNull(t.part, 0) AS part, t.hop AS hop, t.cdn AS cdn, t.server AS server, t.hop_delay_ms AS delay_ms, if(t.hop = 'publish', t.clock_bound_ms, NULL) AS clock_bound_ms, (t.error_code != '') OR ifNull((t.response_code = 0) OR (t.response_code >= 400), 0) AS failed, multiIf(NOT failed, '', t.error_code != '', t.error_code, toString(ifNull(t.response_code, 0))) AS reason, t.bus_partition AS bus_partition, t.bus_seq AS bus_seq, t.bus_row AS bus_row
 FROM spillway.telemetry AS t WHERE t.hop NOT IN ('', 'probe')
