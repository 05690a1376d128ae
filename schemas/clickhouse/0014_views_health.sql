-- Health of CDNs and publishers by minute, hour and day, from the roll-ups of 0011: the sketches' functions are here.

-- One row for each minute, application, CDN, region and internet provider.
CREATE VIEW IF NOT EXISTS ${database}.v_cdn_health_minute
(
    minute               DateTime('UTC')        COMMENT 'start of the minute in which the collector got the log lines, UTC',
    app                  LowCardinality(String) COMMENT 'application',
    cdn                  LowCardinality(String) COMMENT 'CDN that answered',
    region               LowCardinality(String) COMMENT 'viewer\'s region',
    isp                  LowCardinality(String) COMMENT 'viewer\'s internet provider',
    servers              UInt64                 COMMENT 'hosts and ports that answered',
    requests             Int64                  COMMENT 'requests logged',
    hit_ratio            Nullable(Float64)      COMMENT 'requests for an object the edge had / requests whose line says so, 0 to 1',
    client_errors        Int64                  COMMENT 'requests answered 400 to 499',
    server_errors        Int64                  COMMENT 'requests answered 500 and above',
    no_answers           Int64                  COMMENT 'requests that got no answer',
    error_ratio          Nullable(Float64)      COMMENT 'requests answered 400 or above, or not at all / requests, 0 to 1',
    bytes                Int64                  COMMENT 'bytes sent',
    egress_bps           Float64                COMMENT 'bytes sent x 8 / length of the minute (so far), bit/s',
    first_byte_mean_ms   Nullable(Float64)      COMMENT 'time to first byte, mean, ms',
    first_byte_p50_ms    Nullable(Float64)      COMMENT 'time to first byte, level 0.50, ms, within 1 %',
    first_byte_p90_ms    Nullable(Float64)      COMMENT 'time to first byte, level 0.90, ms, within 1 %',
    first_byte_p99_ms    Nullable(Float64)      COMMENT 'time to first byte, level 0.99, ms, within 1 %',
    last_byte_p50_ms     Nullable(Float64)      COMMENT 'time to last byte, level 0.50, ms, within 1 %',
    last_byte_p90_ms     Nullable(Float64)      COMMENT 'time to last byte, level 0.90, ms, within 1 %',
    last_byte_p99_ms     Nullable(Float64)      COMMENT 'time to last byte, level 0.99, ms, within 1 %'
)
AS WITH
    quantilesDDMerge(0.01, 0.5, 0.9, 0.99)(r.first_byte_sketch) AS first_byte,
    quantilesDDMerge(0.01, 0.5, 0.9, 0.99)(r.last_byte_sketch) AS last_byte
SELECT
    minute,
    app,
    cdn,
    region,
    isp,
    uniqExact(r.server) AS servers,
    sum(r.requests) AS requests,
    sum(r.cache_hits) / nullIf(sum(r.cache_known), 0) AS hit_ratio,
    sum(r.client_errors) AS client_errors,
    sum(r.server_errors) AS server_errors,
    sum(r.no_answers) AS no_answers,
    (sum(r.client_errors) + sum(r.server_errors) + sum(r.no_answers)) / nullIf(sum(r.requests), 0) AS error_ratio,
    sum(r.bytes) AS bytes,
    sum(r.bytes) * 8000 / greatest(1000., least(60000., toFloat64(dateDiff('millisecond', minute, now64(3, 'UTC'))))) AS egress_bps,
    sum(r.first_byte_ms_sum) / nullIf(sum(r.first_byte_count), 0) AS first_byte_mean_ms,
    ifNotFinite(toNullable(first_byte[1]), NULL) AS first_byte_p50_ms,
    ifNotFinite(toNullable(first_byte[2]), NULL) AS first_byte_p90_ms,
    ifNotFinite(toNullable(first_byte[3]), NULL) AS first_byte_p99_ms,
    ifNotFinite(toNullable(last_byte[1]), NULL) AS last_byte_p50_ms,
    ifNotFinite(toNullable(last_byte[2]), NULL) AS last_byte_p90_ms,
    ifNotFinite(toNullable(last_byte[3]), NULL) AS last_byte_p99_ms
FROM ${database}.rollup_cdn_minute AS r
GROUP BY minute, app, cdn, region, isp;

