CREATE VIEW spillway.v_publisher_app_minute (
`minute` DateTime('UTC') COMMENT 'minute in which the collector got the reports, UTC',
`app` LowCardinality(String) COMMENT 'application',
`encoder` LowCardinality(String) COMMENT 'encoder as the publisher names it, with its version',
`app_version` LowCardinality(String) COMMENT 'version of the publisher\'s app; empty where it was not told',
`streams` UInt64 COMMENT 'streams whose publishers reported',
`reports` Int64 COMMENT 'reports',
`behind_reports` Int64 COMMENT 'reports in whose time the publisher fell behind real time',
`background_reports` Int64 COMMENT 'reports of publishers in the background',
`interval_ms` Int64 COMMENT 'time that the reports are about, ms',
`behind_ms` Int64 COMMENT 'of that, behind real time: frames waited for the encoder or the network, ms',
`behind_ratio` Nullable(Float64) COMMENT 'behind_ms / interval_ms, 0 to 1')
 AS SELECT minute, app, encoder, app_version, uniqMerge(r.streams) AS streams, sum(r.reports) AS reports, sum(r.behind_reports) AS behind_reports, sum(r.background_reports) AS background_reports, sum(r.interval_ms) AS interval_ms, sum(r.behind_ms) AS behind_ms, sum(r.behind_ms) / nullIf(sum(r.interval_ms), 0) AS behind_ratio
 FROM spillway.rollup_publisher_app_minute AS r
 GROUP BY minute, app, encoder, app_version
