CREATE TABLE spillway.rollup_rows (
`time` DateTime('UTC') COMMENT 'start of the ten seconds in which the collector got the rows, UTC; from telemetry',
`app` LowCardinality(String) COMMENT 'application; from telemetry',
`source` LowCardinality(String) COMMENT 'kind of report: cmcd_event, cmcd_request, beacon, cdn_log, publisher; from telemetry',
`gates` LowCardinality(String) COMMENT 'plausibility gates that dropped a value of the rows, joined by |; from telemetry',
`rows` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: rows; from telemetry',
`session_rows` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: of those, rows of playback sessions: from collectors, with a session; from telemetry')
 ENGINE = AggregatingMergeTree
 PARTITION BY toYYYYMM(time)
 ORDER BY (app, time, source, gates)
 TTL time + toIntervalDay(90)
 SETTINGS non_replicated_deduplication_window = 20000, index_granularity = 8192 COMMENT 'raw telemetry rows counted by ten seconds, application, source and gates'
