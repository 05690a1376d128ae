-- v_balance_minute: what was accepted, refused, stored and accounted for, side by side; sums over any range of minutes.
-- Collectors tell their counts in events of kind collector_counts (a minute each, at its end), the loader what it left
-- out in events of kind loader_left_out; the rest is counted here.
-- Raw rows are counted from rollup_rows: a minute's are few rows then, not millions. Rows about hops and of probes are made
-- by our own processes, as those about publishers are: no collector accepted them.
CREATE OR REPLACE VIEW ${database}.v_balance_minute
(
    minute               DateTime('UTC')      COMMENT 'minute of reception, UTC; counts of collectors are in the minute in which they were told',
    accepted             Int64                COMMENT 'rows that collectors accepted (answered 204)',
    rejected             Int64                COMMENT 'records of which collectors kept nothing',
    rejected_by_reason   Map(String, Int64)   COMMENT 'those by reason',
    shed                 Int64                COMMENT 'rows not accepted for lack of room',
    repeated_lines       Int64                COMMENT 'log lines of edges that had been accepted before, and are not in accepted again',
    raw_rows             Int64                COMMENT 'rows in telemetry that came by collectors',
    publisher_rows       Int64                COMMENT 'rows in telemetry about publishers, hops and probes, which our own processes write',
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
        sumIf(t.rows, t.source NOT IN ('publisher', 'hop', 'probe')), sumIf(t.rows, t.source IN ('publisher', 'hop', 'probe')), sum(t.session_rows), 0, 0, 0, 0, 0
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
