-- What ingest measured of publishers, by minute from raw telemetry and by hour from the minutes, in the same insert. Rates
-- are DD-sketches of 1 % relative error; v_publisher_* reads them.
CREATE TABLE IF NOT EXISTS ${database}.rollup_publisher_minute
(
    minute                 DateTime('UTC')          COMMENT 'start of the minute of the report, UTC; from telemetry',
    app                    LowCardinality(String)   COMMENT 'application; from telemetry',
    stream                 LowCardinality(String)   COMMENT 'stream name; from telemetry',
    reports                SimpleAggregateFunction(sum, Int64) COMMENT 'sum: reports of ingest about the publisher; from telemetry',
    fps_sum                SimpleAggregateFunction(sum, Float64) COMMENT 'sum: frame rate, 1/s; from telemetry',
    fps_count              SimpleAggregateFunction(sum, Int64) COMMENT 'sum: reports with a frame rate; from telemetry',
    publish_bps_sum        SimpleAggregateFunction(sum, Int64) COMMENT 'sum: bitrate, bit/s; from telemetry',
    publish_bps_count      SimpleAggregateFunction(sum, Int64) COMMENT 'sum: reports with a bitrate; from telemetry',
    publish_stall_ms       SimpleAggregateFunction(sum, Int64) COMMENT 'sum: how far the publisher fell behind real time, ms; from telemetry',
    fps_sketch             AggregateFunction(quantilesDD(0.01, 0.05, 0.5), Float64) COMMENT 'DD-sketch of the frame rate, 1/s; from telemetry',
    publish_bps_sketch     AggregateFunction(quantilesDD(0.01, 0.05, 0.5), Float64) COMMENT 'DD-sketch of the bitrate, bit/s; from telemetry'
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(minute)
ORDER BY (app, stream, minute)
TTL minute + INTERVAL 90 DAY
SETTINGS non_replicated_deduplication_window = 20000
COMMENT 'what ingest measured of publishers, by minute and stream';

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.rollup_publisher_minute_mv TO ${database}.rollup_publisher_minute AS
SELECT
    toStartOfMinute(toDateTime(received_at)) AS minute,
    app,
    stream,
    toInt64(count()) AS reports,
    sum(ifNull(t.fps, 0)) AS fps_sum,
    toInt64(countIf(isNotNull(t.fps))) AS fps_count,
    toInt64(sum(ifNull(t.publish_bps, 0))) AS publish_bps_sum,
    toInt64(countIf(isNotNull(t.publish_bps))) AS publish_bps_count,
    toInt64(sum(ifNull(t.publish_stall_ms, 0))) AS publish_stall_ms,
    quantilesDDStateIf(0.01, 0.05, 0.5)(ifNull(t.fps, 0), isNotNull(t.fps)) AS fps_sketch,
    quantilesDDStateIf(0.01, 0.05, 0.5)(toFloat64(ifNull(t.publish_bps, 0)), isNotNull(t.publish_bps)) AS publish_bps_sketch
FROM ${database}.telemetry AS t
WHERE source = 'publisher'
GROUP BY minute, app, stream;

CREATE TABLE IF NOT EXISTS ${database}.rollup_publisher_hour
(
    hour                   DateTime('UTC')          COMMENT 'start of the hour of the report, UTC; from rollup_publisher_minute',
    app                    LowCardinality(String)   COMMENT 'application; from rollup_publisher_minute',
    stream                 LowCardinality(String)   COMMENT 'stream name; from rollup_publisher_minute',
    reports                SimpleAggregateFunction(sum, Int64) COMMENT 'sum: reports of ingest about the publisher; from rollup_publisher_minute',
    fps_sum                SimpleAggregateFunction(sum, Float64) COMMENT 'sum: frame rate, 1/s; from rollup_publisher_minute',
    fps_count              SimpleAggregateFunction(sum, Int64) COMMENT 'sum: reports with a frame rate; from rollup_publisher_minute',
    publish_bps_sum        SimpleAggregateFunction(sum, Int64) COMMENT 'sum: bitrate, bit/s; from rollup_publisher_minute',
    publish_bps_count      SimpleAggregateFunction(sum, Int64) COMMENT 'sum: reports with a bitrate; from rollup_publisher_minute',
    publish_stall_ms       SimpleAggregateFunction(sum, Int64) COMMENT 'sum: how far the publisher fell behind real time, ms; from rollup_publisher_minute',
    fps_sketch             AggregateFunction(quantilesDD(0.01, 0.05, 0.5), Float64) COMMENT 'DD-sketch of the frame rate, 1/s; from rollup_publisher_minute',
    publish_bps_sketch     AggregateFunction(quantilesDD(0.01, 0.05, 0.5), Float64) COMMENT 'DD-sketch of the bitrate, bit/s; from rollup_publisher_minute'
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(hour)
ORDER BY (app, stream, hour)
TTL hour + INTERVAL 1100 DAY
SETTINGS non_replicated_deduplication_window = 20000
COMMENT 'what ingest measured of publishers, by hour and stream';

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.rollup_publisher_hour_mv TO ${database}.rollup_publisher_hour AS
SELECT
    toStartOfHour(minute) AS hour,
    app,
    stream,
    sum(m.reports) AS reports,
    sum(m.fps_sum) AS fps_sum,
    sum(m.fps_count) AS fps_count,
    sum(m.publish_bps_sum) AS publish_bps_sum,
    sum(m.publish_bps_count) AS publish_bps_count,
    sum(m.publish_stall_ms) AS publish_stall_ms,
    quantilesDDMergeState(0.01, 0.05, 0.5)(m.fps_sketch) AS fps_sketch,
    quantilesDDMergeState(0.01, 0.05, 0.5)(m.publish_bps_sketch) AS publish_bps_sketch
FROM ${database}.rollup_publisher_minute AS m
GROUP BY hour, app, stream;

-- What publishers' own apps report (source publisher_report), by minute, application, encoder and version of the app:
-- the share of time in which they fell behind real time.
CREATE TABLE IF NOT EXISTS ${database}.rollup_publisher_app_minute
(
    minute                 DateTime('UTC')          COMMENT 'start of the minute in which the collector got the report, UTC; from telemetry',
    app                    LowCardinality(String)   COMMENT 'application; from telemetry',
    encoder                LowCardinality(String)   COMMENT 'encoder as the publisher names it, with its version; from telemetry',
    app_version            LowCardinality(String)   COMMENT 'version of the publisher\'s app; empty where it was not told; from telemetry',
    reports                SimpleAggregateFunction(sum, Int64) COMMENT 'sum: reports; from telemetry',
    behind_reports         SimpleAggregateFunction(sum, Int64) COMMENT 'sum: reports in whose time the publisher fell behind; from telemetry',
    background_reports     SimpleAggregateFunction(sum, Int64) COMMENT 'sum: reports of publishers in the background; from telemetry',
    interval_ms            SimpleAggregateFunction(sum, Int64) COMMENT 'sum: time that the reports are about, ms; from telemetry',
    behind_ms              SimpleAggregateFunction(sum, Int64) COMMENT 'sum: time behind real time, ms; from telemetry',
    streams                AggregateFunction(uniq, String) COMMENT 'uniq: streams reported; from telemetry'
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(minute)
ORDER BY (app, minute, encoder, app_version)
TTL minute + INTERVAL 400 DAY
SETTINGS non_replicated_deduplication_window = 20000
COMMENT 'what publishers\' own apps reported, by minute, encoder and version of the app';

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.rollup_publisher_app_minute_mv TO ${database}.rollup_publisher_app_minute AS
SELECT
    toStartOfMinute(toDateTime(received_at)) AS minute,
    app,
    t.client_version AS encoder,
    JSONExtractString(t.detail, 'app_version') AS app_version,
    toInt64(count()) AS reports,
    toInt64(countIf(ifNull(t.publish_stall_ms, 0) > 0)) AS behind_reports,
    toInt64(countIf(ifNull(t.background, false))) AS background_reports,
    sum(toInt64OrZero(JSONExtractString(t.detail, 'interval_ms'))) AS interval_ms,
    toInt64(sum(ifNull(t.publish_stall_ms, 0))) AS behind_ms,
    uniqState(toString(t.stream)) AS streams
FROM ${database}.telemetry AS t
WHERE source = 'publisher_report'
GROUP BY minute, app, encoder, app_version;
