package origin

import (
	"net/http"
	"time"
)

// inProgress finds the segment that is being made, if it has begun. The lock is held.
func (t *track) inProgress(id partID) *segment {
	if n := len(t.segs); id.part < 0 && n > 0 {
		if s := t.segs[n-1]; !s.Complete && s.Epoch == id.epoch && s.MSN == id.msn {
			return s
		}
	}
	return nil
}

// serveInProgress sends a segment part by part as they come (HTTP chunked
// transfer), which low-latency DASH players read while it is made. The answer
// is broken off, so that no cache takes it for whole, when the publisher stops
// or a part is lost.
func (o *Origin) serveInProgress(w http.ResponseWriter, r *http.Request, t target, f *feed, tr *track, s *segment, hold *hold) {
	mediaHeader(w, r, t, "")
	w.Header().Del("Etag") // made of bytes that are not here yet
	w.WriteHeader(http.StatusOK)
	out := http.NewResponseController(w)
	sent, progress := 0, time.Now()
	defer f.reads(s)()
	for {
		f.mu.Lock()
		parts, whole, lost, wake := s.raw[sent:len(s.raw):len(s.raw)], s.Complete, s.released || hasGap(s), tr.changed
		f.mu.Unlock()
		if lost {
			panic(http.ErrAbortHandler)
		}
		for _, b := range parts {
			if _, err := w.Write(b); err != nil {
				return // the client is gone
			}
		}
		if len(parts) > 0 {
			if err := out.Flush(); err != nil {
				return
			}
			sent, progress = sent+len(parts), time.Now()
			continue // closing moves the parts to another place
		}
		left := o.HoldLimit - time.Since(progress)
		if whole {
			return
		}
		if left <= 0 || !hold.wait(wake, left) {
			panic(http.ErrAbortHandler)
		}
	}
}
