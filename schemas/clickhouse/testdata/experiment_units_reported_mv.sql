CREATE MATERIALIZED VIEW spillway.experiment_units_reported_mv TO spillway.experiment_units (
`experiment` String,
`salt` String,
`unit_hash` UInt64,
`arm` String,
`month` Date,
`bucket` UInt8,
`first` DateTime('UTC'),
`last` DateTime('UTC'))
 AS SELECT substring(arm_pair, 1, position(arm_pair, '=') - 1) AS experiment, '' AS salt, sipHash64(unit) AS unit_hash, substring(arm_pair, position(arm_pair, '=') + 1) AS arm, toDate(toStartOfMonth(at)) AS month, toUInt8(sipHash64('rollup_arm', substring(arm_pair, 1, position(arm_pair, '=') - 1), unit) % 256) AS bucket, min(at) AS first, max(at) AS last
 FROM (SELECT toDateTime(time) AS at, arms, if(viewer_id = '', session_id, viewer_id) AS unit
 FROM spillway.session_slices WHERE (arms != '') AND (sessions > 0)) AS s
 ARRAY JOIN arrayFilter(p -> (position(p, '=') > 1), splitByChar(',', arms)) AS arm_pair
 GROUP BY experiment, unit_hash, arm, month, bucket
