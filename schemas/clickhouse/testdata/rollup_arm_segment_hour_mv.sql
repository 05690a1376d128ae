CREATE MATERIALIZED VIEW spillway.rollup_arm_segment_hour_mv TO spillway.rollup_arm_segment_hour (
`hour` DateTime('UTC'),
`experiment` String,
`arm` String,
`dimension` String,
`value` LowCardinality(String),
`bucket` UInt8,
`sessions` Int64,
`attempts` Int64,
`starts` Int64,
`startup_ms` Int64,
`exits_before_start` Int64,
`start_failures` Int64,
`playback_failures` Int64,
`played_ms` Int64,
`stalled_ms` Int64,
`stalls` Int64,
`latency_ms_sum` Int64,
`latency_weight_ms` Int64,
`bitrate_kbps_ms_sum` Int64,
`bitrate_weight_ms` Int64)
 AS SELECT g.at AS hour, substring(arm_pair, 1, position(arm_pair, '=') - 1) AS experiment, substring(arm_pair, position(arm_pair, '=') + 1) AS arm, segment.1 AS dimension, left(segment.2, 64) AS value, g.hash AS bucket, sum(g.sessions) AS sessions, sum(g.attempts) AS attempts, sum(g.starts) AS starts, sum(g.startup_ms) AS startup_ms, sum(g.exits_before_start) AS exits_before_start, sum(g.start_failures) AS start_failures, sum(g.playback_failures) AS playback_failures, sum(g.played_ms) AS played_ms, sum(g.stalled_ms) AS stalled_ms, sum(g.stalls) AS stalls, sum(g.latency_ms_sum) AS latency_ms_sum, sum(g.latency_weight_ms) AS latency_weight_ms, sum(g.bitrate_kbps_ms_sum) AS bitrate_kbps_ms_sum, sum(g.bitrate_weight_ms) AS bitrate_weight_ms
 FROM (SELECT toStartOfHour(toDateTime(time)) AS at, arms, cdn, region, isp, device, toUInt8(sipHash64('rollup_arm_segment', if(viewer_id = '', session_id, viewer_id)) % 64) AS hash, arrayJoin([('cdn', toString(cdn)), ('region', toString(region)), ('isp', toString(isp)), ('device', toString(device))]) AS segment, sum(s.sessions) AS sessions, sum(s.attempts) AS attempts, sum(s.starts) AS starts, sum(s.startup_ms) AS startup_ms, sum(s.exits_before_start) AS exits_before_start, sum(s.start_failures) AS start_failures, sum(s.playback_failures) AS playback_failures, sum(s.played_ms) AS played_ms, sum(s.stalled_ms) AS stalled_ms, sum(s.stalls) AS stalls, sum(s.latency_ms_sum) AS latency_ms_sum, sum(s.latency_weight_ms) AS latency_weight_ms, sum(s.bitrate_kbps_ms_sum) AS bitrate_kbps_ms_sum, sum(s.bitrate_weight_ms) AS bitrate_weight_ms
 FROM spillway.session_slices AS s WHERE arms != ''
 GROUP BY at, arms, cdn, region, isp, device, hash) AS g
 ARRAY JOIN arrayFilter(p -> (position(p, '=') > 1), splitByChar(',', arms)) AS arm_pair
 GROUP BY hour, experiment, arm, dimension, value, bucket
