CREATE TABLE spillway.hops (
`time` DateTime64(3, 'UTC') COMMENT 'when the part was at the hop, by the clock of the machine that tells, UTC; from telemetry',
`app` LowCardinality(String) COMMENT 'application; from telemetry',
`stream` LowCardinality(String) COMMENT 'stream name; from telemetry',
`rendition` LowCardinality(String) COMMENT 'rendition of the part; from telemetry',
`track` LowCardinality(String) COMMENT 'video or audio; from telemetry',
`epoch` UInt32 COMMENT 'publish epoch of the part; from telemetry',
`msn` UInt64 COMMENT 'media sequence number of the part; from telemetry',
`part` Int32 COMMENT 'index of the part in its segment, -1 for the whole segment; from telemetry',
`hop` LowCardinality(String) COMMENT 'publish, ingest, stored, packaged, origin, edge, player; probe: a synthetic request through the CDN, about no part; from telemetry',
`cdn` LowCardinality(String) COMMENT 'CDN: of the edge or player, or the one the publisher came through; from telemetry',
`server` LowCardinality(String) COMMENT 'process or edge that tells; from telemetry',
`delay_ms` Nullable(Float64) COMMENT 'time at the hop less the time at which ingest had the part, ms; null where one of them is not known',
`wait_ms` Nullable(Float64) COMMENT 'how long who asked waited for a part that was there, ms: from the request, or from ingest where that was later, to the first byte (edge) or the last (player); probe: to the first byte',
`staleness_ms` Nullable(Int64) COMMENT 'age of the newest part that a probed playlist lists, ms; only at probe',
`throughput_kbps` Nullable(Int32) COMMENT 'throughput of a probe from the first byte to the last, kbit/s; only at probe',
`bitrate_kbps` Nullable(Int32) COMMENT 'bitrate of the stream when it was probed, kbit/s; only at probe',
`clock_bound_ms` Nullable(Float64) COMMENT 'how far the publisher\'s clock may be off, ms; only at the hop publish',
`failed` UInt8 COMMENT '1: the part was not there: a gap, or an answer of 400 or above, or none',
`reason` LowCardinality(String) COMMENT 'gap, or the HTTP status of the failure; 0 is no answer',
`bus_partition` UInt16 COMMENT 'partition of the bus subject the row came by',
`bus_seq` UInt64 COMMENT 'stream sequence of the bus message the row came by',
`bus_row` UInt32 COMMENT 'row number inside that message, from 0')
 ENGINE = MergeTree
 PARTITION BY toDate(time)
 ORDER BY (app, stream, rendition, track, epoch, msn, part, hop)
 TTL toDateTime(time) + toIntervalDay(14)
 SETTINGS non_replicated_deduplication_window = 20000, ttl_only_drop_parts = 1, index_granularity = 8192 COMMENT 'sampled parts at each hop from publisher to player, one row a part, hop and machine; from telemetry'
