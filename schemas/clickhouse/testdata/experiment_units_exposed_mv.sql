CREATE MATERIALIZED VIEW spillway.experiment_units_exposed_mv TO spillway.experiment_units (
`experiment` LowCardinality(String),
`salt` LowCardinality(String),
`unit_hash` UInt64,
`arm` LowCardinality(String),
`month` Date,
`bucket` UInt8,
`first` DateTime('UTC'),
`last` DateTime('UTC'))
 AS SELECT experiment, salt, sipHash64(unit) AS unit_hash, arm, toDate(toStartOfMonth(e.time)) AS month, toUInt8(sipHash64('rollup_arm', experiment, if(viewer_id = '', session_id, viewer_id)) % 256) AS bucket, min(toDateTime(e.time)) AS first, max(toDateTime(e.time)) AS last
 FROM spillway.exposures AS e WHERE (salt != '') AND (reason != 'forced')
 GROUP BY experiment, salt, unit_hash, arm, month, bucket
