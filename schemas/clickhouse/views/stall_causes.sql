-- Stalled time by cause: what sessions know, and of the rest what lies in a minute, or in the one after, in which the
-- publisher fell at least a second behind real time as ingest measured it.
CREATE OR REPLACE VIEW ${database}.v_stall_causes_minute
(
    minute                   DateTime('UTC')        COMMENT 'start of the minute, UTC',
    app                      LowCardinality(String) COMMENT 'application',
    stream                   LowCardinality(String) COMMENT 'stream name',
    cdn                      LowCardinality(String) COMMENT 'CDN that served',
    played_ms                Int64                  COMMENT 'time in state playing, ms',
    stalled_ms               Int64                  COMMENT 'waiting after the first frame outside seeks, ms: the sum of the following',
    background_ms            Int64                  COMMENT 'of that, pages in the background, ms',
    cdn_ms                   Int64                  COMMENT 'of that, failed requests, ms',
    network_ms               Int64                  COMMENT 'of that, slow answers or throughput below the bitrate, ms',
    publisher_ms             Int64                  COMMENT 'of that, nothing of the above while the publisher was behind real time, ms',
    unknown_ms               Int64                  COMMENT 'of that, nothing is known, ms',
    publisher_behind_ms      Nullable(Int64)        COMMENT 'how far the publisher fell behind real time in this minute and the one before, ms; NULL where nothing was measured'
)
AS SELECT
    x.minute AS minute,
    x.app AS app,
    x.stream AS stream,
    x.cdn AS cdn,
    x.played_ms AS played_ms,
    x.stalled_ms AS stalled_ms,
    x.background_ms AS background_ms,
    x.cdn_ms AS cdn_ms,
    x.network_ms AS network_ms,
    if(ifNull(p.behind_ms, 0) >= 1000, x.rest_ms, 0) AS publisher_ms,
    if(ifNull(p.behind_ms, 0) >= 1000, 0, x.rest_ms) AS unknown_ms,
    if(ifNull(p.known, 0) = 1, p.behind_ms, NULL) AS publisher_behind_ms
FROM
(
    SELECT minute, app, stream, cdn, sum(r.played_ms) AS played_ms, sum(r.stalled_ms) AS stalled_ms, sum(r.stalled_background_ms) AS background_ms,
        sum(r.stalled_cdn_ms) AS cdn_ms, sum(r.stalled_network_ms) AS network_ms,
        sum(r.stalled_ms) - sum(r.stalled_background_ms) - sum(r.stalled_cdn_ms) - sum(r.stalled_network_ms) AS rest_ms
    FROM ${database}.rollup_stream_minute AS r GROUP BY minute, app, stream, cdn
) AS x
LEFT JOIN
(
    SELECT l.minute AS minute, l.app AS app, l.stream AS stream, toInt64(sum(l.ms)) AS behind_ms, 1 AS known
    FROM
    (
        SELECT q.minute + later AS minute, q.app AS app, q.stream AS stream, q.publish_stall_ms AS ms
        FROM ${database}.rollup_publisher_minute AS q ARRAY JOIN [0, 60] AS later
    ) AS l
    GROUP BY minute, app, stream
) AS p ON p.minute = x.minute AND p.app = x.app AND p.stream = x.stream;
