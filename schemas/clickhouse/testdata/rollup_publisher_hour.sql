CREATE TABLE spillway.rollup_publisher_hour (
`hour` DateTime('UTC') COMMENT 'start of the hour of the report, UTC; from rollup_publisher_minute',
`app` LowCardinality(String) COMMENT 'application; from rollup_publisher_minute',
`stream` LowCardinality(String) COMMENT 'stream name; from rollup_publisher_minute',
`reports` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: reports of ingest about the publisher; from rollup_publisher_minute',
`fps_sum` SimpleAggregateFunction(sum, Float64) COMMENT 'sum: frame rate, 1/s; from rollup_publisher_minute',
`fps_count` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: reports with a frame rate; from rollup_publisher_minute',
`publish_bps_sum` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: bitrate, bit/s; from rollup_publisher_minute',
`publish_bps_count` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: reports with a bitrate; from rollup_publisher_minute',
`publish_stall_ms` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: how far the publisher fell behind real time, ms; from rollup_publisher_minute',
`fps_sketch` AggregateFunction(quantilesDD(0.01, 0.05, 0.5), Float64) COMMENT 'DD-sketch of the frame rate, 1/s; from rollup_publisher_minute',
`publish_bps_sketch` AggregateFunction(quantilesDD(0.01, 0.05, 0.5), Float64) COMMENT 'DD-sketch of the bitrate, bit/s; from rollup_publisher_minute')
 ENGINE = AggregatingMergeTree
 PARTITION BY toYYYYMM(hour)
 ORDER BY (app, stream, hour)
 TTL hour + toIntervalDay(1100)
 SETTINGS non_replicated_deduplication_window = 20000, index_granularity = 8192 COMMENT 'what ingest measured of publishers, by hour and stream'
