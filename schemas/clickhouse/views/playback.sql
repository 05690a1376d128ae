-- What viewers got: the same measures by CDN, audience, player, stream and arm of an experiment, by minute, hour and
-- day. They define the metrics, so that nobody needs the sums and histograms behind them; docs/metrics.md explains each.
-- Ratios and quantiles are made here, from sums and log-histograms, and are never stored; a day's are those of the day,
-- not means of hours. Hours and days have the level 0.99 beside the others.
{{- define "playback"}}
{{- $span := .span}}
{{- $about := dict "app" "application" "stream" "stream name" "cdn" "CDN that served" "region" `viewer\'s region` "isp" `viewer\'s internet provider`
	"protocol" "streaming format: h HLS, d DASH" "device" "device class" "client" "player software" "experiment" "experiment" "arm" "arm of the experiment"}}
CREATE OR REPLACE VIEW ${database}.{{.view}}
(
{{- with $span}}
    {{.Name}}                   DateTime('UTC')        COMMENT 'start of the {{.Name}}, UTC',
{{- end}}
{{- range .keys}}
    {{.}}                      LowCardinality(String) COMMENT '{{index $about .}}',
{{- end}}
{{- with $span}}
    viewers                  Float64                COMMENT 'concurrent viewers, mean over the {{.Name}} (so far): time played, stalled and seeking / length of the {{.Name}}',
{{- else}}
    first_minute             DateTime('UTC')        COMMENT 'first minute with data, UTC',
    last_minute              DateTime('UTC')        COMMENT 'last minute with data, UTC',
    buckets                  UInt64                 COMMENT 'hash buckets with data; each is a cluster of viewers',
{{- end}}
    sessions                 Int64                  COMMENT 'sessions begun',
    ended                    Int64                  COMMENT 'sessions closed',
    attempts                 Int64                  COMMENT 'start attempts',
    starts                   Int64                  COMMENT 'attempts that reached the first frame',
    start_failures           Int64                  COMMENT 'attempts that failed before the first frame',
    start_failure_ratio      Nullable(Float64)      COMMENT 'start failures / attempts, 0 to 1',
    exits_before_start       Int64                  COMMENT 'attempts given up before the first frame without failure',
    playback_failures        Int64                  COMMENT 'failures after the first frame',
    playback_failure_ratio   Nullable(Float64)      COMMENT 'failures after the first frame / starts, 0 to 1',
    played_ms                Int64                  COMMENT 'time in state playing, ms',
    stalled_ms               Int64                  COMMENT 'waiting after the first frame outside seeks, ms',
    stall_ratio              Nullable(Float64)      COMMENT 'stalled / (played + stalled), 0 to 1',
    stalls                   Int64                  COMMENT 'stalls begun',
    stalls_per_hour          Nullable(Float64)      COMMENT 'stalls for each hour played or stalled',
    first_screen_mean_ms     Nullable(Float64)      COMMENT 'mean start-up time of the starts that were timed, ms; failed starts are not in it, see the quantiles',
{{- range .levels}}
    first_screen_{{.Name}}_ms      Nullable(Float64)      COMMENT 'start-up time, level {{.Level}} of all attempts decided, ms; failed and abandoned starts count as infinite',
{{- end}}
    latency_mean_ms          Nullable(Float64)      COMMENT 'live latency, mean weighted by played time, ms',
{{- range .levels}}
    latency_{{.Name}}_ms           Nullable(Float64)      COMMENT 'live latency, level {{.Level}} of the samples, ms',
{{- end}}
    bitrate_kbps             Nullable(Float64)      COMMENT 'bitrate, mean weighted by played time, kbit/s',
    switches                 Nullable(Int64)        COMMENT 'bitrate changes; NULL where no bitrate is known',
    cdn_moves                Int64                  COMMENT 'changes of the serving CDN',
    dropped_frames           Nullable(Int64)        COMMENT 'frames dropped by players that tell; NULL where none does',
    requests                 Int64                  COMMENT 'media requests seen by edges',
    request_error_ratio      Nullable(Float64)      COMMENT 'requests answered 400 or above, or not at all / requests, 0 to 1',
    request_bytes            Nullable(Int64)        COMMENT 'bytes edges sent; NULL where no edge has logged a request',
{{- with $span}}
    egress_bps               Nullable(Float64)      COMMENT 'bytes edges sent x 8 / length of the {{.Name}} (so far), bit/s; NULL where no edge has logged a request',
{{- end}}
    reports                  Int64                  COMMENT 'telemetry rows accounted for',
    lost_reports             Int64                  COMMENT 'reports missing by sequence number',
    stalled_network_ms       Int64                  COMMENT 'of stalled_ms, what slow answers or throughput below the bitrate explain, ms',
    stalled_cdn_ms           Int64                  COMMENT 'of stalled_ms, what failed requests explain, ms',
    stalled_background_ms    Int64                  COMMENT 'of stalled_ms, that of pages in the background, ms'
)
AS WITH
    -- Level-p quantile of a log-histogram (bin to count), as analytics/stats/loghist computes it; NULL without
    -- samples, inf when the level falls among failed starts (bin 1073741824).
    (n, p) -> if(abs(n * p - round(n * p)) <= 1e-9 * greatest(1., n * p), round(n * p), ceil(n * p)) AS ceil_rank,
    (cum, p) -> least(greatest(ceil_rank(toFloat64(cum[-1]), p), 1.), toFloat64(cum[-1])) AS rank_of,
    (keys, counts, cum, r, i) -> multiIf(keys[i] >= 1073741824, inf,
        keys[i] = 0, 1.02 * (r - (cum[i] - counts[i]) - 0.5) / counts[i],
        exp((keys[i] + (r - (cum[i] - counts[i]) - 0.5) / counts[i]) * 0.01980262729617973)) AS value_at,
    (hist, p) -> if(empty(hist), NULL, value_at(mapKeys(hist), mapValues(hist), arrayCumSum(mapValues(hist)),
        rank_of(arrayCumSum(mapValues(hist)), p),
        arrayFirstIndex(c -> c >= rank_of(arrayCumSum(mapValues(hist)), p), arrayCumSum(mapValues(hist))))) AS log_quantile
