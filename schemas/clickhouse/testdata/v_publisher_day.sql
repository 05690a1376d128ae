CREATE VIEW spillway.v_publisher_day (
`day` DateTime('UTC') COMMENT 'start of the day, UTC',
`app` LowCardinality(String) COMMENT 'application',
`stream` LowCardinality(String) COMMENT 'stream name',
`reports` Int64 COMMENT 'reports of ingest about the publisher',
`fps_mean` Nullable(Float64) COMMENT 'frame rate, mean over the reports, 1/s', `fps_p5` Nullable(Float64) COMMENT 'frame rate that 95 % of the reports reach, 1/s, within 1 %', `fps_p50` Nullable(Float64) COMMENT 'frame rate, level 0.50, 1/s, within 1 %',
`publish_bps_mean` Nullable(Float64) COMMENT 'bitrate, mean over the reports, bit/s', `publish_bps_p5` Nullable(Float64) COMMENT 'bitrate that 95 % of the reports reach, bit/s, within 1 %', `publish_bps_p50` Nullable(Float64) COMMENT 'bitrate, level 0.50, bit/s, within 1 %',
`publish_stall_ms` Int64 COMMENT 'how far the publisher fell behind real time, ms')
 AS WITH quantilesDDMerge(0.01, 0.05, 0.5)(r.fps_sketch) AS fps, quantilesDDMerge(0.01, 0.05, 0.5)(r.publish_bps_sketch) AS bps SELECT toStartOfDay(r.hour) AS day, app, stream, sum(r.reports) AS reports, sum(r.fps_sum) / nullIf(sum(r.fps_count), 0) AS fps_mean, ifNotFinite(toNullable(fps[1]), NULL) AS fps_p5, ifNotFinite(toNullable(fps[2]), NULL) AS fps_p50, sum(r.publish_bps_sum) / nullIf(sum(r.publish_bps_count), 0) AS publish_bps_mean, ifNotFinite(toNullable(bps[1]), NULL) AS publish_bps_p5, ifNotFinite(toNullable(bps[2]), NULL) AS publish_bps_p50, sum(r.publish_stall_ms) AS publish_stall_ms
 FROM spillway.rollup_publisher_hour AS r
 GROUP BY day, app, stream
