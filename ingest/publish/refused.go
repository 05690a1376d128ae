package publish

import (
	"errors"

	"github.com/spillway-live/spillway/schemas"
)

// Refused says why a publisher was turned away or cut off. Its text is for the
// peer, the log and the event alike.
type Refused struct {
	// Code is short and fixed, for metrics and for a protocol's own status: name,
	// key, hook, second, share, source, limit, protocol, tls, play, codec, bitstream, too_large,
	// no_media, no_key_frame, unsteady, bus, shutdown, panic.
	Code string
	// Reason says in plain words what was wrong and what to do.
	Reason string
}

func (r *Refused) Error() string { return r.Reason }

// Refuse makes a [Refused].
func Refuse(code, reason string) *Refused { return &Refused{Code: code, Reason: reason} }

// Why a publication ends from within; [Publication.Err] gives one of them, a
// [*Refused], or another error with the reason.
var (
	// ErrEnded: the publisher said that it is done. [Publication.End] with it
	// writes the stream's end to the bus.
	ErrEnded = errors.New("the publisher ended the stream")
	// ErrShutdown: the process stops. The publisher may go on at another.
	ErrShutdown = errors.New("ingest is shutting down")
	// ErrTakenOver: another publisher has written to the stream.
	ErrTakenOver = errors.New("another publisher has taken over the stream")
)

// Refuse counts, logs and tells as an event that a peer was turned away before
// it was admitted. Of noise, which anybody can cause, at most one a second (after
// ten at once) is logged and told for each protocol.
func (s *Service) Refuse(r Request, why *Refused, noise bool) {
	s.metrics.refused.WithLabelValues(r.Protocol, why.Code).Inc()
	quiet, tell := s.noise.allow(r.Protocol, noise)
	if !tell {
		return
	}
	s.log.Warn("publisher refused", "protocol", r.Protocol, "peer", r.Peer, "stream", r.Key.String(), "code", why.Code, "reason", why.Reason, "unreported_before", quiet)
	e := schemas.Event{Kind: schemas.EventPublishRefused, CDN: r.CDN, Reason: why.Reason,
		Detail: map[string]string{"peer": r.Peer.String(), "code": why.Code, "protocol": r.Protocol}}
	if r.Key.Check() == nil {
		e.App, e.Stream = r.Key.App, r.Key.Stream
	}
	if schemas.CheckName("CDN name", e.CDN) != nil {
		e.CDN = ""
	}
	s.report.Event(e)
}
