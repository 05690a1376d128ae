CREATE MATERIALIZED VIEW spillway.rollup_cdn_minute_mv TO spillway.rollup_cdn_minute (
`minute` DateTime('UTC'),
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
 AS SELECT toStartOfMinute(toDateTime(received_at)) AS minute, app, cdn, server, region, isp, object_type, toInt64(count()) AS requests, toInt64(countIf(isNotNull(t.cache_hit))) AS cache_known, toInt64(countIf(ifNull(t.cache_hit, false))) AS cache_hits, toInt64(countIf((t.response_code >= 400) AND (t.response_code <= 499))) AS client_errors, toInt64(countIf(t.response_code >= 500)) AS server_errors, toInt64(countIf(t.response_code = 0)) AS no_answers, toInt64(sum(ifNull(t.bytes, 0))) AS bytes, toInt64(sum(ifNull(t.first_byte_ms, 0))) AS first_byte_ms_sum, toInt64(countIf(isNotNull(t.first_byte_ms))) AS first_byte_count, quantilesDDStateIf(0.01, 0.5, 0.9, 0.99)(toFloat64(ifNull(t.first_byte_ms, 0)), isNotNull(t.first_byte_ms)) AS first_byte_sketch, quantilesDDStateIf(0.01, 0.5, 0.9, 0.99)(toFloat64(ifNull(t.last_byte_ms, 0)), isNotNull(t.last_byte_ms)) AS last_byte_sketch
 FROM spillway.telemetry AS t WHERE source IN ('cdn_log', 'cmcd_request')
 GROUP BY minute, app, cdn, server, region, isp, object_type
