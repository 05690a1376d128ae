package cut

// Unwrap extends timestamps that wrap to 64 bits and gives them in microseconds.
// One Unwrap may serve both tracks of a connection whose clock they share, so that
// they share an origin. The zero value is RTMP's clock: milliseconds in 32 bits,
// which wrap after 49.7 days.
type Unwrap struct {
	// ClockHz is the timestamps' rate; default 1000.
	ClockHz int64
	// Bits is their width, up to 63; default 32.
	Bits int

	last  [2]int64
	begun [2]bool
}

// Next gives the extended timestamp nearest to the track's last one,
// microseconds. audio selects the track.
func (u *Unwrap) Next(audio bool, ts uint64) int64 {
	i := 0
	if audio {
		i = 1
	}
	bits := u.Bits
	if bits <= 0 || bits > 63 {
		bits = 32
	}
	ts &= 1<<bits - 1
	switch {
	case u.begun[i]:
	case u.begun[1-i]:
		u.last[i] = u.last[1-i]
	default:
		u.last[i] = int64(ts)
	}
	u.begun[i] = true
	// The difference as a signed number of that many bits.
	u.last[i] += int64((ts-uint64(u.last[i]))<<(64-bits)) >> (64 - bits)
	hz := u.ClockHz
	if hz <= 0 {
		hz = 1000
	}
	return floorDiv(u.last[i], hz)*1_000_000 + (u.last[i]-floorDiv(u.last[i], hz)*hz)*1_000_000/hz
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
