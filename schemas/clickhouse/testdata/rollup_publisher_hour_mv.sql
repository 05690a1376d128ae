CREATE MATERIALIZED VIEW spillway.rollup_publisher_hour_mv TO spillway.rollup_publisher_hour (
`hour` DateTime('UTC'),
`app` LowCardinality(String),
`stream` LowCardinality(String),
`reports` Int64,
`fps_sum` Float64,
`fps_count` Int64,
`publish_bps_sum` Int64,
`publish_bps_count` Int64,
`publish_stall_ms` Int64,
`fps_sketch` AggregateFunction(quantilesDD(0.01, 0.05, 0.5), Float64),
`publish_bps_sketch` AggregateFunction(quantilesDD(0.01, 0.05, 0.5), Float64))
 AS SELECT toStartOfHour(minute) AS hour, app, stream, sum(m.reports) AS reports, sum(m.fps_sum) AS fps_sum, sum(m.fps_count) AS fps_count, sum(m.publish_bps_sum) AS publish_bps_sum, sum(m.publish_bps_count) AS publish_bps_count, sum(m.publish_stall_ms) AS publish_stall_ms, quantilesDDMergeState(0.01, 0.05, 0.5)(m.fps_sketch) AS fps_sketch, quantilesDDMergeState(0.01, 0.05, 0.5)(m.publish_bps_sketch) AS publish_bps_sketch
 FROM spillway.rollup_publisher_minute AS m
 GROUP BY hour, app, stream