SELECT
{{- with $span}}
    {{.At}},
{{- end}}
{{- range .keys}}
    {{.}},
{{- end}}
{{- with $span}}
    (sum(r.played_ms) + sum(r.stalled_ms) + sum(r.seek_ms)) / {{.SoFarMs}} AS viewers,
{{- else}}
    min(r.minute) AS first_minute,
    max(r.minute) AS last_minute,
    uniqExact(r.bucket) AS buckets,
{{- end}}
    sum(r.sessions) AS sessions,
    sum(r.ended) AS ended,
    sum(r.attempts) AS attempts,
    sum(r.starts) AS starts,
    sum(r.start_failures) AS start_failures,
    sum(r.start_failures) / nullIf(sum(r.attempts), 0) AS start_failure_ratio,
    sum(r.exits_before_start) AS exits_before_start,
    sum(r.playback_failures) AS playback_failures,
    sum(r.playback_failures) / nullIf(sum(r.starts), 0) AS playback_failure_ratio,
    sum(r.played_ms) AS played_ms,
    sum(r.stalled_ms) AS stalled_ms,
    sum(r.stalled_ms) / nullIf(sum(r.played_ms) + sum(r.stalled_ms), 0) AS stall_ratio,
    sum(r.stalls) AS stalls,
    sum(r.stalls) * 3600000 / nullIf(sum(r.played_ms) + sum(r.stalled_ms), 0) AS stalls_per_hour,
    sum(r.startup_ms) / nullIf(arraySum(mapValues(mapFilter((k, v) -> k < 1073741824, sumMap(r.first_screen)))), 0) AS first_screen_mean_ms,
{{- range .levels}}
    log_quantile(sumMap(r.first_screen), {{.Level}}) AS first_screen_{{.Name}}_ms,
{{- end}}
    sum(r.latency_ms_sum) / nullIf(sum(r.latency_weight_ms), 0) AS latency_mean_ms,
{{- range .levels}}
    log_quantile(sumMap(r.latency), {{.Level}}) AS latency_{{.Name}}_ms,
{{- end}}
    sum(r.bitrate_kbps_ms_sum) / nullIf(sum(r.bitrate_weight_ms), 0) AS bitrate_kbps,
    if(sum(r.bitrate_weight_ms) != 0, sum(r.switches), NULL) AS switches,
    sum(r.cdn_moves) AS cdn_moves,
    if(sum(r.frames_weight_ms) != 0 OR sum(r.dropped_frames) != 0, sum(r.dropped_frames), NULL) AS dropped_frames,
    sum(r.requests) AS requests,
    sum(r.request_errors) / nullIf(sum(r.requests), 0) AS request_error_ratio,
    if(sum(r.requests) > 0, sum(r.request_bytes), NULL) AS request_bytes,
{{- with $span}}
    if(sum(r.requests) > 0, sum(r.request_bytes) * 8000 / {{.SoFarMs}}, NULL) AS egress_bps,
{{- end}}
    sum(r.reports) AS reports,
    sum(r.lost_reports) AS lost_reports,
    sum(r.stalled_network_ms) AS stalled_network_ms,
    sum(r.stalled_cdn_ms) AS stalled_cdn_ms,
    sum(r.stalled_background_ms) AS stalled_background_ms
FROM ${database}.{{.from}} AS r
GROUP BY {{with $span}}{{.Name}}, {{end}}{{join .keys}};
{{end}}
{{- /* A line is: views, roll-ups that they read, keys. */ -}}
{{- range lines `
v_cdn       rollup         app cdn
v_audience  rollup         app cdn region isp protocol
v_client    rollup         app device client
v_stream    rollup_stream  app stream cdn
`}}
{{- $view := index . 0}}{{$keys := slice . 2}}
{{- range spans (index . 1)}}
-- One row for each {{.Name}}, {{join $keys}}.
{{- template "playback" dict "view" (print $view "_" .Name) "span" . "from" .From "keys" $keys "levels" (levels .Name)}}
{{- end}}
{{- end}}
{{- $keys := lines "experiment arm"}}
{{- range spans "rollup_arm"}}{{if ne .Name "day"}}
-- One row for each {{.Name}} and arm.
{{- template "playback" dict "view" (print "v_arm_" .Name) "span" . "from" .From "keys" (index $keys 0) "levels" (levels .Name)}}
{{- end}}{{end}}
-- One row for each arm, over all time kept.
{{- template "playback" dict "view" "v_arm" "from" "rollup_arm_minute" "keys" (index $keys 0) "levels" (levels "minute")}}
