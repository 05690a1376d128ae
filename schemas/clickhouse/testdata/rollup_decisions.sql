CREATE TABLE spillway.rollup_decisions (
`minute` DateTime('UTC') COMMENT 'minute in which it was decided, UTC; from decisions',
`app` LowCardinality(String) COMMENT 'application; from decisions',
`kind` LowCardinality(String) COMMENT 'what was decided: dispatch, multivariant, steering, publish; from decisions',
`chosen` LowCardinality(String) COMMENT 'CDN chosen; from decisions',
`reason_code` LowCardinality(String) COMMENT 'short token: affinity, spill, draining, pinned; from decisions',
`decisions` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: decisions; from decisions',
`moved` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: of those, that sent a session from one CDN to another; from decisions')
 ENGINE = AggregatingMergeTree
 PARTITION BY toYYYYMM(minute)
 ORDER BY (app, minute, kind, chosen, reason_code)
 TTL minute + toIntervalDay(400)
 SETTINGS non_replicated_deduplication_window = 20000, index_granularity = 8192 COMMENT 'decisions counted by minute, application, kind, CDN and reason'
