-- Raw rows counted by ten seconds, for questions about how many there were: whether everything adds up, what comes
-- from where, which gates drop values. Filled from the moment this file is applied.
CREATE TABLE IF NOT EXISTS ${database}.rollup_rows
(
    time                   DateTime('UTC')          COMMENT 'start of the ten seconds in which the collector got the rows, UTC; from telemetry',
    app                    LowCardinality(String)   COMMENT 'application; from telemetry',
    source                 LowCardinality(String)   COMMENT 'kind of report: cmcd_event, cmcd_request, beacon, cdn_log, publisher; from telemetry',
    gates                  LowCardinality(String)   COMMENT 'plausibility gates that dropped a value of the rows, joined by |; from telemetry',
    rows                   SimpleAggregateFunction(sum, Int64) COMMENT 'sum: rows; from telemetry',
    session_rows           SimpleAggregateFunction(sum, Int64) COMMENT 'sum: of those, rows of playback sessions: from collectors, with a session; from telemetry'
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (app, time, source, gates)
TTL time + INTERVAL 90 DAY
SETTINGS non_replicated_deduplication_window = 20000
COMMENT 'raw telemetry rows counted by ten seconds, application, source and gates';

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.rollup_rows_mv TO ${database}.rollup_rows AS
SELECT
    toStartOfInterval(toDateTime(received_at), INTERVAL 10 SECOND) AS time,
    app,
    source,
    gates,
    toInt64(count()) AS rows,
    toInt64(countIf(t.source != 'publisher' AND t.session_id != '')) AS session_rows
FROM ${database}.telemetry AS t
GROUP BY time, app, source, gates;

-- Rows with an error are rare, and looked for among all.
ALTER TABLE ${database}.telemetry ADD INDEX IF NOT EXISTS by_error error_code TYPE set(64) GRANULARITY 1;

-- The balance counts raw rows from there: a minute's are few rows then, not millions. Minutes before this file have none.
CREATE OR REPLACE VIEW ${database}.v_balance_minute
(
    minute               DateTime('UTC')      COMMENT 'minute of reception, UTC; counts of collectors are in the minute in which they were told',
    accepted             Int64                COMMENT 'rows that collectors accepted (answered 204)',
    rejected             Int64                COMMENT 'records of which collectors kept nothing',
    rejected_by_reason   Map(String, Int64)   COMMENT 'those by reason',
    shed                 Int64                COMMENT 'rows not accepted for lack of room',
    repeated_lines       Int64                COMMENT 'log lines of edges that had been accepted before, and are not in accepted again',
    raw_rows             Int64                COMMENT 'rows in telemetry that came by collectors',
    publisher_rows       Int64                COMMENT 'rows in telemetry about publishers, which ingest writes itself',
    session_rows         Int64                COMMENT 'of raw_rows, those with a session: what slices must account for',
    duplicate_rows       Int64                COMMENT 'rows that the loader left out of telemetry because their batch had been taken before',
    dead_messages        Int64                COMMENT 'messages that the loader could not read; they are in the stream DEAD',
    slice_reports        Int64                COMMENT 'rows that session slices account for',
    rollup_reports       Int64                COMMENT 'rows that rollup_minute accounts for',
    lost_reports         Int64                COMMENT 'reports that never came, by gaps in players\' sequence numbers'
)
AS SELECT
    minute,
    sum(b.accepted) AS accepted,
    sum(b.rejected) AS rejected,
    CAST(sumMap(b.rejected_by_reason), 'Map(String, Int64)') AS rejected_by_reason,
    sum(b.shed) AS shed,
    sum(b.repeated_lines) AS repeated_lines,
    sum(b.raw_rows) AS raw_rows,
    sum(b.publisher_rows) AS publisher_rows,
    sum(b.session_rows) AS session_rows,
    sum(b.duplicate_rows) AS duplicate_rows,
    sum(b.dead_messages) AS dead_messages,
    sum(b.slice_reports) AS slice_reports,
    sum(b.rollup_reports) AS rollup_reports,
    sum(b.lost_reports) AS lost_reports
FROM
(
    SELECT
        toStartOfMinute(toDateTime(time, 'UTC')) AS minute,
        arraySum(arrayMap(v -> toInt64OrZero(v), mapValues(mapFilter((k, v) -> startsWith(k, 'accepted.'), detail)))) AS accepted,
        arraySum(arrayMap(v -> toInt64OrZero(v), mapValues(mapFilter((k, v) -> startsWith(k, 'rejected.'), detail)))) AS rejected,
        CAST((arrayMap(k -> substring(k, 10), mapKeys(mapFilter((k, v) -> startsWith(k, 'rejected.'), detail))),
            arrayMap(v -> toInt64OrZero(v), mapValues(mapFilter((k, v) -> startsWith(k, 'rejected.'), detail)))), 'Map(String, Int64)') AS rejected_by_reason,
        toInt64OrZero(detail['shed']) AS shed,
        toInt64OrZero(detail['repeated']) AS repeated_lines,
        0::Int64 AS raw_rows, 0::Int64 AS publisher_rows, 0::Int64 AS session_rows,
        if(startsWith(detail['lane'], 'telemetry'), toInt64OrZero(detail['duplicate_rows']), 0) AS duplicate_rows,
        toInt64OrZero(detail['dead_messages']) AS dead_messages,
        0::Int64 AS slice_reports, 0::Int64 AS rollup_reports, 0::Int64 AS lost_reports
    FROM (SELECT * FROM ${database}.events WHERE kind IN ('collector_counts', 'loader_left_out') ORDER BY time LIMIT 1 BY id)
    UNION ALL
    SELECT
        toStartOfMinute(t.time) AS minute, 0, 0, CAST(map(), 'Map(String, Int64)'), 0, 0,
        sumIf(t.rows, t.source != 'publisher'), sumIf(t.rows, t.source = 'publisher'), sum(t.session_rows), 0, 0, 0, 0, 0
    FROM ${database}.rollup_rows AS t
    GROUP BY minute
    UNION ALL
    SELECT
        toStartOfMinute(toDateTime(time, 'UTC')) AS minute, 0, 0, CAST(map(), 'Map(String, Int64)'), 0, 0, 0, 0, 0, 0, 0,
        sum(s.reports), 0, sum(s.lost_reports)
    FROM ${database}.session_slices AS s
    GROUP BY minute
    UNION ALL
    SELECT minute, 0, 0, CAST(map(), 'Map(String, Int64)'), 0, 0, 0, 0, 0, 0, 0, 0, sum(r.reports), 0
    FROM ${database}.rollup_minute AS r
    GROUP BY minute
) AS b
GROUP BY minute;
