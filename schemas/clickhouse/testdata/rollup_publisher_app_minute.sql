CREATE TABLE spillway.rollup_publisher_app_minute (
`minute` DateTime('UTC') COMMENT 'start of the minute in which the collector got the report, UTC; from telemetry',
`app` LowCardinality(String) COMMENT 'application; from telemetry',
`encoder` LowCardinality(String) COMMENT 'encoder as the publisher names it, with its version; from telemetry',
`app_version` LowCardinality(String) COMMENT 'version of the publisher\'s app; empty where it was not told; from telemetry',
`reports` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: reports; from telemetry',
`behind_reports` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: reports in whose time the publisher fell behind; from telemetry',
`background_reports` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: reports of publishers in the background; from telemetry',
`interval_ms` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: time that the reports are about, ms; from telemetry',
`behind_ms` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: time behind real time, ms; from telemetry',
`streams` AggregateFunction(uniq, String) COMMENT 'uniq: streams reported; from telemetry')
 ENGINE = AggregatingMergeTree
 PARTITION BY toYYYYMM(minute)
 ORDER BY (app, minute, encoder, app_version)
 TTL minute + toIntervalDay(400)
 SETTINGS non_replicated_deduplication_window = 20000, index_granularity = 8192 COMMENT 'what publishers\' own apps reported, by minute, encoder and version of the app'
