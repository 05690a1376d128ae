package probe

import (
	"slices"
	"strings"
	"time"

	"github.com/spillway-live/spillway/schemas"
)

// stream is a live one as far as asking for it costs anything.
type stream struct {
	key       schemas.StreamKey
	onDemand  bool // pulled only while somebody watches
	ladder    bool // encoders run while somebody watches
	elsewhere bool // published in another region, which probes it itself
	heard     heard
}

// wakeEvery is how often a stream with a ladder is woken for want of others. All CDNs are
// asked at the minute's begin, by all processes, so that encoders run once for all of them.
const wakeEvery = time.Minute

// choose gives the streams that are probed now, unless they were after latest: those that
// cost nothing, or the first of those with a ladder.
func choose(live []stream, now time.Time, every time.Duration) (chosen []schemas.StreamKey, latest time.Time) {
	var costly []schemas.StreamKey
	for i := range live {
		s := &live[i]
		switch {
		case s.heard.allows(s.onDemand, s.ladder || s.elsewhere, now):
			chosen = append(chosen, s.key)
		case !s.onDemand && !s.elsewhere:
			costly = append(costly, s.key)
		}
	}
	if len(chosen) > 0 || len(costly) == 0 {
		return chosen, now.Add(-every)
	}
	first := slices.MinFunc(costly, func(a, b schemas.StreamKey) int { return strings.Compare(a.String(), b.String()) })
	return []schemas.StreamKey{first}, now.Truncate(wakeEvery).Add(-1)
}

// allows: a request is demand, which wakes cameras, starts encoders and brings
// streams from other regions (costs).
func (h heard) allows(onDemand, costs bool, now time.Time) bool {
	if onDemand {
		return now.Sub(h.asked) < cameraFor
	}
	return !costs || now.Sub(h.watched) < watchedFor
}
