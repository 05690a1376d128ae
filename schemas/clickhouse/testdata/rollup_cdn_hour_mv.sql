CREATE MATERIALIZED VIEW spillway.rollup_cdn_hour_mv TO spillway.rollup_cdn_hour (
`hour` DateTime('UTC'),
`app` LowCardinality(String),
`cdn` LowCardinality(String),
`server` LowCardinality(String),
`region` LowCardinality(String),
`isp` LowCardinality(String),
`object_type` LowCardinality(String),
`requests` Int64,
`cache_known` Int64,
`cache_hits` Int64,
`client_errors` Int64,
`server_errors` Int64,
`no_answers` Int64,
`bytes` Int64,
`first_byte_ms_sum` Int64,
`first_byte_count` Int64,
`first_byte_sketch` AggregateFunction(quantilesDD(0.01, 0.5, 0.9, 0.99), Float64),
`last_byte_sketch` AggregateFunction(quantilesDD(0.01, 0.5, 0.9, 0.99), Float64))
 AS SELECT toStartOfHour(minute) AS hour, app, cdn, server, region, isp, object_type, sum(m.requests) AS requests, sum(m.cache_known) AS cache_known, sum(m.cache_hits) AS cache_hits, sum(m.client_errors) AS client_errors, sum(m.server_errors) AS server_errors, sum(m.no_answers) AS no_answers, sum(m.bytes) AS bytes, sum(m.first_byte_ms_sum) AS first_byte_ms_sum, sum(m.first_byte_count) AS first_byte_count, quantilesDDMergeState(0.01, 0.5, 0.9, 0.99)(m.first_byte_sketch) AS first_byte_sketch, quantilesDDMergeState(0.01, 0.5, 0.9, 0.99)(m.last_byte_sketch) AS last_byte_sketch
 FROM spillway.rollup_cdn_minute AS m
 GROUP BY hour, app, cdn, server, region, isp, object_type
