package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
)

// Two publishers on one stream: the newest has it, or the second is refused
// (schemas.AppSettings.SecondPublisher). Within a process the table of current
// publications tells; between processes the heartbeat in the bucket streams tells
// a second one before it begins, and the fence on the media subject the one that
// was overtaken.

// claim makes p the publication of its stream. The one before is closed, unless
// the application refuses second publishers. It waits, for a while, until the one
// before has published its end.
func (s *Service) claim(p *Publication) error {
	s.mu.Lock()
	old := s.current[p.req.Key]
	if old != nil && p.exclusive {
		s.mu.Unlock()
		return s.refuseSecond(&p.req, old)
	}
	s.current[p.req.Key] = p
	s.mu.Unlock()
	p.count.active.Inc()
	if old == nil {
		return nil
	}
	s.tellSecond(&old.req, &p.req, "took_over")
	old.stop(fmt.Errorf("replaced by a newer publisher from %s", p.req.Peer))
	select {
	case <-old.ended:
	case <-time.After(3 * time.Second): // the fence refuses whatever it still sends
	}
	return nil
}

func (s *Service) release(p *Publication) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current[p.req.Key] == p {
		delete(s.current, p.req.Key)
	}
	p.count.active.Dec()
}

// replaced tells whether a newer publication of this process has p's stream.
func (s *Service) replaced(p *Publication) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.current[p.req.Key]
	return q != nil && q != p
}

// occupied refuses r if its stream has a publisher, in this process or another.
func (s *Service) occupied(ctx context.Context, r *Request) *Refused {
	s.mu.Lock()
	old := s.current[r.Key]
	s.mu.Unlock()
	if old != nil {
		return s.refuseSecond(r, old)
	}
	st, err := s.elsewhere(ctx, r.Key)
	switch {
	case err != nil:
		return Refuse("bus", fmt.Sprintf("the bus could not be asked whether %s has a publisher: %v", r.Key, err))
	case st == nil:
		return nil
	}
	s.tellSecond(&Request{Key: r.Key, Protocol: st.Epoch.Protocol, CDN: st.Epoch.CDN}, r, "refused")
	return secondRefused(r.Key, st.Epoch.Protocol)
}

func (s *Service) refuseSecond(r *Request, old *Publication) *Refused {
	s.tellSecond(&old.req, r, "refused")
	return secondRefused(r.Key, old.req.Protocol)
}

func secondRefused(k schemas.StreamKey, protocol string) *Refused {
	return Refuse("second", fmt.Sprintf("%s is being published already, over %s, and its settings refuse a second publisher: stop the first one, or use another stream name", k, protocol))
}

// heartbeat is how often a live stream's state is rewritten; deadAfter how long
// it may be missing before its process counts as dead.
const (
	heartbeat = time.Second
	deadAfter = 3500 * time.Millisecond
)

// elsewhere gives the state of a stream that another process publishes, nil where
// none does. It goes by the heartbeat and not by the age of what it finds, so that
// no clock is compared and a process that was killed stands in nobody's way for long.
func (s *Service) elsewhere(ctx context.Context, k schemas.StreamKey) (*schemas.StreamState, error) {
	ctx, cancel := context.WithTimeout(ctx, deadAfter+settingsTimeout)
	defer cancel()
	st, err := s.state(ctx, k)
	if st == nil || err != nil {
		return nil, err
	}
	w, err := s.bus.streams.Watch(ctx, k.KVKey(), jetstream.UpdatesOnly())
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", k, err)
	}
	defer func() { _ = w.Stop() }()
	dead := time.NewTimer(deadAfter)
	defer dead.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-dead.C:
			return nil, nil
		case e, ok := <-w.Updates():
			if !ok {
				return nil, errors.New("the watch ended")
			}
			if e != nil {
				return liveState(e)
			}
		}
	}
}

// state gives a stream's state if it is live.
func (s *Service) state(ctx context.Context, k schemas.StreamKey) (*schemas.StreamState, error) {
	e, err := s.bus.streams.Get(ctx, k.KVKey())
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the state of %s: %w", k, err)
	}
	return liveState(e)
}

func liveState(e jetstream.KeyValueEntry) (*schemas.StreamState, error) {
	var st schemas.StreamState
	if e.Operation() != jetstream.KeyValuePut {
		return nil, nil
	}
	if err := json.Unmarshal(e.Value(), &st); err != nil {
		return nil, fmt.Errorf("decode the state of %s: %w", e.Key(), err)
	}
	if !st.Live {
		return nil, nil
	}
	return &st, nil
}

// tellSecond logs and tells what became of two publishers, on behalf of both.
func (s *Service) tellSecond(first, second *Request, outcome string) {
	reason := map[string]string{
		"refused":   "a second publisher was refused: the first keeps the stream",
		"took_over": "a newer publisher took the stream over: the first was closed",
	}[outcome]
	peer := func(r *Request) string {
		if !r.Peer.IsValid() {
			return "another process"
		}
		return r.Peer.String()
	}
	detail := map[string]string{
		"outcome": outcome, "first_peer": peer(first), "first_protocol": first.Protocol,
		"second_peer": peer(second), "second_protocol": second.Protocol, "protocol": second.Protocol,
	}
	s.log.Warn("two publishers on one stream", "stream", first.Key.String(), "outcome", outcome,
		"first_peer", detail["first_peer"], "first_protocol", first.Protocol, "second_peer", detail["second_peer"], "second_protocol", second.Protocol)
	s.report.Event(schemas.Event{Kind: schemas.EventSecondPublisher, App: first.Key.App, Stream: first.Key.Stream, CDN: first.CDN, Reason: reason, Detail: detail})
}
