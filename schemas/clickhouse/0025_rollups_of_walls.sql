-- Decisions counted by minute, for walls over weeks: the decisions themselves are one row a session and more.
-- Filled from the moment this file is applied.
CREATE TABLE IF NOT EXISTS ${database}.rollup_decisions
(
    minute                 DateTime('UTC')          COMMENT 'minute in which it was decided, UTC; from decisions',
    app                    LowCardinality(String)   COMMENT 'application; from decisions',
    kind                   LowCardinality(String)   COMMENT 'what was decided: dispatch, multivariant, steering, publish; from decisions',
    chosen                 LowCardinality(String)   COMMENT 'CDN chosen; from decisions',
    reason_code            LowCardinality(String)   COMMENT 'short token: affinity, spill, draining, pinned; from decisions',
    decisions              SimpleAggregateFunction(sum, Int64) COMMENT 'sum: decisions; from decisions',
    moved                  SimpleAggregateFunction(sum, Int64) COMMENT 'sum: of those, that sent a session from one CDN to another; from decisions'
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(minute)
ORDER BY (app, minute, kind, chosen, reason_code)
TTL minute + INTERVAL 400 DAY
SETTINGS non_replicated_deduplication_window = 20000
COMMENT 'decisions counted by minute, application, kind, CDN and reason';

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.rollup_decisions_mv TO ${database}.rollup_decisions AS
SELECT
    toStartOfMinute(toDateTime(d.time, 'UTC')) AS minute,
    app,
    kind,
    chosen,
    reason_code,
    toInt64(count()) AS decisions,
    toInt64(countIf(d.previous != '' AND d.previous != d.chosen)) AS moved
FROM ${database}.decisions AS d
GROUP BY minute, app, kind, chosen, reason_code;

-- Playback by version of the player or app, which the other roll-ups do not tell apart. Few columns, so that it costs
-- an insert little. Filled from the moment this file is applied.
CREATE TABLE IF NOT EXISTS ${database}.rollup_version
(
    minute                 DateTime('UTC')          COMMENT 'start of the minute of stream time, UTC; from session_slices',
    app                    LowCardinality(String)   COMMENT 'application; from session_slices',
    client                 LowCardinality(String)   COMMENT 'player software; from session_slices',
    client_version         LowCardinality(String)   COMMENT 'version of the player or app; from session_slices',
    os                     LowCardinality(String)   COMMENT 'operating system; from session_slices',
    sessions               SimpleAggregateFunction(sum, Int64) COMMENT 'sum: 1 in the first slice of a session; from session_slices',
    attempts               SimpleAggregateFunction(sum, Int64) COMMENT 'sum: start attempts; from session_slices',
    start_failures         SimpleAggregateFunction(sum, Int64) COMMENT 'sum: attempts that failed before the first frame; from session_slices',
    playback_failures      SimpleAggregateFunction(sum, Int64) COMMENT 'sum: failures after the first frame; from session_slices',
    played_ms              SimpleAggregateFunction(sum, Int64) COMMENT 'sum: time in state playing, ms; from session_slices',
    stalled_ms             SimpleAggregateFunction(sum, Int64) COMMENT 'sum: waiting after the first frame outside seeks, ms; from session_slices',
    stalls                 SimpleAggregateFunction(sum, Int64) COMMENT 'sum: stalls begun; from session_slices',
    first_screen           SimpleAggregateFunction(sumMap, Map(Int64, Int64)) COMMENT 'log-histogram of start-up times: bin to count, bin floor(ln ms / ln 1.02), failed starts in bin 1073741824; from session_slices'
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(minute)
ORDER BY (app, minute, client, client_version, os)
TTL minute + INTERVAL 90 DAY
SETTINGS non_replicated_deduplication_window = 20000
COMMENT 'playback by minute, application, player, version and operating system';

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.rollup_version_mv TO ${database}.rollup_version AS
SELECT
    toStartOfMinute(toDateTime(time)) AS minute,
    app,
    client,
    client_version,
    os,
    sum(s.sessions) AS sessions,
    sum(s.attempts) AS attempts,
    sum(s.start_failures) AS start_failures,
    sum(s.playback_failures) AS playback_failures,
    sum(s.played_ms) AS played_ms,
    sum(s.stalled_ms) AS stalled_ms,
    sum(s.stalls) AS stalls,
    CAST(sumMap(s.first_screen_bins, s.first_screen_counts), 'Map(Int64, Int64)') AS first_screen
FROM ${database}.session_slices AS s
GROUP BY minute, app, client, client_version, os;
