-- Codecs of the columns that took most of telemetry's room: 41 bytes a row before, 27 with these (docs/benchmarks.md).
-- Times lie a session's rows apart, sizes and durations have few bits, paths of a stream repeat.
ALTER TABLE ${database}.telemetry MODIFY COLUMN IF EXISTS received_us CODEC(Delta, LZ4);
ALTER TABLE ${database}.telemetry MODIFY COLUMN IF EXISTS received_at CODEC(Delta, LZ4);
ALTER TABLE ${database}.telemetry MODIFY COLUMN IF EXISTS ts_ms CODEC(Delta, LZ4);
ALTER TABLE ${database}.telemetry MODIFY COLUMN IF EXISTS bytes CODEC(T64, LZ4);
ALTER TABLE ${database}.telemetry MODIFY COLUMN IF EXISTS first_byte_ms CODEC(T64, LZ4);
ALTER TABLE ${database}.telemetry MODIFY COLUMN IF EXISTS last_byte_ms CODEC(T64, LZ4);
ALTER TABLE ${database}.telemetry MODIFY COLUMN IF EXISTS url_path CODEC(ZSTD(1));
