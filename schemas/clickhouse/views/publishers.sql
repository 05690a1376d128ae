-- What ingest measured of publishers, from sums and sketches of roll-ups, and what publishers' own apps reported.
{{- range spans "rollup_publisher"}}
-- One row for each {{.Name}} and stream that was published.
CREATE OR REPLACE VIEW ${database}.v_publisher_{{.Name}}
(
    {{.Name}}               DateTime('UTC')        COMMENT 'start of the {{.Name}}, UTC',
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
    {{.At}},
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
FROM ${database}.{{.From}} AS r
GROUP BY {{.Name}}, app, stream;
{{end}}
-- One row for each minute, application, encoder and version of the app.
CREATE OR REPLACE VIEW ${database}.v_publisher_app_minute
(
    minute               DateTime('UTC')        COMMENT 'minute in which the collector got the reports, UTC',
    app                  LowCardinality(String) COMMENT 'application',
    encoder              LowCardinality(String) COMMENT 'encoder as the publisher names it, with its version',
    app_version          LowCardinality(String) COMMENT 'version of the publisher\'s app; empty where it was not told',
    streams              UInt64                 COMMENT 'streams whose publishers reported',
    reports              Int64                  COMMENT 'reports',
    behind_reports       Int64                  COMMENT 'reports in whose time the publisher fell behind real time',
    background_reports   Int64                  COMMENT 'reports of publishers in the background',
    interval_ms          Int64                  COMMENT 'time that the reports are about, ms',
    behind_ms            Int64                  COMMENT 'of that, behind real time: frames waited for the encoder or the network, ms',
    behind_ratio         Nullable(Float64)      COMMENT 'behind_ms / interval_ms, 0 to 1'
)
AS SELECT
    minute,
    app,
    encoder,
    app_version,
    uniqMerge(r.streams) AS streams,
    sum(r.reports) AS reports,
    sum(r.behind_reports) AS behind_reports,
    sum(r.background_reports) AS background_reports,
    sum(r.interval_ms) AS interval_ms,
    sum(r.behind_ms) AS behind_ms,
    sum(r.behind_ms) / nullIf(sum(r.interval_ms), 0) AS behind_ratio
FROM ${database}.rollup_publisher_app_minute AS r
GROUP BY minute, app, encoder, app_version;
