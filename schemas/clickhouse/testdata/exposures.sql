CREATE TABLE spillway.exposures (
`time` DateTime64(6, 'UTC') COMMENT 'when the unit met the experiment, UTC; from Exposure.time_us',
`id` String COMMENT 'unique id of the exposure; from Exposure.id',
`experiment` LowCardinality(String) COMMENT 'experiment; from Exposure.experiment',
`salt` LowCardinality(String) COMMENT 'phase of the experiment: a new salt randomises anew; from Exposure.salt',
`unit` String COMMENT 'what was randomised: its id; from Exposure.unit',
`unit_kind` LowCardinality(String) COMMENT 'what was randomised: session, viewer, stream; from Exposure.unit_kind',
`session_id` String COMMENT 'playback session; from Exposure.session_id',
`viewer_id` String COMMENT 'salted hash of the viewer; from Exposure.viewer_id',
`app` LowCardinality(String) COMMENT 'application; from Exposure.app',
`stream` LowCardinality(String) COMMENT 'stream name; from Exposure.stream',
`arm` LowCardinality(String) COMMENT 'arm of the experiment; from Exposure.arm',
`propensity` Float64 COMMENT 'probability with which the unit gets this arm, above 0 to 1; from Exposure.propensity',
`reason` LowCardinality(String) COMMENT 'assigned, forced or fallback; from Exposure.reason',
`bus_seq` UInt64 COMMENT 'stream sequence of the bus message in DECISIONS')
 ENGINE = MergeTree
 PARTITION BY toYYYYMM(time)
 ORDER BY (experiment, salt, unit, time)
 TTL toDateTime(time) + toIntervalDay(400)
 SETTINGS non_replicated_deduplication_window = 20000, index_granularity = 8192 COMMENT 'which unit met which arm and when; written by the loader from the bus stream DECISIONS'