-- One row for each minute and stream that was published.
CREATE VIEW IF NOT EXISTS ${database}.v_publisher_minute
(
    minute               DateTime('UTC')        COMMENT 'start of the minute, UTC',
    app                  LowCardinality(String) COMMENT 'application',
    stream               LowCardinality(String) COMMENT 'stream name',
    reports              Int64                  COMMENT 'reports of ingest about the publisher',
    fps_mean             Nullable(Float64)      COMMENT 'frame rate, mean over the reports, 1/s',
    fps_p5               Nullable(Float64)      COMMENT 'frame rate that 95 % of the reports reach, 1/s, within 1 %',
    fps_p50              Nullable(Float64)      COMMENT 'frame rate, level 0.50, 1/s, within 1 %',
    publish_bps_mean     Nullable(Float64)      COMMENT 'bitrate, mean over the reports, bit/s',
    publish_bps_p5       Nullable(Float64)      COMMENT 'bitrate that 95 % of the reports reach, bit/s, within 1 %',
    publish_bps_p50      Nullable(Float64)      COMMENT 'bitrate, level 0.50, bit/s, within 1 %',
    publish_stall_ms     Int64                  COMMENT 'how far the publisher fell behind real time, ms'
)
AS WITH
    quantilesDDMerge(0.01, 0.05, 0.5)(r.fps_sketch) AS fps,
    quantilesDDMerge(0.01, 0.05, 0.5)(r.publish_bps_sketch) AS bps
SELECT
    minute,
    app,
    stream,
    sum(r.reports) AS reports,
    sum(r.fps_sum) / nullIf(sum(r.fps_count), 0) AS fps_mean,
    ifNotFinite(toNullable(fps[1]), NULL) AS fps_p5,
    ifNotFinite(toNullable(fps[2]), NULL) AS fps_p50,
    sum(r.publish_bps_sum) / nullIf(sum(r.publish_bps_count), 0) AS publish_bps_mean,
    ifNotFinite(toNullable(bps[1]), NULL) AS publish_bps_p5,
    ifNotFinite(toNullable(bps[2]), NULL) AS publish_bps_p50,
    sum(r.publish_stall_ms) AS publish_stall_ms
FROM ${database}.rollup_publisher_minute AS r
GROUP BY minute, app, stream;

-- One row for each hour, application, CDN, region and internet provider.
CREATE VIEW IF NOT EXISTS ${database}.v_cdn_health_hour
(
    hour                 DateTime('UTC')        COMMENT 'start of the hour in which the collector got the log lines, UTC',
    app                  LowCardinality(String) COMMENT 'application',
    cdn                  LowCardinality(String) COMMENT 'CDN that answered',
    region               LowCardinality(String) COMMENT 'viewer\'s region',
    isp                  LowCardinality(String) COMMENT 'viewer\'s internet provider',
    servers              UInt64                 COMMENT 'hosts and ports that answered',
    requests             Int64                  COMMENT 'requests logged',
    hit_ratio            Nullable(Float64)      COMMENT 'requests for an object the edge had / requests whose line says so, 0 to 1',
    client_errors        Int64                  COMMENT 'requests answered 400 to 499',
    server_errors        Int64                  COMMENT 'requests answered 500 and above',
    no_answers           Int64                  COMMENT 'requests that got no answer',
    error_ratio          Nullable(Float64)      COMMENT 'requests answered 400 or above, or not at all / requests, 0 to 1',
    bytes                Int64                  COMMENT 'bytes sent',
    egress_bps           Float64                COMMENT 'bytes sent x 8 / length of the hour (so far), bit/s',
    first_byte_mean_ms   Nullable(Float64)      COMMENT 'time to first byte, mean, ms',
    first_byte_p50_ms    Nullable(Float64)      COMMENT 'time to first byte, level 0.50, ms, within 1 %',
    first_byte_p90_ms    Nullable(Float64)      COMMENT 'time to first byte, level 0.90, ms, within 1 %',
    first_byte_p99_ms    Nullable(Float64)      COMMENT 'time to first byte, level 0.99, ms, within 1 %',
    last_byte_p50_ms     Nullable(Float64)      COMMENT 'time to last byte, level 0.50, ms, within 1 %',
    last_byte_p90_ms     Nullable(Float64)      COMMENT 'time to last byte, level 0.90, ms, within 1 %',
    last_byte_p99_ms     Nullable(Float64)      COMMENT 'time to last byte, level 0.99, ms, within 1 %'
)
AS WITH
    quantilesDDMerge(0.01, 0.5, 0.9, 0.99)(r.first_byte_sketch) AS first_byte,
    quantilesDDMerge(0.01, 0.5, 0.9, 0.99)(r.last_byte_sketch) AS last_byte
