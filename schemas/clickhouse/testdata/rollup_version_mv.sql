CREATE MATERIALIZED VIEW spillway.rollup_version_mv TO spillway.rollup_version (
`minute` DateTime('UTC'),
`app` LowCardinality(String),
`client` LowCardinality(String),
`client_version` LowCardinality(String),
`os` LowCardinality(String),
`sessions` Int64,
`attempts` Int64,
`start_failures` Int64,
`playback_failures` Int64,
`played_ms` Int64,
`stalled_ms` Int64,
`stalls` Int64,
`first_screen` Map(Int64, Int64))
 AS SELECT toStartOfMinute(toDateTime(time)) AS minute, app, client, client_version, os, sum(s.sessions) AS sessions, sum(s.attempts) AS attempts, sum(s.start_failures) AS start_failures, sum(s.playback_failures) AS playback_failures, sum(s.played_ms) AS played_ms, sum(s.stalled_ms) AS stalled_ms, sum(s.stalls) AS stalls, CAST(sumMap(s.first_screen_bins, s.first_screen_counts), 'Map(Int64, Int64)') AS first_screen
 FROM spillway.session_slices AS s
 GROUP BY minute, app, client, client_version, os
