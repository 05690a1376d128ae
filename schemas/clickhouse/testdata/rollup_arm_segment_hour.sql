CREATE TABLE spillway.rollup_arm_segment_hour (
`hour` DateTime('UTC') COMMENT 'start of the hour of stream time, UTC; from session_slices',
`experiment` LowCardinality(String) COMMENT 'experiment; from session_slices',
`arm` LowCardinality(String) COMMENT 'arm of the experiment; from session_slices',
`dimension` LowCardinality(String) COMMENT 'cdn, region, isp or device; sums over one of them are all sessions',
`value` LowCardinality(String) COMMENT 'value of the dimension, at most 64 bytes; from session_slices',
`bucket` UInt8 COMMENT 'hash bucket 0 to 63 of the viewer (of the session where the viewer is unknown), independent of the assignment; from session_slices',
`sessions` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: 1 in the first slice of a session; from session_slices',
`attempts` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: start attempts; from session_slices',
`starts` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: attempts that reached the first frame; from session_slices',
`startup_ms` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: start-up time of the starts, ms; from session_slices',
`exits_before_start` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: attempts given up before the first frame without failure; from session_slices',
`start_failures` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: attempts that failed before the first frame; from session_slices',
`playback_failures` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: failures after the first frame; from session_slices',
`played_ms` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: time in state playing, ms; from session_slices',
`stalled_ms` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: waiting after the first frame outside seeks, ms; from session_slices',
`stalls` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: stalls begun; from session_slices',
`latency_ms_sum` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: live latency x played time, ms x ms; from session_slices',
`latency_weight_ms` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: played time with a known latency, ms; from session_slices',
`bitrate_kbps_ms_sum` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: bitrate x played time, kbit/s x ms; from session_slices',
`bitrate_weight_ms` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: played time with a known bitrate, ms; from session_slices')
 ENGINE = AggregatingMergeTree
 PARTITION BY toYYYYMM(hour)
 ORDER BY (experiment, dimension, value, arm, hour, bucket)
 TTL hour + toIntervalDay(400)
 SETTINGS non_replicated_deduplication_window = 20000, index_granularity = 8192 COMMENT 'sums of session slices by hour, experiment arm, segment and hash bucket of the unit'
