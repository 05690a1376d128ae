-- Who met which arm of an experiment; records that are JSON on the bus.
CREATE TABLE IF NOT EXISTS ${database}.exposures
(
    time                   DateTime64(6, 'UTC')     COMMENT 'when the unit met the experiment, UTC; from Exposure.time_us',
    id                     String                   COMMENT 'unique id of the exposure; from Exposure.id',
    experiment             LowCardinality(String)   COMMENT 'experiment; from Exposure.experiment',
    salt                   LowCardinality(String)   COMMENT 'phase of the experiment: a new salt randomises anew; from Exposure.salt',
    unit                   String                   COMMENT 'what was randomised: its id; from Exposure.unit',
    unit_kind              LowCardinality(String)   COMMENT 'what was randomised: session, viewer, stream; from Exposure.unit_kind',
    session_id             String                   COMMENT 'playback session; from Exposure.session_id',
    viewer_id              String                   COMMENT 'salted hash of the viewer; from Exposure.viewer_id',
    app                    LowCardinality(String)   COMMENT 'application; from Exposure.app',
    stream                 LowCardinality(String)   COMMENT 'stream name; from Exposure.stream',
    arm                    LowCardinality(String)   COMMENT 'arm of the experiment; from Exposure.arm',
    propensity             Float64                  COMMENT 'probability with which the unit gets this arm, above 0 to 1; from Exposure.propensity',
    reason                 LowCardinality(String)   COMMENT 'assigned, forced or fallback; from Exposure.reason',
    bus_seq                UInt64                   COMMENT 'stream sequence of the bus message in DECISIONS'
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (experiment, salt, unit, time)
TTL toDateTime(time) + INTERVAL 400 DAY
SETTINGS non_replicated_deduplication_window = 20000
COMMENT 'which unit met which arm and when; written by the loader from the bus stream DECISIONS';

-- What reports of experiments read instead of every row (docs/decisions/0037): which units were exposed and which reported.
CREATE TABLE IF NOT EXISTS ${database}.experiment_units
(
    experiment             LowCardinality(String)   COMMENT 'experiment; from exposures and session_slices',
    salt                   LowCardinality(String)   COMMENT 'phase of the experiment in which the unit was exposed; empty: the row says that the unit reported; from exposures',
    unit_hash              UInt64                   COMMENT 'sipHash64 of the unit; where it reported, of the viewer (of the session where the viewer is unknown)',
    arm                    LowCardinality(String)   COMMENT 'arm of the experiment',
    month                  Date                     COMMENT 'first day of the month, UTC',
    bucket                 UInt8                    COMMENT 'hash bucket 0 to 255 of the viewer (of the session where the viewer is unknown), as in rollup_arm_minute',
    first                  SimpleAggregateFunction(min, DateTime('UTC')) COMMENT 'first exposure, or start of the first session that reported, in the month, UTC',
    last                   SimpleAggregateFunction(max, DateTime('UTC')) COMMENT 'last exposure, or start of the last session that reported, in the month, UTC'
)
ENGINE = AggregatingMergeTree
PARTITION BY month
ORDER BY (experiment, salt, unit_hash, arm, month, bucket)
TTL month + INTERVAL 400 DAY
SETTINGS non_replicated_deduplication_window = 20000
COMMENT 'units of experiments: when they were exposed to which arm, and when they reported; several rows of a unit are one';

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.experiment_units_exposed_mv TO ${database}.experiment_units AS
SELECT
    experiment,
    salt,
    sipHash64(unit) AS unit_hash,
    arm,
    toDate(toStartOfMonth(e.time)) AS month,
    toUInt8(sipHash64('rollup_arm', experiment, if(viewer_id = '', session_id, viewer_id)) % 256) AS bucket,
    min(toDateTime(e.time)) AS first,
    max(toDateTime(e.time)) AS last
FROM ${database}.exposures AS e
WHERE salt != '' AND reason != 'forced'
GROUP BY experiment, salt, unit_hash, arm, month, bucket;

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.experiment_units_reported_mv TO ${database}.experiment_units AS
SELECT
    substring(arm_pair, 1, position(arm_pair, '=') - 1) AS experiment,
    '' AS salt,
    sipHash64(unit) AS unit_hash,
    substring(arm_pair, position(arm_pair, '=') + 1) AS arm,
    toDate(toStartOfMonth(at)) AS month,
    toUInt8(sipHash64('rollup_arm', substring(arm_pair, 1, position(arm_pair, '=') - 1), unit) % 256) AS bucket,
    min(at) AS first,
    max(at) AS last
FROM
(
    SELECT toDateTime(time) AS at, arms, if(viewer_id = '', session_id, viewer_id) AS unit
    FROM ${database}.session_slices
    WHERE arms != '' AND sessions > 0
) AS s
ARRAY JOIN arrayFilter(p -> position(p, '=') > 1, splitByChar(',', arms)) AS arm_pair
GROUP BY experiment, unit_hash, arm, month, bucket;

-- Arms by segment. Fewer buckets and sums than rollup_arm_hour, and no histograms: every row counts once a dimension.
CREATE TABLE IF NOT EXISTS ${database}.rollup_arm_segment_hour
(
    hour                   DateTime('UTC')          COMMENT 'start of the hour of stream time, UTC; from session_slices',
    experiment             LowCardinality(String)   COMMENT 'experiment; from session_slices',
    arm                    LowCardinality(String)   COMMENT 'arm of the experiment; from session_slices',
    dimension              LowCardinality(String)   COMMENT 'cdn, region, isp or device; sums over one of them are all sessions',
    value                  LowCardinality(String)   COMMENT 'value of the dimension, at most 64 bytes; from session_slices',
    bucket                 UInt8                    COMMENT 'hash bucket 0 to 63 of the viewer (of the session where the viewer is unknown), independent of the assignment; from session_slices',
    sessions               SimpleAggregateFunction(sum, Int64) COMMENT 'sum: 1 in the first slice of a session; from session_slices',
    attempts               SimpleAggregateFunction(sum, Int64) COMMENT 'sum: start attempts; from session_slices',
    starts                 SimpleAggregateFunction(sum, Int64) COMMENT 'sum: attempts that reached the first frame; from session_slices',
    startup_ms             SimpleAggregateFunction(sum, Int64) COMMENT 'sum: start-up time of the starts, ms; from session_slices',
    exits_before_start     SimpleAggregateFunction(sum, Int64) COMMENT 'sum: attempts given up before the first frame without failure; from session_slices',
    start_failures         SimpleAggregateFunction(sum, Int64) COMMENT 'sum: attempts that failed before the first frame; from session_slices',
    playback_failures      SimpleAggregateFunction(sum, Int64) COMMENT 'sum: failures after the first frame; from session_slices',
    played_ms              SimpleAggregateFunction(sum, Int64) COMMENT 'sum: time in state playing, ms; from session_slices',
    stalled_ms             SimpleAggregateFunction(sum, Int64) COMMENT 'sum: waiting after the first frame outside seeks, ms; from session_slices',
    stalls                 SimpleAggregateFunction(sum, Int64) COMMENT 'sum: stalls begun; from session_slices',
    latency_ms_sum         SimpleAggregateFunction(sum, Int64) COMMENT 'sum: live latency x played time, ms x ms; from session_slices',
    latency_weight_ms      SimpleAggregateFunction(sum, Int64) COMMENT 'sum: played time with a known latency, ms; from session_slices',
    bitrate_kbps_ms_sum    SimpleAggregateFunction(sum, Int64) COMMENT 'sum: bitrate x played time, kbit/s x ms; from session_slices',
    bitrate_weight_ms      SimpleAggregateFunction(sum, Int64) COMMENT 'sum: played time with a known bitrate, ms; from session_slices'
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(hour)
ORDER BY (experiment, dimension, value, arm, hour, bucket)
TTL hour + INTERVAL 400 DAY
SETTINGS non_replicated_deduplication_window = 20000
COMMENT 'sums of session slices by hour, experiment arm, segment and hash bucket of the unit';

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.rollup_arm_segment_hour_mv TO ${database}.rollup_arm_segment_hour AS
SELECT
    g.at AS hour,
    substring(arm_pair, 1, position(arm_pair, '=') - 1) AS experiment,
    substring(arm_pair, position(arm_pair, '=') + 1) AS arm,
    segment.1 AS dimension,
    left(segment.2, 64) AS value,
    g.hash AS bucket,
    sum(g.sessions) AS sessions,
    sum(g.attempts) AS attempts,
    sum(g.starts) AS starts,
    sum(g.startup_ms) AS startup_ms,
    sum(g.exits_before_start) AS exits_before_start,
    sum(g.start_failures) AS start_failures,
    sum(g.playback_failures) AS playback_failures,
    sum(g.played_ms) AS played_ms,
    sum(g.stalled_ms) AS stalled_ms,
    sum(g.stalls) AS stalls,
    sum(g.latency_ms_sum) AS latency_ms_sum,
    sum(g.latency_weight_ms) AS latency_weight_ms,
    sum(g.bitrate_kbps_ms_sum) AS bitrate_kbps_ms_sum,
    sum(g.bitrate_weight_ms) AS bitrate_weight_ms
FROM
(
    SELECT toStartOfHour(toDateTime(time)) AS at, arms, cdn, region, isp, device,
        toUInt8(sipHash64('rollup_arm_segment', if(viewer_id = '', session_id, viewer_id)) % 64) AS hash,
        arrayJoin([('cdn', toString(cdn)), ('region', toString(region)), ('isp', toString(isp)), ('device', toString(device))]) AS segment,
        sum(s.sessions) AS sessions,
        sum(s.attempts) AS attempts,
        sum(s.starts) AS starts,
        sum(s.startup_ms) AS startup_ms,
        sum(s.exits_before_start) AS exits_before_start,
        sum(s.start_failures) AS start_failures,
        sum(s.playback_failures) AS playback_failures,
        sum(s.played_ms) AS played_ms,
        sum(s.stalled_ms) AS stalled_ms,
        sum(s.stalls) AS stalls,
        sum(s.latency_ms_sum) AS latency_ms_sum,
        sum(s.latency_weight_ms) AS latency_weight_ms,
        sum(s.bitrate_kbps_ms_sum) AS bitrate_kbps_ms_sum,
        sum(s.bitrate_weight_ms) AS bitrate_weight_ms
    FROM ${database}.session_slices AS s
    WHERE arms != ''
    GROUP BY at, arms, cdn, region, isp, device, hash
) AS g
ARRAY JOIN arrayFilter(p -> position(p, '=') > 1, splitByChar(',', arms)) AS arm_pair
GROUP BY hour, experiment, arm, dimension, value, bucket;
