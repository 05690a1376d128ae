// Package dash writes Media Presentation Descriptions (ISO/IEC 23009-1) of live
// streams over the segments that HLS has too.
//
// It promises that equal values give equal bytes, so every origin answers
// alike: times are those of the stream's own data (schemas.Line), and
// availabilityStartTime is the Unix epoch for every stream. Pure: no I/O and no
// clock. It leaves out what to list: the origin keeps the window.
package dash

import "github.com/spillway-live/spillway/schemas"

// Names and types.
const (
	// TypeMPD is the media type of an MPD.
	TypeMPD = "application/dash+xml"
	// ManifestName is the MPD's name in URLs; ClockName, beside it, that of the
	// time of day as an xs:dateTime.
	ManifestName = "manifest.mpd"
	ClockName    = "clock"
)

// FirstPartUs is how long after the beginning of a segment, on its run's line,
// its first part can be had at the latest, microseconds: the longest part, the
// wait for another track's, what the publisher's clock may be behind its line,
// audio that begins a part later than the picture, and 100 ms on the bus.
const FirstPartUs = 2*schemas.DefaultPartTargetUs + 100_000 + schemas.LineLateUs + 100_000

// WholeUs is the same for a whole segment, from its end.
const WholeUs = FirstPartUs
