package look

import "time"

// Bounds of [Pace]: two pictures may come so much later than two intervals, and a
// measured distance of key frames may be off by so much over all of them.
const (
	paceSlack  = 100 * time.Millisecond
	paceMargin = 20 * time.Millisecond
)

// Pace gives the interval to count in, at most interval, so that of three
// pictures in a row the last comes within two intervals (and 100 ms) of the
// first. Pictures are of the first key frame in each interval, so with key frames
// every 3 s those of 5 s would be 6, 3, 6 s apart, and two of them up to 12 s
// with others. Where key frames are further apart than interval, each is pictured
// and no interval can be kept. keyFrames of 0 is not known.
func Pace(interval, keyFrames time.Duration) time.Duration {
	if keyFrames <= 0 {
		return interval
	}
	n := (2*interval + paceSlack) / keyFrames // key frames from the first to the last of three
	if n < 2 || n*keyFrames >= 2*interval {
		return interval
	}
	return ((n*keyFrames - paceMargin) / 2).Truncate(time.Millisecond)
}
