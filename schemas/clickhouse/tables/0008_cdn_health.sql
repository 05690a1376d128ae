-- Health of CDNs as their edges logged it, by minute from raw telemetry and by hour from the minutes, in the same insert.
-- Times to first and last byte are DD-sketches of 1 % relative error, which merge over any grouping; v_cdn_health_* reads
-- them.
CREATE TABLE IF NOT EXISTS ${database}.rollup_cdn_minute
(
    minute                 DateTime('UTC')          COMMENT 'start of the minute in which the collector got the log line, UTC; from telemetry',
    app                    LowCardinality(String)   COMMENT 'application; from telemetry',
    cdn                    LowCardinality(String)   COMMENT 'CDN that answered; from telemetry',
    server                 LowCardinality(String)   COMMENT 'host and port that answered; from telemetry',
    region                 LowCardinality(String)   COMMENT 'viewer\'s region; from telemetry',
    isp                    LowCardinality(String)   COMMENT 'viewer\'s internet provider; from telemetry',
    object_type            LowCardinality(String)   COMMENT 'kind of object [CMCD ot]: m a v av i c tt k o; empty where unknown; from telemetry',
    requests               SimpleAggregateFunction(sum, Int64) COMMENT 'sum: requests logged; from telemetry',
    cache_known            SimpleAggregateFunction(sum, Int64) COMMENT 'sum: of those, requests whose line says whether the edge had the object; from telemetry',
    cache_hits             SimpleAggregateFunction(sum, Int64) COMMENT 'sum: of those, requests for an object that the edge had; from telemetry',
    client_errors          SimpleAggregateFunction(sum, Int64) COMMENT 'sum: requests answered 400 to 499; from telemetry',
    server_errors          SimpleAggregateFunction(sum, Int64) COMMENT 'sum: requests answered 500 and above; from telemetry',
    no_answers             SimpleAggregateFunction(sum, Int64) COMMENT 'sum: requests that got no answer (status 0); from telemetry',
    bytes                  SimpleAggregateFunction(sum, Int64) COMMENT 'sum: bytes sent; from telemetry',
    first_byte_ms_sum      SimpleAggregateFunction(sum, Int64) COMMENT 'sum: time to first byte, ms; from telemetry',
    first_byte_count       SimpleAggregateFunction(sum, Int64) COMMENT 'sum: requests with a time to first byte; from telemetry',
    first_byte_sketch      AggregateFunction(quantilesDD(0.01, 0.5, 0.9, 0.99), Float64) COMMENT 'DD-sketch of the time to first byte, ms; from telemetry',
    last_byte_sketch       AggregateFunction(quantilesDD(0.01, 0.5, 0.9, 0.99), Float64) COMMENT 'DD-sketch of the time to last byte, ms; from telemetry'
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(minute)
ORDER BY (app, minute, cdn, server, region, isp, object_type)
TTL minute + INTERVAL 90 DAY
SETTINGS non_replicated_deduplication_window = 20000
COMMENT 'requests as edges logged them, by minute, CDN, server, region, internet provider and kind of object';

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.rollup_cdn_minute_mv TO ${database}.rollup_cdn_minute AS
SELECT
    toStartOfMinute(toDateTime(received_at)) AS minute,
    app,
    cdn,
    server,
    region,
    isp,
    object_type,
    toInt64(count()) AS requests,
    toInt64(countIf(isNotNull(t.cache_hit))) AS cache_known,
    toInt64(countIf(ifNull(t.cache_hit, false))) AS cache_hits,
    toInt64(countIf(t.response_code BETWEEN 400 AND 499)) AS client_errors,
    toInt64(countIf(t.response_code >= 500)) AS server_errors,
    toInt64(countIf(t.response_code = 0)) AS no_answers,
    toInt64(sum(ifNull(t.bytes, 0))) AS bytes,
    toInt64(sum(ifNull(t.first_byte_ms, 0))) AS first_byte_ms_sum,
    toInt64(countIf(isNotNull(t.first_byte_ms))) AS first_byte_count,
    quantilesDDStateIf(0.01, 0.5, 0.9, 0.99)(toFloat64(ifNull(t.first_byte_ms, 0)), isNotNull(t.first_byte_ms)) AS first_byte_sketch,
    quantilesDDStateIf(0.01, 0.5, 0.9, 0.99)(toFloat64(ifNull(t.last_byte_ms, 0)), isNotNull(t.last_byte_ms)) AS last_byte_sketch
FROM ${database}.telemetry AS t
WHERE source IN ('cdn_log', 'cmcd_request')
GROUP BY minute, app, cdn, server, region, isp, object_type;

CREATE TABLE IF NOT EXISTS ${database}.rollup_cdn_hour
(
    hour                   DateTime('UTC')          COMMENT 'start of the hour in which the collector got the log line, UTC; from rollup_cdn_minute',
    app                    LowCardinality(String)   COMMENT 'application; from rollup_cdn_minute',
    cdn                    LowCardinality(String)   COMMENT 'CDN that answered; from rollup_cdn_minute',
    server                 LowCardinality(String)   COMMENT 'host and port that answered; from rollup_cdn_minute',
    region                 LowCardinality(String)   COMMENT 'viewer\'s region; from rollup_cdn_minute',
    isp                    LowCardinality(String)   COMMENT 'viewer\'s internet provider; from rollup_cdn_minute',
    object_type            LowCardinality(String)   COMMENT 'kind of object [CMCD ot]: m a v av i c tt k o; empty where unknown; from rollup_cdn_minute',
    requests               SimpleAggregateFunction(sum, Int64) COMMENT 'sum: requests logged; from rollup_cdn_minute',
    cache_known            SimpleAggregateFunction(sum, Int64) COMMENT 'sum: of those, requests whose line says whether the edge had the object; from rollup_cdn_minute',
    cache_hits             SimpleAggregateFunction(sum, Int64) COMMENT 'sum: of those, requests for an object that the edge had; from rollup_cdn_minute',
    client_errors          SimpleAggregateFunction(sum, Int64) COMMENT 'sum: requests answered 400 to 499; from rollup_cdn_minute',
    server_errors          SimpleAggregateFunction(sum, Int64) COMMENT 'sum: requests answered 500 and above; from rollup_cdn_minute',
    no_answers             SimpleAggregateFunction(sum, Int64) COMMENT 'sum: requests that got no answer (status 0); from rollup_cdn_minute',
    bytes                  SimpleAggregateFunction(sum, Int64) COMMENT 'sum: bytes sent; from rollup_cdn_minute',
    first_byte_ms_sum      SimpleAggregateFunction(sum, Int64) COMMENT 'sum: time to first byte, ms; from rollup_cdn_minute',
    first_byte_count       SimpleAggregateFunction(sum, Int64) COMMENT 'sum: requests with a time to first byte; from rollup_cdn_minute',
    first_byte_sketch      AggregateFunction(quantilesDD(0.01, 0.5, 0.9, 0.99), Float64) COMMENT 'DD-sketch of the time to first byte, ms; from rollup_cdn_minute',
    last_byte_sketch       AggregateFunction(quantilesDD(0.01, 0.5, 0.9, 0.99), Float64) COMMENT 'DD-sketch of the time to last byte, ms; from rollup_cdn_minute'
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(hour)
ORDER BY (app, hour, cdn, server, region, isp, object_type)
TTL hour + INTERVAL 1100 DAY
SETTINGS non_replicated_deduplication_window = 20000
COMMENT 'requests as edges logged them, by hour, CDN, server, region, internet provider and kind of object';

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.rollup_cdn_hour_mv TO ${database}.rollup_cdn_hour AS
SELECT
    toStartOfHour(minute) AS hour,
    app,
    cdn,
    server,
    region,
    isp,
    object_type,
    sum(m.requests) AS requests,
    sum(m.cache_known) AS cache_known,
    sum(m.cache_hits) AS cache_hits,
    sum(m.client_errors) AS client_errors,
    sum(m.server_errors) AS server_errors,
    sum(m.no_answers) AS no_answers,
    sum(m.bytes) AS bytes,
    sum(m.first_byte_ms_sum) AS first_byte_ms_sum,
    sum(m.first_byte_count) AS first_byte_count,
    quantilesDDMergeState(0.01, 0.5, 0.9, 0.99)(m.first_byte_sketch) AS first_byte_sketch,
    quantilesDDMergeState(0.01, 0.5, 0.9, 0.99)(m.last_byte_sketch) AS last_byte_sketch
FROM ${database}.rollup_cdn_minute AS m
GROUP BY hour, app, cdn, server, region, isp, object_type;
