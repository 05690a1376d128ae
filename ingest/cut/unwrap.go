package cut

// Unwrap extends 32-bit RTMP timestamps (milliseconds, which wrap after 49.7 days) to 64 bits.
// One Unwrap serves both tracks of a connection, so that they share an origin.
type Unwrap struct {
	last  [2]int64
	begun [2]bool
}

// Next gives the extended timestamp nearest to the track's last one. audio selects the track.
func (u *Unwrap) Next(audio bool, ts uint32) int64 {
	i := 0
	if audio {
		i = 1
	}
	switch {
	case u.begun[i]:
	case u.begun[1-i]:
		u.last[i] = u.last[1-i]
	default:
		u.last[i] = int64(ts)
	}
	u.begun[i] = true
	u.last[i] += int64(int32(ts - uint32(u.last[i])))
	return u.last[i]
}
