-- Sums of session slices by minute, experiment arm and hash bucket of the unit.
CREATE TABLE IF NOT EXISTS ${database}.rollup_arm_minute
(
    minute                 DateTime('UTC')          COMMENT 'start of the minute of stream time, UTC; from session_slices',
    experiment             LowCardinality(String)   COMMENT 'experiment; from session_slices',
    arm                    LowCardinality(String)   COMMENT 'arm of the experiment; from session_slices',
    bucket                 UInt8                    COMMENT 'hash bucket 0 to 255 of the viewer (of the session where the viewer is unknown), independent of the assignment: sipHash64 of experiment and unit; from session_slices',
    sessions               SimpleAggregateFunction(sum, Int64) COMMENT 'sum: 1 in the first slice of a session; from session_slices',
    ended                  SimpleAggregateFunction(sum, Int64) COMMENT 'sum: 1 in the final slice of a session; from session_slices',
    attempts               SimpleAggregateFunction(sum, Int64) COMMENT 'sum: start attempts; from session_slices',
    starts                 SimpleAggregateFunction(sum, Int64) COMMENT 'sum: attempts that reached the first frame; from session_slices',
    startup_ms             SimpleAggregateFunction(sum, Int64) COMMENT 'sum: start-up time of the starts, ms; from session_slices',
    exits_before_start     SimpleAggregateFunction(sum, Int64) COMMENT 'sum: attempts given up before the first frame without failure; from session_slices',
    start_failures         SimpleAggregateFunction(sum, Int64) COMMENT 'sum: attempts that failed before the first frame; from session_slices',
    playback_failures      SimpleAggregateFunction(sum, Int64) COMMENT 'sum: failures after the first frame; from session_slices',
    played_ms              SimpleAggregateFunction(sum, Int64) COMMENT 'sum: time in state playing, ms; from session_slices',
    stalled_ms             SimpleAggregateFunction(sum, Int64) COMMENT 'sum: waiting after the first frame outside seeks, ms; from session_slices',
    stalls                 SimpleAggregateFunction(sum, Int64) COMMENT 'sum: stalls begun; from session_slices',
    seek_ms                SimpleAggregateFunction(sum, Int64) COMMENT 'sum: waiting caused by seeks, ms; from session_slices',
    paused_ms              SimpleAggregateFunction(sum, Int64) COMMENT 'sum: time paused, ms; from session_slices',
    switches               SimpleAggregateFunction(sum, Int64) COMMENT 'sum: bitrate changes; from session_slices',
    cdn_moves              SimpleAggregateFunction(sum, Int64) COMMENT 'sum: changes of the serving CDN; from session_slices',
    latency_ms_sum         SimpleAggregateFunction(sum, Int64) COMMENT 'sum: live latency x played time, ms x ms; from session_slices',
    latency_weight_ms      SimpleAggregateFunction(sum, Int64) COMMENT 'sum: played time with a known latency, ms; from session_slices',
    bitrate_kbps_ms_sum    SimpleAggregateFunction(sum, Int64) COMMENT 'sum: bitrate x played time, kbit/s x ms; from session_slices',
    bitrate_weight_ms      SimpleAggregateFunction(sum, Int64) COMMENT 'sum: played time with a known bitrate, ms; from session_slices',
    dropped_frames         SimpleAggregateFunction(sum, Int64) COMMENT 'sum: frames dropped; from session_slices',
    requests               SimpleAggregateFunction(sum, Int64) COMMENT 'sum: media requests seen by edges; from session_slices',
    request_errors         SimpleAggregateFunction(sum, Int64) COMMENT 'sum: of those, answered 400 or above, or not at all; from session_slices',
    request_bytes          SimpleAggregateFunction(sum, Int64) COMMENT 'sum: bytes edges sent; from session_slices',
    reports                SimpleAggregateFunction(sum, Int64) COMMENT 'sum: telemetry rows accounted for; from session_slices',
    lost_reports           SimpleAggregateFunction(sum, Int64) COMMENT 'sum: reports missing by sequence number; from session_slices',
    stalled_network_ms     SimpleAggregateFunction(sum, Int64) COMMENT 'sum: of the stalled time, what slow answers or throughput below the bitrate explain, ms; from session_slices',
    stalled_cdn_ms         SimpleAggregateFunction(sum, Int64) COMMENT 'sum: of the stalled time, what failed requests explain, ms; from session_slices',
    stalled_background_ms  SimpleAggregateFunction(sum, Int64) COMMENT 'sum: of the stalled time, that of pages in the background, ms; from session_slices',
    frames_weight_ms       SimpleAggregateFunction(sum, Int64) COMMENT 'sum: played time of sessions that tell their dropped frames, ms; from session_slices',
    first_screen           SimpleAggregateFunction(sumMap, Map(Int64, Int64)) COMMENT 'log-histogram of start-up times: bin to count, bin floor(ln ms / ln 1.02), failed starts in bin 1073741824; from session_slices',
    latency                SimpleAggregateFunction(sumMap, Map(Int64, Int64)) COMMENT 'log-histogram of live latency samples: bin to count, bin floor(ln ms / ln 1.02); from session_slices'
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(minute)
ORDER BY (experiment, arm, minute, bucket)
TTL minute + INTERVAL 400 DAY
SETTINGS non_replicated_deduplication_window = 20000
COMMENT 'sums of session slices by minute, experiment arm and hash bucket of the unit; the same columns sum further';

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.rollup_arm_minute_mv TO ${database}.rollup_arm_minute AS
SELECT
    toStartOfMinute(toDateTime(time)) AS minute,
    substring(arm_pair, 1, position(arm_pair, '=') - 1) AS experiment,
    substring(arm_pair, position(arm_pair, '=') + 1) AS arm,
    toUInt8(sipHash64('rollup_arm', substring(arm_pair, 1, position(arm_pair, '=') - 1), if(viewer_id = '', session_id, viewer_id)) % 256) AS bucket,
    sum(s.sessions) AS sessions,
    sum(s.ended) AS ended,
    sum(s.attempts) AS attempts,
    sum(s.starts) AS starts,
    sum(s.startup_ms) AS startup_ms,
    sum(s.exits_before_start) AS exits_before_start,
    sum(s.start_failures) AS start_failures,
    sum(s.playback_failures) AS playback_failures,
    sum(s.played_ms) AS played_ms,
    sum(s.stalled_ms) AS stalled_ms,
    sum(s.stalled_network_ms) AS stalled_network_ms,
    sum(s.stalled_cdn_ms) AS stalled_cdn_ms,
    sum(s.stalled_background_ms) AS stalled_background_ms,
    sum(s.frames_weight_ms) AS frames_weight_ms,
    sum(s.stalls) AS stalls,
    sum(s.seek_ms) AS seek_ms,
    sum(s.paused_ms) AS paused_ms,
    sum(s.switches) AS switches,
    sum(s.cdn_moves) AS cdn_moves,
    sum(s.latency_ms_sum) AS latency_ms_sum,
    sum(s.latency_weight_ms) AS latency_weight_ms,
    sum(s.bitrate_kbps_ms_sum) AS bitrate_kbps_ms_sum,
    sum(s.bitrate_weight_ms) AS bitrate_weight_ms,
    sum(s.dropped_frames) AS dropped_frames,
    sum(s.requests) AS requests,
    sum(s.request_errors) AS request_errors,
    sum(s.request_bytes) AS request_bytes,
    sum(s.reports) AS reports,
    sum(s.lost_reports) AS lost_reports,
    CAST(sumMap(s.first_screen_bins, s.first_screen_counts), 'Map(Int64, Int64)') AS first_screen,
    CAST(sumMap(s.latency_bins, s.latency_counts), 'Map(Int64, Int64)') AS latency
FROM ${database}.session_slices AS s
ARRAY JOIN arrayFilter(p -> position(p, '=') > 1, splitByChar(',', arms)) AS arm_pair
WHERE arms != ''
GROUP BY minute, experiment, arm, bucket;

-- The same by hour, kept three years: fed by the minutes in the same insert.
CREATE TABLE IF NOT EXISTS ${database}.rollup_arm_hour
(
    hour                   DateTime('UTC')          COMMENT 'start of the hour of stream time, UTC; from rollup_arm_minute',
    experiment             LowCardinality(String)   COMMENT 'experiment; from rollup_arm_minute',
    arm                    LowCardinality(String)   COMMENT 'arm of the experiment; from rollup_arm_minute',
    bucket                 UInt8                    COMMENT 'hash bucket 0 to 255 of the viewer (of the session where the viewer is unknown), independent of the assignment: sipHash64 of experiment and unit; from rollup_arm_minute',
    sessions               SimpleAggregateFunction(sum, Int64) COMMENT 'sum: 1 in the first slice of a session; from rollup_arm_minute',
    ended                  SimpleAggregateFunction(sum, Int64) COMMENT 'sum: 1 in the final slice of a session; from rollup_arm_minute',
    attempts               SimpleAggregateFunction(sum, Int64) COMMENT 'sum: start attempts; from rollup_arm_minute',
    starts                 SimpleAggregateFunction(sum, Int64) COMMENT 'sum: attempts that reached the first frame; from rollup_arm_minute',
    startup_ms             SimpleAggregateFunction(sum, Int64) COMMENT 'sum: start-up time of the starts, ms; from rollup_arm_minute',
    exits_before_start     SimpleAggregateFunction(sum, Int64) COMMENT 'sum: attempts given up before the first frame without failure; from rollup_arm_minute',
    start_failures         SimpleAggregateFunction(sum, Int64) COMMENT 'sum: attempts that failed before the first frame; from rollup_arm_minute',
    playback_failures      SimpleAggregateFunction(sum, Int64) COMMENT 'sum: failures after the first frame; from rollup_arm_minute',
    played_ms              SimpleAggregateFunction(sum, Int64) COMMENT 'sum: time in state playing, ms; from rollup_arm_minute',
    stalled_ms             SimpleAggregateFunction(sum, Int64) COMMENT 'sum: waiting after the first frame outside seeks, ms; from rollup_arm_minute',
    stalls                 SimpleAggregateFunction(sum, Int64) COMMENT 'sum: stalls begun; from rollup_arm_minute',
    seek_ms                SimpleAggregateFunction(sum, Int64) COMMENT 'sum: waiting caused by seeks, ms; from rollup_arm_minute',
    paused_ms              SimpleAggregateFunction(sum, Int64) COMMENT 'sum: time paused, ms; from rollup_arm_minute',
    switches               SimpleAggregateFunction(sum, Int64) COMMENT 'sum: bitrate changes; from rollup_arm_minute',
    cdn_moves              SimpleAggregateFunction(sum, Int64) COMMENT 'sum: changes of the serving CDN; from rollup_arm_minute',
    latency_ms_sum         SimpleAggregateFunction(sum, Int64) COMMENT 'sum: live latency x played time, ms x ms; from rollup_arm_minute',
    latency_weight_ms      SimpleAggregateFunction(sum, Int64) COMMENT 'sum: played time with a known latency, ms; from rollup_arm_minute',
    bitrate_kbps_ms_sum    SimpleAggregateFunction(sum, Int64) COMMENT 'sum: bitrate x played time, kbit/s x ms; from rollup_arm_minute',
    bitrate_weight_ms      SimpleAggregateFunction(sum, Int64) COMMENT 'sum: played time with a known bitrate, ms; from rollup_arm_minute',
    dropped_frames         SimpleAggregateFunction(sum, Int64) COMMENT 'sum: frames dropped; from rollup_arm_minute',
    requests               SimpleAggregateFunction(sum, Int64) COMMENT 'sum: media requests seen by edges; from rollup_arm_minute',
    request_errors         SimpleAggregateFunction(sum, Int64) COMMENT 'sum: of those, answered 400 or above, or not at all; from rollup_arm_minute',
    request_bytes          SimpleAggregateFunction(sum, Int64) COMMENT 'sum: bytes edges sent; from rollup_arm_minute',
    reports                SimpleAggregateFunction(sum, Int64) COMMENT 'sum: telemetry rows accounted for; from rollup_arm_minute',
    lost_reports           SimpleAggregateFunction(sum, Int64) COMMENT 'sum: reports missing by sequence number; from rollup_arm_minute',
    stalled_network_ms     SimpleAggregateFunction(sum, Int64) COMMENT 'sum: of the stalled time, what slow answers or throughput below the bitrate explain, ms; from rollup_arm_minute',
    stalled_cdn_ms         SimpleAggregateFunction(sum, Int64) COMMENT 'sum: of the stalled time, what failed requests explain, ms; from rollup_arm_minute',
    stalled_background_ms  SimpleAggregateFunction(sum, Int64) COMMENT 'sum: of the stalled time, that of pages in the background, ms; from rollup_arm_minute',
    frames_weight_ms       SimpleAggregateFunction(sum, Int64) COMMENT 'sum: played time of sessions that tell their dropped frames, ms; from rollup_arm_minute',
    first_screen           SimpleAggregateFunction(sumMap, Map(Int64, Int64)) COMMENT 'log-histogram of start-up times: bin to count, bin floor(ln ms / ln 1.02), failed starts in bin 1073741824; from rollup_arm_minute',
    latency                SimpleAggregateFunction(sumMap, Map(Int64, Int64)) COMMENT 'log-histogram of live latency samples: bin to count, bin floor(ln ms / ln 1.02); from rollup_arm_minute'
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(hour)
ORDER BY (experiment, arm, hour, bucket)
TTL hour + INTERVAL 1100 DAY
SETTINGS non_replicated_deduplication_window = 20000
COMMENT 'sums of session slices by hour, experiment arm and hash bucket of the unit; the same columns sum further';

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.rollup_arm_hour_mv TO ${database}.rollup_arm_hour AS
SELECT
    toStartOfHour(minute) AS hour,
    experiment,
    arm,
    bucket,
    sum(m.sessions) AS sessions,
    sum(m.ended) AS ended,
    sum(m.attempts) AS attempts,
    sum(m.starts) AS starts,
    sum(m.startup_ms) AS startup_ms,
    sum(m.exits_before_start) AS exits_before_start,
    sum(m.start_failures) AS start_failures,
    sum(m.playback_failures) AS playback_failures,
    sum(m.played_ms) AS played_ms,
    sum(m.stalled_ms) AS stalled_ms,
    sum(m.stalled_network_ms) AS stalled_network_ms,
    sum(m.stalled_cdn_ms) AS stalled_cdn_ms,
    sum(m.stalled_background_ms) AS stalled_background_ms,
    sum(m.frames_weight_ms) AS frames_weight_ms,
    sum(m.stalls) AS stalls,
    sum(m.seek_ms) AS seek_ms,
    sum(m.paused_ms) AS paused_ms,
    sum(m.switches) AS switches,
    sum(m.cdn_moves) AS cdn_moves,
    sum(m.latency_ms_sum) AS latency_ms_sum,
    sum(m.latency_weight_ms) AS latency_weight_ms,
    sum(m.bitrate_kbps_ms_sum) AS bitrate_kbps_ms_sum,
    sum(m.bitrate_weight_ms) AS bitrate_weight_ms,
    sum(m.dropped_frames) AS dropped_frames,
    sum(m.requests) AS requests,
    sum(m.request_errors) AS request_errors,
    sum(m.request_bytes) AS request_bytes,
    sum(m.reports) AS reports,
    sum(m.lost_reports) AS lost_reports,
    CAST(sumMap(m.first_screen), 'Map(Int64, Int64)') AS first_screen,
    CAST(sumMap(m.latency), 'Map(Int64, Int64)') AS latency
FROM ${database}.rollup_arm_minute AS m
GROUP BY hour, experiment, arm, bucket;
