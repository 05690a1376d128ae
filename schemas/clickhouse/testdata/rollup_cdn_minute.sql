CREATE TABLE spillway.rollup_cdn_minute (
`minute` DateTime('UTC') COMMENT 'start of the minute in which the collector got the log line, UTC; from telemetry',
`app` LowCardinality(String) COMMENT 'application; from telemetry',
`cdn` LowCardinality(String) COMMENT 'CDN that answered; from telemetry',
`server` LowCardinality(String) COMMENT 'host and port that answered; from telemetry',
`region` LowCardinality(String) COMMENT 'viewer\'s region; from telemetry',
`isp` LowCardinality(String) COMMENT 'viewer\'s internet provider; from telemetry',
`object_type` LowCardinality(String) COMMENT 'kind of object [CMCD ot]: m a v av i c tt k o; empty where unknown; from telemetry',
`requests` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: requests logged; from telemetry',
`cache_known` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: of those, requests whose line says whether the edge had the object; from telemetry',
`cache_hits` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: of those, requests for an object that the edge had; from telemetry',
`client_errors` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: requests answered 400 to 499; from telemetry',
`server_errors` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: requests answered 500 and above; from telemetry',
`no_answers` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: requests that got no answer (status 0); from telemetry',
`bytes` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: bytes sent; from telemetry',
`first_byte_ms_sum` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: time to first byte, ms; from telemetry',
`first_byte_count` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: requests with a time to first byte; from telemetry',
`first_byte_sketch` AggregateFunction(quantilesDD(0.01, 0.5, 0.9, 0.99), Float64) COMMENT 'DD-sketch of the time to first byte, ms; from telemetry',
`last_byte_sketch` AggregateFunction(quantilesDD(0.01, 0.5, 0.9, 0.99), Float64) COMMENT 'DD-sketch of the time to last byte, ms; from telemetry')
 ENGINE = AggregatingMergeTree
 PARTITION BY toYYYYMM(minute)
 ORDER BY (app, minute, cdn, server, region, isp, object_type)
 TTL minute + toIntervalDay(90)
 SETTINGS non_replicated_deduplication_window = 20000, index_granularity = 8192 COMMENT 'requests as edges logged them, by minute, CDN, server, region, internet provider and kind of object'
