// Package schemas is the contract between Spillway's parts: bus streams and
// subjects, the chunk and part formats, telemetry and session-slice columns,
// decision, exposure and event types, and the ClickHouse tables
// (subpackage clickhouse).
//
// It promises that every encoder is deterministic (equal values give equal
// bytes) and that every decoder survives hostile input with an error that names
// what is wrong. It imports nothing else of this module and does no I/O, apart
// from the Ensure functions that create streams and buckets.
//
// The wire format is versioned by the "v" field of each header; readers ignore
// unknown fields, and a field never changes its meaning or unit.
package schemas
