package whip

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/spillway-live/spillway/ingest/cut"
)

// settleFor is how long media is kept for the sender reports that tell how the tracks
// lie to each other; browsers send the first ones within a second.
const settleFor = 1500 * time.Millisecond

// trackClock maps a track's RTP timestamps to the publisher's media clock and wall-clock.
type trackClock struct {
	hz     int64
	unwrap cut.Unwrap

	mu sync.Mutex
	// reported: the last sender report, RTP time and Unix microseconds (RFC 3550 section 6.4.1).
	reported bool
	rtp      uint32
	unixUs   int64

	placed   bool
	offsetUs int64 // media time minus RTP time
}

func newTrackClock(hz int64) *trackClock {
	return &trackClock{hz: hz, unwrap: cut.Unwrap{ClockHz: hz, Bits: 32}}
}

// report takes a sender report.
func (c *trackClock) report(ntp uint64, rtp uint32) {
	us, ok := ntpUnixUs(ntp)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reported, c.rtp, c.unixUs = true, rtp, us
}

// wall gives the capture time of an RTP time by the last report; 0: not known.
func (c *trackClock) wall(rtp uint32) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.reported {
		return 0
	}
	return c.unixUs + int64(int32(rtp-c.rtp))*1_000_000/c.hz
}

// ntpUnixUs converts an NTP timestamp; false: it is none of this time (a clock that was never set).
func ntpUnixUs(ntp uint64) (int64, bool) {
	const to1970 = 2_208_988_800
	sec := int64(ntp>>32) - to1970
	us := sec*1_000_000 + int64((ntp&0xffff_ffff)*1_000_000>>32)
	return us, sec > 1_577_836_800 && sec < 4_102_444_800 // 2020 to 2100
}

// captureTime reads the header extension abs-capture-time.
func captureTime(b []byte) (int64, bool) {
	if len(b) < 8 {
		return 0, false
	}
	return ntpUnixUs(binary.BigEndian.Uint64(b))
}
