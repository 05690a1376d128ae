CREATE TABLE spillway.rollup_version (
`minute` DateTime('UTC') COMMENT 'start of the minute of stream time, UTC; from session_slices',
`app` LowCardinality(String) COMMENT 'application; from session_slices',
`client` LowCardinality(String) COMMENT 'player software; from session_slices',
`client_version` LowCardinality(String) COMMENT 'version of the player or app; from session_slices',
`os` LowCardinality(String) COMMENT 'operating system; from session_slices',
`sessions` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: 1 in the first slice of a session; from session_slices',
`attempts` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: start attempts; from session_slices',
`start_failures` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: attempts that failed before the first frame; from session_slices',
`playback_failures` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: failures after the first frame; from session_slices',
`played_ms` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: time in state playing, ms; from session_slices',
`stalled_ms` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: waiting after the first frame outside seeks, ms; from session_slices',
`stalls` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: stalls begun; from session_slices',
`first_screen` SimpleAggregateFunction(sumMap, Map(Int64, Int64)) COMMENT 'log-histogram of start-up times: bin to count, bin floor(ln ms / ln 1.02), failed starts in bin 1073741824; from session_slices')
 ENGINE = AggregatingMergeTree
 PARTITION BY toYYYYMM(minute)
 ORDER BY (app, minute, client, client_version, os)
 TTL minute + toIntervalDay(90)
 SETTINGS non_replicated_deduplication_window = 20000, index_granularity = 8192 COMMENT 'playback by minute, application, player, version and operating system'