SELECT
    hour,
    app,
    cdn,
    region,
    isp,
    uniqExact(r.server) AS servers,
    sum(r.requests) AS requests,
    sum(r.cache_hits) / nullIf(sum(r.cache_known), 0) AS hit_ratio,
    sum(r.client_errors) AS client_errors,
    sum(r.server_errors) AS server_errors,
    sum(r.no_answers) AS no_answers,
    (sum(r.client_errors) + sum(r.server_errors) + sum(r.no_answers)) / nullIf(sum(r.requests), 0) AS error_ratio,
    sum(r.bytes) AS bytes,
    sum(r.bytes) * 8000 / greatest(1000., least(3600000., toFloat64(dateDiff('millisecond', hour, now64(3, 'UTC'))))) AS egress_bps,
    sum(r.first_byte_ms_sum) / nullIf(sum(r.first_byte_count), 0) AS first_byte_mean_ms,
    ifNotFinite(toNullable(first_byte[1]), NULL) AS first_byte_p50_ms,
    ifNotFinite(toNullable(first_byte[2]), NULL) AS first_byte_p90_ms,
    ifNotFinite(toNullable(first_byte[3]), NULL) AS first_byte_p99_ms,
    ifNotFinite(toNullable(last_byte[1]), NULL) AS last_byte_p50_ms,
    ifNotFinite(toNullable(last_byte[2]), NULL) AS last_byte_p90_ms,
    ifNotFinite(toNullable(last_byte[3]), NULL) AS last_byte_p99_ms
FROM ${database}.rollup_cdn_hour AS r
GROUP BY hour, app, cdn, region, isp;

-- One row for each hour and stream that was published.
CREATE VIEW IF NOT EXISTS ${database}.v_publisher_hour
(
    hour                 DateTime('UTC')        COMMENT 'start of the hour, UTC',
    app                  LowCardinality(String) COMMENT 'application',
    stream               LowCardinality(String) COMMENT 'stream name',
    reports              Int64                  COMMENT 'reports of ingest about the publisher',
    fps_mean             Nullable(Float64)      COMMENT 'frame rate, mean over the reports, 1/s',
    fps_p5               Nullable(Float64)      COMMENT 'frame rate that 95 % of the reports reach, 1/s, within 1 %',
    fps_p50              Nullable(Float64)      COMMENT 'frame rate, level 0.50, 1/s, within 1 %',
    publish_bps_mean     Nullable(Float64)      COMMENT 'bitrate, mean over the reports, bit/s',
    publish_bps_p5       Nullable(Float64)      COMMENT 'bitrate that 95 % of the reports reach, bit/s, within 1 %',
    publish_bps_p50      Nullable(Float64)      COMMENT 'bitrate, level 0.50, bit/s, within 1 %',
    publish_stall_ms     Int64                  COMMENT 'how far the publisher fell behind real time, ms'
)
AS WITH
    quantilesDDMerge(0.01, 0.05, 0.5)(r.fps_sketch) AS fps,
    quantilesDDMerge(0.01, 0.05, 0.5)(r.publish_bps_sketch) AS bps
SELECT
    hour,
    app,
    stream,
    sum(r.reports) AS reports,
    sum(r.fps_sum) / nullIf(sum(r.fps_count), 0) AS fps_mean,
    ifNotFinite(toNullable(fps[1]), NULL) AS fps_p5,
    ifNotFinite(toNullable(fps[2]), NULL) AS fps_p50,
    sum(r.publish_bps_sum) / nullIf(sum(r.publish_bps_count), 0) AS publish_bps_mean,
    ifNotFinite(toNullable(bps[1]), NULL) AS publish_bps_p5,
    ifNotFinite(toNullable(bps[2]), NULL) AS publish_bps_p50,
    sum(r.publish_stall_ms) AS publish_stall_ms
FROM ${database}.rollup_publisher_hour AS r
GROUP BY hour, app, stream;

-- One row for each day, application, CDN, region and internet provider.
CREATE VIEW IF NOT EXISTS ${database}.v_cdn_health_day
(
    day                  DateTime('UTC')        COMMENT 'start of the day in which the collector got the log lines, UTC',
    app                  LowCardinality(String) COMMENT 'application',
    cdn                  LowCardinality(String) COMMENT 'CDN that answered',
    region               LowCardinality(String) COMMENT 'viewer\'s region',
    isp                  LowCardinality(String) COMMENT 'viewer\'s internet provider',
    servers              UInt64                 COMMENT 'hosts and ports that answered',
    requests             Int64                  COMMENT 'requests logged',
    hit_ratio            Nullable(Float64)      COMMENT 'requests for an object the edge had / requests whose line says so, 0 to 1',
    client_errors        Int64                  COMMENT 'requests answered 400 to 499',
    server_errors        Int64                  COMMENT 'requests answered 500 and above',
    no_answers           Int64                  COMMENT 'requests that got no answer',
    error_ratio          Nullable(Float64)      COMMENT 'requests answered 400 or above, or not at all / requests, 0 to 1',
    bytes                Int64                  COMMENT 'bytes sent',
    egress_bps           Float64                COMMENT 'bytes sent x 8 / length of the day (so far), bit/s',
    first_byte_mean_ms   Nullable(Float64)      COMMENT 'time to first byte, mean, ms',
    first_byte_p50_ms    Nullable(Float64)      COMMENT 'time to first byte, level 0.50, ms, within 1 %',
    first_byte_p90_ms    Nullable(Float64)      COMMENT 'time to first byte, level 0.90, ms, within 1 %',
    first_byte_p99_ms    Nullable(Float64)      COMMENT 'time to first byte, level 0.99, ms, within 1 %',
    last_byte_p50_ms     Nullable(Float64)      COMMENT 'time to last byte, level 0.50, ms, within 1 %',
    last_byte_p90_ms     Nullable(Float64)      COMMENT 'time to last byte, level 0.90, ms, within 1 %',
    last_byte_p99_ms     Nullable(Float64)      COMMENT 'time to last byte, level 0.99, ms, within 1 %'
)
AS WITH
    quantilesDDMerge(0.01, 0.5, 0.9, 0.99)(r.first_byte_sketch) AS first_byte,
    quantilesDDMerge(0.01, 0.5, 0.9, 0.99)(r.last_byte_sketch) AS last_byte
