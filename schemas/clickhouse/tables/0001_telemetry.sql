-- Raw telemetry: one row per accepted report, kept 14 days. Columns and comments equal schemas.TelemetryTable.
--
-- Codecs are those of the columns that took most room: 41 bytes a row without, 27 with them (docs/benchmarks.md). Times
-- lie a session's rows apart, sizes and durations have few bits, paths of a stream repeat.
--
-- Indexes are those that pay (docs/decisions/0023): the rows of one session or viewer when the stream is not known, and
-- rows of a rare kind.
--
-- Parts below 128 MiB keep their columns in one file. A block of 40,000 rows is 15 MiB, above the default of 10 MiB, and
-- so many columns in files of their own cost more than a third of the insert (measured: 6.5 against 5.0 microseconds of
-- CPU a row; in blocks of 80,000 rows 2.7).
CREATE TABLE IF NOT EXISTS ${database}.telemetry
(
    received_us            Int64                    COMMENT 'when the collector received the report, Unix microseconds' CODEC(Delta, LZ4),
    ts_ms                  Int64                    COMMENT 'client\'s clock at the event [CMCD ts], Unix milliseconds; received time where the client gave none' CODEC(Delta, LZ4),
    source                 LowCardinality(String)   COMMENT 'kind of report: cmcd_event, cmcd_request, beacon, cdn_log, publisher, publisher_report, hop, probe',
    event                  LowCardinality(String)   COMMENT 'event type [CMCD e] or beacon kind',
    session_id             String                   COMMENT 'playback session [CMCD sid]',
    viewer_id              String                   COMMENT 'salted hash of the viewer',
    app                    LowCardinality(String)   COMMENT 'application',
    stream                 LowCardinality(String)   COMMENT 'stream name',
    content_id             LowCardinality(String)   COMMENT 'content id [CMCD cid]',
    cdn                    LowCardinality(String)   COMMENT 'CDN that served, from the edge or the host in the URL',
    server                 LowCardinality(String)   COMMENT 'host and port that served',
    region                 LowCardinality(String)   COMMENT 'viewer\'s region',
    isp                    LowCardinality(String)   COMMENT 'viewer\'s internet provider',
    country                LowCardinality(String)   COMMENT 'viewer\'s country, ISO 3166',
    device                 LowCardinality(String)   COMMENT 'device class: phone, tablet, desktop, tv',
    os                     LowCardinality(String)   COMMENT 'operating system',
    client                 LowCardinality(String)   COMMENT 'player software',
    client_version         LowCardinality(String)   COMMENT 'version of the player or app',
    network_type           LowCardinality(String)   COMMENT 'network as the device names it: wifi, 4g, 5g',
    protocol               LowCardinality(String)   COMMENT 'streaming format [CMCD sf]: h HLS, d DASH, s, e, o',
    stream_type            LowCardinality(String)   COMMENT '[CMCD st] v on demand, l live, ll low-latency live',
    object_type            LowCardinality(String)   COMMENT '[CMCD ot] m a v av i c tt k o',
    state                  LowCardinality(String)   COMMENT 'player state [CMCD sta]',
    arms                   LowCardinality(String)   COMMENT 'experiment=arm pairs of the session',
    url_host               LowCardinality(String)   COMMENT 'host of the requested URL',
    url_path               String                   COMMENT 'path of the requested URL, without query and token' CODEC(ZSTD(1)),
    error_code             LowCardinality(String)   COMMENT '[CMCD ec], joined by |',
    custom_event           LowCardinality(String)   COMMENT '[CMCD cen]',
    detail                 String                   COMMENT 'keys without a column, JSON object of strings',
    gates                  LowCardinality(String)   COMMENT 'plausibility gates that dropped a value of this row, joined by |',
    cmcd_version           Nullable(Int32)          COMMENT '[CMCD v]',
    seq                    Nullable(Int64)          COMMENT 'sequence number of the report [CMCD sn]',
    buffer_ms              Nullable(Int32)          COMMENT 'buffer length [CMCD bl], ms',
    bitrate_kbps           Nullable(Int32)          COMMENT 'encoded bitrate [CMCD br], kbit/s',
    played_bitrate_kbps    Nullable(Int32)          COMMENT 'bitrate at the playhead [CMCD pb], kbit/s',
    top_bitrate_kbps       Nullable(Int32)          COMMENT 'highest bitrate [CMCD tb], kbit/s',
    throughput_kbps        Nullable(Int32)          COMMENT 'measured throughput [CMCD mtp], kbit/s',
    live_latency_ms        Nullable(Int32)          COMMENT 'live latency as the player computes it [CMCD ltc], ms',
    start_delay_ms         Nullable(Int32)          COMMENT 'media start delay [CMCD msd], ms',
    starvation_ms          Nullable(Int32)          COMMENT 'finished starvation [CMCD bsd], ms, summed over types',
    object_duration_ms     Nullable(Int32)          COMMENT 'duration of the object [CMCD d], ms',
    deadline_ms            Nullable(Int32)          COMMENT 'deadline [CMCD dl], ms',
    playback_rate          Nullable(Float64)        COMMENT '[CMCD pr]',
    playhead_ms            Nullable(Int64)          COMMENT '[CMCD pt], ms',
    first_byte_ms          Nullable(Int32)          COMMENT '[CMCD ttfb] or the edge\'s time to first byte, ms' CODEC(T64, LZ4),
    last_byte_ms           Nullable(Int32)          COMMENT '[CMCD ttlb] or the edge\'s time to last byte, ms' CODEC(T64, LZ4),
    response_code          Nullable(Int32)          COMMENT '[CMCD rc] or the edge\'s status; 0 is no answer',
    bytes                  Nullable(Int64)          COMMENT 'bytes sent for the object' CODEC(T64, LZ4),
    cache_hit              Nullable(Bool)           COMMENT 'the edge had the object',
    dropped_frames         Nullable(Int64)          COMMENT 'dropped frames since session start [CMCD dfa]',
    decoded_frames         Nullable(Int64)          COMMENT 'decoded frames since session start',
    starved                Nullable(Bool)           COMMENT 'buffer starved since the last report [CMCD bs]',
    background             Nullable(Bool)           COMMENT 'player not visible [CMCD bg]',
    starting_up            Nullable(Bool)           COMMENT 'object needed urgently [CMCD su]',
    not_rendered           Nullable(Bool)           COMMENT 'fetched but not rendered [CMCD nr]',
    e2e_latency_ms         Nullable(Int32)          COMMENT 'corrected wall clock minus program date time at the playhead, ms',
    clock_offset_ms        Nullable(Float64)        COMMENT 'client clock\'s offset to ours, ms, to be added',
    clock_bound_ms         Nullable(Float64)        COMMENT 'bound of the offset\'s error, ms',
    viewport_width         Nullable(Int32)          COMMENT 'player width, CSS pixels',
    viewport_height        Nullable(Int32)          COMMENT 'player height, CSS pixels',
    video_width            Nullable(Int32)          COMMENT 'encoded width, pixels',
    video_height           Nullable(Int32)          COMMENT 'encoded height, pixels',
    page_startup_ms        Nullable(Int32)          COMMENT 'start-up time as the page measured it, ms',
    page_stall_ms          Nullable(Int64)          COMMENT 'stall time as the page measured it, ms',
    page_stall_count       Nullable(Int32)          COMMENT 'stalls as the page counted them',
    page_played_ms         Nullable(Int64)          COMMENT 'played time as the page measured it, ms',
    fps                    Nullable(Float64)        COMMENT 'publisher\'s frame rate over the last report interval, 1/s',
    publish_bps            Nullable(Int64)          COMMENT 'publisher\'s bitrate over the last report interval, bit/s',
    publish_stall_ms       Nullable(Int64)          COMMENT 'how far the publisher fell behind real time since the last report, ms',
    hop                    LowCardinality(String)   COMMENT 'hop between publisher and player: publish, ingest, stored, packaged, origin, edge, player, probe',
    rendition              LowCardinality(String)   COMMENT 'rendition of the part at the hop',
    track                  LowCardinality(String)   COMMENT 'track of the part at the hop: video, audio',
    epoch                  Nullable(Int64)          COMMENT 'publish epoch of the part at the hop',
    msn                    Nullable(Int64)          COMMENT 'media sequence number of the part at the hop',
    part                   Nullable(Int32)          COMMENT 'index of the part in its segment; -1 for the whole segment',
    hop_delay_ms           Nullable(Float64)        COMMENT 'time at the hop less the time at which ingest had the part\'s last sample, each by its own machine\'s clock, ms',
    staleness_ms           Nullable(Int64)          COMMENT 'age of the newest part that a probed playlist lists, since ingest had it, ms',
    bus_partition          UInt16                   COMMENT 'partition of the bus subject the row came by',
    bus_seq                UInt64                   COMMENT 'stream sequence of the bus message the row came by',
    bus_row                UInt32                   COMMENT 'row number inside that message, from 0',
    received_at            DateTime64(3, 'UTC') MATERIALIZED fromUnixTimestamp64Milli(intDiv(received_us, 1000)) COMMENT 'received_us as a time, UTC' CODEC(Delta, LZ4),
    ts                     DateTime64(3, 'UTC') ALIAS fromUnixTimestamp64Milli(ts_ms) COMMENT 'ts_ms as a time, UTC',
    INDEX by_session session_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_viewer viewer_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_source source TYPE set(8) GRANULARITY 1,
    INDEX by_gates gates TYPE set(16) GRANULARITY 1,
    INDEX by_error error_code TYPE set(64) GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toDate(received_at)
ORDER BY (app, stream, session_id, received_us)
TTL toDateTime(received_at) + INTERVAL 14 DAY
SETTINGS non_replicated_deduplication_window = 20000, ttl_only_drop_parts = 1, index_granularity = 8192, min_bytes_for_wide_part = 134217728
COMMENT 'raw telemetry, one row per accepted report; written by the loader from the bus stream TELEMETRY';

-- Raw rows counted by ten seconds, for questions about how many there were: whether everything adds up, what comes
-- from where, which gates drop values.
CREATE TABLE IF NOT EXISTS ${database}.rollup_rows
(
    time                   DateTime('UTC')          COMMENT 'start of the ten seconds in which the collector got the rows, UTC; from telemetry',
    app                    LowCardinality(String)   COMMENT 'application; from telemetry',
    source                 LowCardinality(String)   COMMENT 'kind of report: cmcd_event, cmcd_request, beacon, cdn_log, publisher; from telemetry',
    gates                  LowCardinality(String)   COMMENT 'plausibility gates that dropped a value of the rows, joined by |; from telemetry',
    rows                   SimpleAggregateFunction(sum, Int64) COMMENT 'sum: rows; from telemetry',
    session_rows           SimpleAggregateFunction(sum, Int64) COMMENT 'sum: of those, rows of playback sessions: from collectors, with a session; from telemetry'
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (app, time, source, gates)
TTL time + INTERVAL 90 DAY
SETTINGS non_replicated_deduplication_window = 20000
COMMENT 'raw telemetry rows counted by ten seconds, application, source and gates';

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.rollup_rows_mv TO ${database}.rollup_rows AS
SELECT
    toStartOfInterval(toDateTime(received_at), INTERVAL 10 SECOND) AS time,
    app,
    source,
    gates,
    toInt64(count()) AS rows,
    toInt64(countIf(t.source != 'publisher' AND t.session_id != '')) AS session_rows
FROM ${database}.telemetry AS t
GROUP BY time, app, source, gates;
