-- What happened to streams, publishers, CDNs and our own processes; records that are JSON on the bus.
CREATE TABLE IF NOT EXISTS ${database}.events
(
    time                   DateTime64(6, 'UTC')     COMMENT 'when it happened, UTC; from Event.time_us',
    kind                   LowCardinality(String)   COMMENT 'what happened: stream_started, cdn_fault and so on; from Event.kind',
    id                     String                   COMMENT 'unique id of the event; from Event.id',
    app                    LowCardinality(String)   COMMENT 'application; from Event.app',
    stream                 LowCardinality(String)   COMMENT 'stream name; from Event.stream',
    cdn                    LowCardinality(String)   COMMENT 'CDN concerned; from Event.cdn',
    reason                 String                   COMMENT 'why, in plain words; from Event.reason',
    detail                 Map(LowCardinality(String), String) COMMENT 'values of this kind of event; from Event.detail',
    bus_seq                UInt64                   COMMENT 'stream sequence of the bus message in EVENTS'
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (kind, time)
TTL toDateTime(time) + INTERVAL 400 DAY
SETTINGS non_replicated_deduplication_window = 20000
COMMENT 'what happened to streams, CDNs and workers; written by the loader from the bus stream EVENTS';