SELECT
    toStartOfDay(r.hour) AS day,
    app,
    cdn,
    region,
    isp,
    uniqExact(r.server) AS servers,
    sum(r.requests) AS requests,
    sum(r.cache_hits) / nullIf(sum(r.cache_known), 0) AS hit_ratio,
    sum(r.client_errors) AS client_errors,
    sum(r.server_errors) AS server_errors,
    sum(r.no_answers) AS no_answers,
    (sum(r.client_errors) + sum(r.server_errors) + sum(r.no_answers)) / nullIf(sum(r.requests), 0) AS error_ratio,
    sum(r.bytes) AS bytes,
    sum(r.bytes) * 8000 / greatest(1000., least(86400000., toFloat64(dateDiff('millisecond', day, now64(3, 'UTC'))))) AS egress_bps,
    sum(r.first_byte_ms_sum) / nullIf(sum(r.first_byte_count), 0) AS first_byte_mean_ms,
    ifNotFinite(toNullable(first_byte[1]), NULL) AS first_byte_p50_ms,
    ifNotFinite(toNullable(first_byte[2]), NULL) AS first_byte_p90_ms,
    ifNotFinite(toNullable(first_byte[3]), NULL) AS first_byte_p99_ms,
    ifNotFinite(toNullable(last_byte[1]), NULL) AS last_byte_p50_ms,
    ifNotFinite(toNullable(last_byte[2]), NULL) AS last_byte_p90_ms,
    ifNotFinite(toNullable(last_byte[3]), NULL) AS last_byte_p99_ms
FROM ${database}.rollup_cdn_hour AS r
GROUP BY day, app, cdn, region, isp;

-- One row for each day and stream that was published.
CREATE VIEW IF NOT EXISTS ${database}.v_publisher_day
(
    day                  DateTime('UTC')        COMMENT 'start of the day, UTC',
    app                  LowCardinality(String) COMMENT 'application',
    stream               LowCardinality(String) COMMENT 'stream name',
    reports              Int64                  COMMENT 'reports of ingest about the publisher',
    fps_mean             Nullable(Float64)      COMMENT 'frame rate, mean over the reports, 1/s',
    fps_p5               Nullable(Float64)      COMMENT 'frame rate that 95 % of the reports reach, 1/s, within 1 %',
    fps_p50              Nullable(Float64)      COMMENT 'frame rate, level 0.50, 1/s, within 1 %',
    publish_bps_mean     Nullable(Float64)      COMMENT 'bitrate, mean over the reports, bit/s',
    publish_bps_p5       Nullable(Float64)      COMMENT 'bitrate that 95 % of the reports reach, bit/s, within 1 %',
    publish_bps_p50      Nullable(Float64)      COMMENT 'bitrate, level 0.50, bit/s, within 1 %',
    publish_stall_ms     Int64                  COMMENT 'how far the publisher fell behind real time, ms'
)
AS WITH
    quantilesDDMerge(0.01, 0.05, 0.5)(r.fps_sketch) AS fps,
    quantilesDDMerge(0.01, 0.05, 0.5)(r.publish_bps_sketch) AS bps
SELECT
    toStartOfDay(r.hour) AS day,
    app,
    stream,
    sum(r.reports) AS reports,
    sum(r.fps_sum) / nullIf(sum(r.fps_count), 0) AS fps_mean,
    ifNotFinite(toNullable(fps[1]), NULL) AS fps_p5,
    ifNotFinite(toNullable(fps[2]), NULL) AS fps_p50,
    sum(r.publish_bps_sum) / nullIf(sum(r.publish_bps_count), 0) AS publish_bps_mean,
    ifNotFinite(toNullable(bps[1]), NULL) AS publish_bps_p5,
    ifNotFinite(toNullable(bps[2]), NULL) AS publish_bps_p50,
    sum(r.publish_stall_ms) AS publish_stall_ms
FROM ${database}.rollup_publisher_hour AS r
GROUP BY day, app, stream;
