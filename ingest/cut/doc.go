// Package cut turns the frames of one publication into chunks by the cutting
// rules of docs/contracts.md: parts of k frames that never exceed the part target
// (but for a frame that covers dropped ones), segments that close at key frames,
// media sequence numbers of the tracks in step. It reads access units of every
// codec and writes the CMAF bytes (init segments, prft+moof+mdat).
//
// It is pure: no I/O, no goroutine, no clock of its own (arrival times and ticks
// are passed in), and equal input gives equal output. It promises that decode
// times of a track never overlap and never drift from the publisher's clock,
// whatever timestamps arrive; what cannot be repaired is a [JumpError], after
// which the caller opens a new epoch with a new Cutter. It does not parse RTMP
// and does not decide epoch numbers.
//
// # Timestamps
//
// Timestamps come in microseconds with the resolution of their protocol
// (Settings.GrainUs; RTMP has milliseconds). While a video track keeps a constant
// rate (at least four intervals within two grains of a line) frames are put on that
// line, so a frame's duration is known when it arrives and a part closes with its
// last frame, without waiting. Otherwise a frame waits for the next one, which tells
// its duration exactly: one frame interval of delay. Audio frames are counted, so
// durations are exact. A slow difference between line and publisher's clock is
// followed by shortening durations by a thousandth, or by a hole of about a
// millisecond between parts; lengthening would push parts past their target.
// Protocols that carry presentation times only find decode times with [DecodeTimes].
//
// # Wall clock
//
// The wall-clock of a media time is the publisher's time of capture where frames
// carry one (Frame.CaptureUs, [MarkReader]), with the offset of its clock estimated
// by the minimum-delay method, and otherwise the least of (arrival - presentation
// time) over a sliding window of 16 s, followed at 5 ms per second at most, so it is
// nearly linear in media time and close to the arrival of a frame that waited in no
// queue. docs/contracts.md, Clocks, says what is believed and what a bound contains.
package cut
