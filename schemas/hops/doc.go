// Package hops follows parts from publisher to player. Whoever has a part tells
// so for the parts that [schemas.HopSampled] names: as rows of telemetry, which
// ClickHouse keeps, and as notes on hops.<app>.<stream>, which whoever asks now
// listens to (spillway trace) and which collectors take the time of ingest from
// when an edge or a player tells of the same part later.
//
// It promises that telling never waits and costs nothing for parts that are not
// looked at. Notes are not stored: who missed one knows no delay of that part.
// Times are each machine's own; nothing here corrects them.
package hops
