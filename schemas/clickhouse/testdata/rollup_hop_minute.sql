CREATE TABLE spillway.rollup_hop_minute (
`minute` DateTime('UTC') COMMENT 'start of the minute in which ingest had the parts, UTC; in which they were at the hop where that is not known; from hops',
`app` LowCardinality(String) COMMENT 'application; from hops',
`stream` LowCardinality(String) COMMENT 'stream name; from hops',
`hop` LowCardinality(String) COMMENT 'publish, ingest, stored, packaged, origin, edge, player, probe; from hops',
`cdn` LowCardinality(String) COMMENT 'CDN; from hops',
`reports` SimpleAggregateFunction(sum, UInt64) COMMENT 'sum: rows; from hops',
`failures` SimpleAggregateFunction(sum, UInt64) COMMENT 'sum: rows that say the part was not there; from hops',
`delayed` SimpleAggregateFunction(sum, UInt64) COMMENT 'sum: rows with a known delay; from hops',
`delay_ms_sum` SimpleAggregateFunction(sum, Float64) COMMENT 'sum: of those delays, ms; from hops',
`delay` SimpleAggregateFunction(sumMap, Map(Int64, Int64)) COMMENT 'log-histogram of delays: bin to count, bin floor(ln ms / ln 1.02), delays below 1 ms in bin 0; from hops',
`wait` SimpleAggregateFunction(sumMap, Map(Int64, Int64)) COMMENT 'log-histogram of waits, as of delays; from hops',
`staleness` SimpleAggregateFunction(sumMap, Map(Int64, Int64)) COMMENT 'log-histogram of the staleness that probes saw, ms, as of delays; from hops',
`pace` SimpleAggregateFunction(sumMap, Map(Int64, Int64)) COMMENT 'log-histogram of the throughput of probes in thousandths of the stream\'s bitrate, as of delays; from hops',
`parts` AggregateFunction(uniqExact, UInt64) COMMENT 'uniqExact: parts that were there; from hops',
`failed_parts` AggregateFunction(uniqExact, UInt64) COMMENT 'uniqExact: parts that were not there at least once; from hops')
 ENGINE = AggregatingMergeTree
 PARTITION BY toYYYYMM(minute)
 ORDER BY (app, stream, minute, hop, cdn)
 TTL minute + toIntervalDay(90)
 SETTINGS non_replicated_deduplication_window = 20000, index_granularity = 8192 COMMENT 'delay and loss of sampled parts by minute, stream, hop and CDN'
