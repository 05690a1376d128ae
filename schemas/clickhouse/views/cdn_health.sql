-- Health of CDNs as their edges logged it, from sums and sketches of roll-ups.
{{- range spans "rollup_cdn"}}
-- One row for each {{.Name}}, application, CDN, region and internet provider.
CREATE OR REPLACE VIEW ${database}.v_cdn_health_{{.Name}}
(
    {{.Name}}               DateTime('UTC')        COMMENT 'start of the {{.Name}} in which the collector got the log lines, UTC',
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
    egress_bps           Float64                COMMENT 'bytes sent x 8 / length of the {{.Name}} (so far), bit/s',
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
    {{.At}},
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
    sum(r.bytes) * 8000 / {{.SoFarMs}} AS egress_bps,
    sum(r.first_byte_ms_sum) / nullIf(sum(r.first_byte_count), 0) AS first_byte_mean_ms,
    ifNotFinite(toNullable(first_byte[1]), NULL) AS first_byte_p50_ms,
    ifNotFinite(toNullable(first_byte[2]), NULL) AS first_byte_p90_ms,
    ifNotFinite(toNullable(first_byte[3]), NULL) AS first_byte_p99_ms,
    ifNotFinite(toNullable(last_byte[1]), NULL) AS last_byte_p50_ms,
    ifNotFinite(toNullable(last_byte[2]), NULL) AS last_byte_p90_ms,
    ifNotFinite(toNullable(last_byte[3]), NULL) AS last_byte_p99_ms
FROM ${database}.{{.From}} AS r
GROUP BY {{.Name}}, app, cdn, region, isp;
{{end}}