CREATE TABLE spillway.rollup_arm_hour (
`hour` DateTime('UTC') COMMENT 'start of the hour of stream time, UTC; from rollup_arm_minute',
`experiment` LowCardinality(String) COMMENT 'experiment; from rollup_arm_minute',
`arm` LowCardinality(String) COMMENT 'arm of the experiment; from rollup_arm_minute',
`bucket` UInt8 COMMENT 'hash bucket 0 to 255 of the viewer (of the session where the viewer is unknown), independent of the assignment: sipHash64 of experiment and unit; from rollup_arm_minute',
`sessions` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: 1 in the first slice of a session; from rollup_arm_minute',
`ended` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: 1 in the final slice of a session; from rollup_arm_minute',
`attempts` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: start attempts; from rollup_arm_minute',
`starts` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: attempts that reached the first frame; from rollup_arm_minute',
`startup_ms` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: start-up time of the starts, ms; from rollup_arm_minute',
`exits_before_start` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: attempts given up before the first frame without failure; from rollup_arm_minute',
`start_failures` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: attempts that failed before the first frame; from rollup_arm_minute',
`playback_failures` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: failures after the first frame; from rollup_arm_minute',
`played_ms` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: time in state playing, ms; from rollup_arm_minute',
`stalled_ms` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: waiting after the first frame outside seeks, ms; from rollup_arm_minute',
`stalls` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: stalls begun; from rollup_arm_minute',
`seek_ms` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: waiting caused by seeks, ms; from rollup_arm_minute',
`paused_ms` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: time paused, ms; from rollup_arm_minute',
`switches` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: bitrate changes; from rollup_arm_minute',
`cdn_moves` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: changes of the serving CDN; from rollup_arm_minute',
`latency_ms_sum` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: live latency x played time, ms x ms; from rollup_arm_minute',
`latency_weight_ms` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: played time with a known latency, ms; from rollup_arm_minute',
`bitrate_kbps_ms_sum` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: bitrate x played time, kbit/s x ms; from rollup_arm_minute',
`bitrate_weight_ms` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: played time with a known bitrate, ms; from rollup_arm_minute',
`dropped_frames` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: frames dropped; from rollup_arm_minute',
`requests` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: media requests seen by edges; from rollup_arm_minute',
`request_errors` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: of those, answered 400 or above, or not at all; from rollup_arm_minute',
`request_bytes` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: bytes edges sent; from rollup_arm_minute',
`reports` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: telemetry rows accounted for; from rollup_arm_minute',
`lost_reports` SimpleAggregateFunction(sum, Int64) COMMENT 'sum: reports missing by sequence number; from rollup_arm_minute',
`first_screen` SimpleAggregateFunction(sumMap, Map(Int64, Int64)) COMMENT 'log-histogram of start-up times: bin to count, bin floor(ln ms / ln 1.02), failed starts in bin 1073741824; from rollup_arm_minute',
`latency` SimpleAggregateFunction(sumMap, Map(Int64, Int64)) COMMENT 'log-histogram of live latency samples: bin to count, bin floor(ln ms / ln 1.02); from rollup_arm_minute')
 ENGINE = AggregatingMergeTree
 PARTITION BY toYYYYMM(hour)
 ORDER BY (experiment, arm, hour, bucket)
 TTL hour + toIntervalDay(1100)
 SETTINGS non_replicated_deduplication_window = 20000, index_granularity = 8192 COMMENT 'sums of session slices by hour, experiment arm and hash bucket of the unit; the same columns sum further'
