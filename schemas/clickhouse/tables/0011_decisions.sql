-- What was decided of sessions and publishers, what each decision saw of the candidates, and what a session had to put up
-- with because all was full; records that are JSON on the bus.
CREATE TABLE IF NOT EXISTS ${database}.decisions
(
    time                   DateTime64(6, 'UTC')     COMMENT 'when it was decided, UTC; from Decision.time_us',
    kind                   LowCardinality(String)   COMMENT 'what was decided: dispatch, multivariant, steering, publish; from Decision.kind',
    id                     String                   COMMENT 'unique id of the decision; from Decision.id',
    app                    LowCardinality(String)   COMMENT 'application; from Decision.app',
    stream                 LowCardinality(String)   COMMENT 'stream name; from Decision.stream',
    session_id             String                   COMMENT 'playback session; from Decision.session_id',
    viewer_id              String                   COMMENT 'salted hash of the viewer; from Decision.viewer_id',
    region                 LowCardinality(String)   COMMENT 'viewer''s region; from Decision.region',
    isp                    LowCardinality(String)   COMMENT 'viewer''s internet provider; from Decision.isp',
    policy                 LowCardinality(String)   COMMENT 'name of the rule that decided; from Decision.policy',
    policy_version         LowCardinality(String)   COMMENT 'version of that rule; from Decision.policy_version',
    chosen                 LowCardinality(String)   COMMENT 'CDN chosen; from Decision.chosen',
    previous               LowCardinality(String)   COMMENT 'CDN before, where known; from Decision.previous',
    probability            Float64                  COMMENT 'probability with which the policy takes the choice in this context, above 0 to 1; from Decision.probability',
    reason_code            LowCardinality(String)   COMMENT 'short token: affinity, spill, draining, pinned; from Decision.reason_code',
    input_age_ms           Int64                    COMMENT 'age of the load figures used, ms; -1 when there were none; from Decision.input_age_ms',
    arms                   LowCardinality(String)   COMMENT 'experiment=arm pairs of the session; from Decision.arms',
    candidate_cdns         Array(LowCardinality(String)) COMMENT 'CDNs considered, in the order answered; from Decision.candidates.cdn',
    candidate_scores       Array(Float64)           COMMENT 'their scores under the policy, no unit; from Decision.candidates.score',
    candidate_viewers      Array(Int64)             COMMENT 'viewers on them as the policy saw it; from Decision.candidates.viewers',
    candidate_excluded     Array(LowCardinality(String)) COMMENT 'why a candidate was not eligible, empty if it was; from Decision.candidates.excluded',
    bus_seq                UInt64                   COMMENT 'stream sequence of the bus message in DECISIONS',
    candidate_tiers        Array(LowCardinality(String)) COMMENT 'where they stood before their score: pinned, current, room, full, failing; from Decision.candidates.tier',
    candidate_loads        Array(Float64)           COMMENT 'share of their capacity in use, as forecast; from Decision.candidates.load',
    candidate_harms        Array(Float64)           COMMENT 'share of a one-minute view lost on them; from Decision.candidates.harm',
    cap_bps                Int64                    COMMENT 'bitrate that the renditions are held to because all is nearly full, bit/s; 0: all renditions; from Decision.cap_bps',
    queued_ms              Int64                    COMMENT 'how long a new session had to wait for a place, ms; from Decision.queued_ms',
    INDEX by_session session_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toDate(time)
ORDER BY (app, stream, session_id, time)
TTL toDateTime(time) + INTERVAL 90 DAY
SETTINGS non_replicated_deduplication_window = 20000, ttl_only_drop_parts = 1
COMMENT 'routing and overflow decisions with their reasons; written by the loader from the bus stream DECISIONS';

-- Decisions counted by minute, for walls over weeks: the decisions themselves are one row a session and more.
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
