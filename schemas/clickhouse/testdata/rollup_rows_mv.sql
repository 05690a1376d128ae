CREATE MATERIALIZED VIEW spillway.rollup_rows_mv TO spillway.rollup_rows (
`time` DateTime('UTC'),
`app` LowCardinality(String),
`source` LowCardinality(String),
`gates` LowCardinality(String),
`rows` Int64,
`session_rows` Int64)
 AS SELECT toStartOfInterval(toDateTime(received_at), toIntervalSecond(10)) AS time, app, source, gates, toInt64(count()) AS rows, toInt64(countIf((t.source != 'publisher') AND (t.session_id != ''))) AS session_rows
 FROM spillway.telemetry AS t
 GROUP BY time, app, source, gates
