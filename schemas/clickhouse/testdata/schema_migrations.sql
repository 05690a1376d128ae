CREATE TABLE spillway.schema_migrations (
`name` String COMMENT 'schema file that was applied', `sha256` String COMMENT 'SHA-256 of the file, hex',
`applied_at` DateTime64(3, 'UTC') COMMENT 'when it was applied, UTC; from the server')
 ENGINE = ReplacingMergeTree
 ORDER BY (name, sha256)
 SETTINGS index_granularity = 8192 COMMENT 'schema files applied to this database; written by the migrator'
