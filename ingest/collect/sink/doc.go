// Package sink brings telemetry rows onto the bus durably: it gathers them into
// Arrow batches by partition, publishes each batch and waits for JetStream's
// acknowledgement, and writes to a spool on disk while the bus does not take
// them. The spool is replayed, in order, when the bus is back and after a
// restart.
//
// It promises that rows for which Put returned nil are on the bus or, synced, in
// the spool; that batches of one partition reach the bus in the order of their
// producer's counter; and that a batch published twice carries the same producer
// and counter, so that readers recognise it (docs/contracts.md). It does not
// look into rows, and two sinks never share a spool directory.
package sink
