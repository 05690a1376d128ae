CREATE TABLE spillway.rollup_cdn_hour (
`hour` DateTime('UTC') COMMENT 'start of the hour in which the collector got the log line, UTC; from rollup_cdn_minute',
`app` LowCardinality(String) COMMENT 'application; from rollup_cdn_minute',
`cdn` LowCardinality(String) COMMENT 'CDN that answered; from rollup_cdn_minute',
`server` LowCardinality(String) COMMENT 'host and port that answered; from rollup_cdn_minute',
`region` LowCardinality(String) COMMENT 'viewer\'s region; from rollup_cdn_minute',
`isp` LowCardinality(String) COMMENT 'viewer\'s internet provider; from rollup_cdn_minute',
`object_type` LowCardinality(String) COMMENT 'kind of object [CMCD ot]: m a v av i c tt k o; empty where unknown; from rollup_cdn_minute',
`requests` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: requests logged; from rollup_cdn_minute',
`cache_known` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: of those, requests whose line says whether the edge had the object; from rollup_cdn_minute',
`cache_hits` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: of those, requests for an object that the edge had; from rollup_cdn_minute',
`client_errors` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: requests answered 400 to 499; from rollup_cdn_minute',
`server_errors` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: requests answered 500 and above; from rollup_cdn_minute',
`no_answers` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: requests that got no answer (status 0); from rollup_cdn_minute',
`bytes` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: bytes sent; from rollup_cdn_minute',
`first_byte_ms_sum` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: time to first byte, ms; from rollup_cdn_minute',
`first_byte_count` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: requests with a time to first byte; from rollup_cdn_minute',
`first_byte_sketch` AggregateFunction(quantilesDD(0.01, 0.5, 0.9, 0.99), Float64) COMMENT 'DD-sketch of the time to first byte, ms; from rollup_cdn_minute',
`last_byte_sketch` AggregateFunction(quantilesDD(0.01, 0.5, 0.9, 0.99), Float64) COMMENT 'DD-sketch of the time to last byte, ms; from rollup_cdn_minute')
 ENGINE = AggregatingMergeTree
 PARTITION BY toYYYYMM(hour)
 ORDER BY (app, hour, cdn, server, region, isp, object_type)
 TTL hour + toIntervalDay(1100)
 SETTINGS non_replicated_deduplication_window = 20000, index_granularity = 8192 COMMENT 'requests as edges logged them, by hour, CDN, server, region, internet provider and kind of object'
