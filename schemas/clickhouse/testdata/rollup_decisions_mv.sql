CREATE MATERIALIZED VIEW spillway.rollup_decisions_mv TO spillway.rollup_decisions (
`minute` DateTime('UTC'),
`app` LowCardinality(String),
`kind` LowCardinality(String),
`chosen` LowCardinality(String),
`reason_code` LowCardinality(String),
`decisions` Int64,
`moved` Int64)
 AS SELECT toStartOfMinute(toDateTime(d.time, 'UTC')) AS minute, app, kind, chosen, reason_code, toInt64(count()) AS decisions, toInt64(countIf((d.previous != '') AND (d.previous != d.chosen))) AS moved
 FROM spillway.decisions AS d
 GROUP BY minute, app, kind, chosen, reason_code
