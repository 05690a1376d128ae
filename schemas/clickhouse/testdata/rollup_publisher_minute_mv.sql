CREATE MATERIALIZED VIEW spillway.rollup_publisher_minute_mv TO spillway.rollup_publisher_minute (
`minute` DateTime('UTC'),
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
 AS SELECT toStartOfMinute(toDateTime(received_at)) AS minute, app, stream, toInt64(count()) AS reports, sum(ifNull(t.fps, 0)) AS fps_sum, toInt64(countIf(isNotNull(t.fps))) AS fps_count, toInt64(sum(ifNull(t.publish_bps, 0))) AS publish_bps_sum, toInt64(countIf(isNotNull(t.publish_bps))) AS publish_bps_count, toInt64(sum(ifNull(t.publish_stall_ms, 0))) AS publish_stall_ms, quantilesDDStateIf(0.01, 0.05, 0.5)(ifNull(t.fps, 0), isNotNull(t.fps)) AS fps_sketch, quantilesDDStateIf(0.01, 0.05, 0.5)(toFloat64(ifNull(t.publish_bps, 0)), isNotNull(t.publish_bps)) AS publish_bps_sketch
 FROM spillway.telemetry AS t WHERE source = 'publisher'
 GROUP BY minute, app, stream
