-- What publishers' own apps report (source publisher_report), by minute, application, encoder and version of the app:
-- the share of time in which they fell behind real time. Filled from raw telemetry by the same insert.
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

-- One row for each minute, application, encoder and version of the app.
CREATE VIEW IF NOT EXISTS ${database}.v_publisher_app_minute
(
    minute               DateTime('UTC')        COMMENT 'minute in which the collector got the reports, UTC',
    app                  LowCardinality(String) COMMENT 'application',
    encoder              LowCardinality(String) COMMENT 'encoder as the publisher names it, with its version',
    app_version          LowCardinality(String) COMMENT 'version of the publisher\'s app; empty where it was not told',
    streams              UInt64                 COMMENT 'streams whose publishers reported',
    reports              Int64                  COMMENT 'reports',
    behind_reports       Int64                  COMMENT 'reports in whose time the publisher fell behind real time',
    background_reports   Int64                  COMMENT 'reports of publishers in the background',
    interval_ms          Int64                  COMMENT 'time that the reports are about, ms',
    behind_ms            Int64                  COMMENT 'of that, behind real time: frames waited for the encoder or the network, ms',
    behind_ratio         Nullable(Float64)      COMMENT 'behind_ms / interval_ms, 0 to 1'
)
AS SELECT
    minute,
    app,
    encoder,
    app_version,
    uniqMerge(r.streams) AS streams,
    sum(r.reports) AS reports,
    sum(r.behind_reports) AS behind_reports,
    sum(r.background_reports) AS background_reports,
    sum(r.interval_ms) AS interval_ms,
    sum(r.behind_ms) AS behind_ms,
    sum(r.behind_ms) / nullIf(sum(r.interval_ms), 0) AS behind_ratio
FROM ${database}.rollup_publisher_app_minute AS r
GROUP BY minute, app, encoder, app_version;
