// Package recorder keeps what streams were, so that viewers can seek back: it
// writes closed segments of the streams whose settings ask for it
// (AppSettings.DVRSec) to an object store, under the names of workers/archive.
//
// It promises the very bytes that origins serve under a segment's URL, whether
// the stream is watched or not; no hole and nothing half-written when a process
// is killed, because what closes a segment is acknowledged on the bus only once
// the segment is in the store, and a segment is read again from MEDIA; no harm
// from two recorders doing the same. Processes share the work message by
// message. While the store is away nothing is lost for as long as MEDIA keeps
// chunks; what ages out before the store is back is missing, and playlists say so.
//
// A segment is recorded when the next one of its track begins, or when its epoch
// ends or is followed by another. The last segment of a publisher that died
// without an end, and never came back, is therefore not recorded.
package recorder
