// Package publish puts one publication of a stream on the bus, whatever protocol
// brings it: who may publish, how the stream's numbering goes on, when epochs
// open, cutting, back-pressure, and what is told of it all (state, events,
// telemetry rows, metrics).
//
// A process makes one [Service] and hands it to the servers of all protocols, so
// that publishers of one stream meet whatever protocol they come by. A protocol's
// connection calls [Service.Admit], then [Publication.Video] and
// [Publication.Audio] with configurations, [Publication.WriteVideo] and
// [Publication.WriteAudio] with frames, and [Publication.End] at the end, always.
// It watches [Publication.Done] and closes its peer then.
//
// It promises that chunks of a stream reach the bus in order, each once, kept
// until acknowledged; that a full or absent bus holds the publisher back (the
// write blocks) instead of dropping; that a reconnecting publisher continues the
// numbering in a new epoch, in this process or another; that a stream has one
// publisher at a time; and that whoever is refused is told why, in the words of
// the log and of a publish_refused event. It does not know any protocol, does not
// transcode and does not serve players. Cutting is ingest/cut.
package publish
