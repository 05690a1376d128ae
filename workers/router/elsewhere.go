package router

import (
	"runtime"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
)

// onElsewhere notes where routers of other regions sent sessions, as the relay brought it from the parent.
func (l *follower) onElsewhere(m jetstream.Msg) error {
	if md, err := m.Metadata(); err == nil {
		l.elsewhere(m.Data(), md.Timestamp.Add(-schemas.Waited(m.Headers())))
	}
	return nil
}

// elsewhere notes the decisions of one message; at is when the newest of them was made, by this bus's clock.
func (l *follower) elsewhere(data []byte, at time.Time) {
	n := 0
	err := schemas.ReadElsewhere(data, func(older time.Duration, w schemas.Where) {
		if n++; n%yieldEvery == 0 {
			runtime.Gosched() // as with slices
		}
		if !l.ours(w.SessionID) {
			l.passOver(&w)
			return
		}
		l.Decided(factOf(&w, schemas.StreamKey{}), at.Add(-older)) // its stream is known from its first slice on
	})
	if err != nil {
		l.logger.Warn("decisions of other regions are not understood; is the relay of another version?", "err", err)
	}
}

// ours says whether a router with this one's key began a session. Its group of address
// prefixes is then one of this router's, too, as both are made with that key.
func (l *follower) ours(id string) bool { return l.Knows(id) || l.signer.IsSessionID(id) }

// passOver counts a decision of a region that has other keys: its session and its group mean nothing here.
func (l *follower) passOver(w *schemas.Where) {
	if l.foreign.Add(1) == 1 {
		l.logger.Error("another region decides about sessions that were made with another token key; they count nowhere here: give all regions the same secrets.json", "session", w.SessionID, "cdn", w.CDN)
	}
}
