// Package workers holds the one runner that all workers share, and the Handler
// they implement. A worker turns messages of a JetStream stream into messages
// to publish; scaling out is starting another process on the same durable
// consumer.
//
// The runner promises: a message is acknowledged only after everything its
// handling published was acknowledged, so a crash repeats work and loses none;
// a message no handling can help is put in the stream DEAD with its reason,
// alone; any other failure is retried with growing delay; a panic is a failure.
// It leaves out exactly-once delivery (outputs carry ids derived from their
// causes, so a repeat is recognised) and ordering beyond one goroutine: with
// several processes first deliveries overlap.
package workers
