-- Skipping indexes that pay (docs/decisions/0021): the rows of one session or viewer when the stream is not known, and
-- rows of a rare kind. Parts that are there already are found without them until they are merged.
ALTER TABLE ${database}.telemetry ADD INDEX IF NOT EXISTS by_session session_id TYPE bloom_filter(0.01) GRANULARITY 1;
ALTER TABLE ${database}.telemetry ADD INDEX IF NOT EXISTS by_viewer viewer_id TYPE bloom_filter(0.01) GRANULARITY 1;
ALTER TABLE ${database}.telemetry ADD INDEX IF NOT EXISTS by_source source TYPE set(8) GRANULARITY 1;
ALTER TABLE ${database}.telemetry ADD INDEX IF NOT EXISTS by_gates gates TYPE set(16) GRANULARITY 1;
ALTER TABLE ${database}.session_slices ADD INDEX IF NOT EXISTS by_session session_id TYPE bloom_filter(0.01) GRANULARITY 1;
ALTER TABLE ${database}.session_slices ADD INDEX IF NOT EXISTS by_viewer viewer_id TYPE bloom_filter(0.01) GRANULARITY 1;
ALTER TABLE ${database}.sessions ADD INDEX IF NOT EXISTS by_session session_id TYPE bloom_filter(0.01) GRANULARITY 1;
ALTER TABLE ${database}.sessions ADD INDEX IF NOT EXISTS by_viewer viewer_id TYPE bloom_filter(0.01) GRANULARITY 1;
ALTER TABLE ${database}.decisions ADD INDEX IF NOT EXISTS by_session session_id TYPE bloom_filter(0.01) GRANULARITY 1;
