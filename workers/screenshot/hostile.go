package screenshot

import (
	"time"

	"github.com/spillway-live/spillway/schemas"
)

// A stream whose key frames cost decoders twice in a row is left alone for a
// while: a publisher who makes them on purpose shall not hold up the pictures of
// others, each by up to [Pool.Timeout].
const (
	tooManyLosses = 2
	leaveFor      = time.Minute
)

// losses counts decoders that a stream has cost in a row, and until when it is left alone.
type losses struct {
	n     int
	until time.Time
}

// lost notes what became of a key frame of k. Every worker counts for itself.
func (h *Handler) lost(k schemas.StreamKey, now time.Time, lost bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l, known := h.hostile[k]
	if !lost {
		if known {
			delete(h.hostile, k)
		}
		return
	}
	if !known && len(h.hostile) >= maxStreams {
		clear(h.hostile)
	}
	if l.n++; l.n >= tooManyLosses {
		l.until = now.Add(leaveFor)
		h.s.Logger.Warn("no pictures for a while: the stream's key frames end or hang decoders", "stream", k.String(), "for", leaveFor)
	}
	h.hostile[k] = l
}

// left reports whether k is left alone at now.
func (h *Handler) left(k schemas.StreamKey, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return now.Before(h.hostile[k].until)
}
