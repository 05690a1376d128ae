CREATE TABLE spillway.experiment_units (
`experiment` LowCardinality(String) COMMENT 'experiment; from exposures and session_slices',
`salt` LowCardinality(String) COMMENT 'phase of the experiment in which the unit was exposed; empty: the row says that the unit reported; from exposures',
`unit_hash` UInt64 COMMENT 'sipHash64 of the unit; where it reported, of the viewer (of the session where the viewer is unknown)',
`arm` LowCardinality(String) COMMENT 'arm of the experiment',
`month` Date COMMENT 'first day of the month, UTC',
`bucket` UInt8 COMMENT 'hash bucket 0 to 255 of the viewer (of the session where the viewer is unknown), as in rollup_arm_minute',
`first` SimpleAggregateFunction(min, DateTime('UTC')) COMMENT 'first exposure, or start of the first session that reported, in the month, UTC',
`last` SimpleAggregateFunction(max, DateTime('UTC')) COMMENT 'last exposure, or start of the last session that reported, in the month, UTC')
 ENGINE = AggregatingMergeTree
 PARTITION BY month
 ORDER BY (experiment, salt, unit_hash, arm, month, bucket)
 TTL month + toIntervalDay(400)
 SETTINGS non_replicated_deduplication_window = 20000, index_granularity = 8192 COMMENT 'units of experiments: when they were exposed to which arm, and when they reported; several rows of a unit are one'
