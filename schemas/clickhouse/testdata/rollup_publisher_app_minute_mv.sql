CREATE MATERIALIZED VIEW spillway.rollup_publisher_app_minute_mv TO spillway.rollup_publisher_app_minute (
`minute` DateTime('UTC'),
`app` LowCardinality(String),
`encoder` LowCardinality(String),
`app_version` String,
`reports` Int64,
`behind_reports` Int64,
`background_reports` Int64,
`interval_ms` Int64,
`behind_ms` Int64,
`streams` AggregateFunction(uniq, String))
 AS SELECT toStartOfMinute(toDateTime(received_at)) AS minute, app, t.client_version AS encoder, JSONExtractString(t.detail, 'app_version') AS app_version, toInt64(count()) AS reports, toInt64(countIf(ifNull(t.publish_stall_ms, 0) > 0)) AS behind_reports, toInt64(countIf(ifNull(t.background, false))) AS background_reports, sum(toInt64OrZero(JSONExtractString(t.detail, 'interval_ms'))) AS interval_ms, toInt64(sum(ifNull(t.publish_stall_ms, 0))) AS behind_ms, uniqState(toString(t.stream)) AS streams
 FROM spillway.telemetry AS t WHERE source = 'publisher_report'
 GROUP BY minute, app, encoder, app_version
