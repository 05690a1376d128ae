// Package push publishes streams again by RTMP or RTMPS, to CDNs and services
// that want a push (bucket pushes).
//
// It promises: one process pushes a target's stream, another takes it over when
// that one dies (leases); each push has its own goroutine, connection and bounded
// queue, so a target that fails, hangs or is slow costs the others and the
// pipeline nothing; what a target did not take in time is left out up to the next
// key frame, never sent late; keys are in no log, state or metric. It reads what
// the bus announces and keeps no place: a push begins at the next key frame. It
// leaves out AV1, encrypted streams, and renditions: the publisher's own is sent,
// as it came (H.264 or H.265, and AAC).
package push
