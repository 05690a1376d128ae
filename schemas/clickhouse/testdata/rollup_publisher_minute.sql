CREATE TABLE spillway.rollup_publisher_minute (
`minute` DateTime('UTC') COMMENT 'start of the minute of the report, UTC; from telemetry',
`app` LowCardinality(String) COMMENT 'application; from telemetry',
`stream` LowCardinality(String) COMMENT 'stream name; from telemetry',
`reports` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: reports of ingest about the publisher; from telemetry',
`fps_sum` SimpleAggregateFunction(sum, Float64) COMMENT 'sum: frame rate, 1/s; from telemetry',
`fps_count` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: reports with a frame rate; from telemetry',
`publish_bps_sum` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: bitrate, bit/s; from telemetry',
`publish_bps_count` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: reports with a bitrate; from telemetry',
`publish_stall_ms` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: how far the publisher fell behind real time, ms; from telemetry',
`fps_sketch` AggregateFunction(quantilesDD(0.01, 0.05, 0.5), Float64) COMMENT 'DD-sketch of the frame rate, 1/s; from telemetry',
`publish_bps_sketch` AggregateFunction(quantilesDD(0.01, 0.05, 0.5), Float64) COMMENT 'DD-sketch of the bitrate, bit/s; from telemetry')
 ENGINE = AggregatingMergeTree
 PARTITION BY toYYYYMM(minute)
 ORDER BY (app, stream, minute)
 TTL minute + toIntervalDay(90)
 SETTINGS non_replicated_deduplication_window = 20000, index_granularity = 8192 COMMENT 'what ingest measured of publishers, by minute and stream'
