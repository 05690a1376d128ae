package whip

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"

	"github.com/spillway-live/spillway/ingest/publish"
)

// grainUs is the resolution of timestamps: browsers' are a few tens of microseconds off their line.
const grainUs = 1000

// session is one publisher, from the answer to its end.
type session struct {
	s    *Server
	id   string
	pub  *publish.Publication
	pc   *webrtc.PeerConnection
	life context.Context
	end  context.CancelCauseFunc
	done chan struct{} // the publication has ended
	wait sync.WaitGroup
	feed *feed

	mu   sync.Mutex
	over bool
}

// errGone is a publisher that went without a word.
var errGone = errors.New("the connection was lost")

var errPanicked = publish.Refuse("panic", "internal error")

// begin answers an offer.
func (s *Server) begin(pub *publish.Publication, offer string, has offered) (*session, string, error) {
	pc, err := s.api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return nil, "", err
	}
	ss := &session{s: s, id: rand.Text(), pub: pub, pc: pc, done: make(chan struct{})}
	ss.life, ss.end = context.WithCancelCause(context.Background())
	ss.feed = newFeed(ss, has)
	pub.Expect(has.video, has.audio)
	pc.OnTrack(ss.track)
	pc.OnConnectionStateChange(func(st webrtc.PeerConnectionState) {
		switch st {
		case webrtc.PeerConnectionStateFailed:
			ss.stop(errGone)
		case webrtc.PeerConnectionStateClosed:
			ss.stop(errors.New("the publisher closed the connection"))
		}
	})
	answer, err := ss.answer(offer)
	if err != nil {
		_ = pc.Close()
		return nil, "", err
	}
	s.mu.Lock()
	s.sessions[ss.id] = ss
	s.mu.Unlock()
	go ss.run()
	return ss, answer, nil
}

// answer negotiates; all candidates are in it.
func (ss *session) answer(offer string) (string, error) {
	if err := ss.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
		return "", err
	}
	gathered := webrtc.GatheringCompletePromise(ss.pc)
	a, err := ss.pc.CreateAnswer(nil)
	if err != nil {
		return "", err
	}
	if err := ss.pc.SetLocalDescription(a); err != nil {
		return "", err
	}
	select {
	case <-gathered:
	case <-time.After(5 * time.Second):
		return "", errors.New("our own addresses could not be gathered within 5 s")
	}
	d := ss.pc.LocalDescription()
	if d == nil {
		return "", errors.New("there is no answer")
	}
	return d.SDP, nil
}

// stop ends the session; the first cause holds.
func (ss *session) stop(cause error) { ss.end(cause) }

// run waits for the end, and does it.
func (ss *session) run() {
	defer close(ss.done)
	defer ss.s.leave(ss.pub.Request().Peer)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for running := true; running; {
		select {
		case <-ss.life.Done():
			running = false
		case <-ss.pub.Done():
			ss.stop(ss.pub.Err())
		case now := <-tick.C:
			if ss.feed.wantsKey(now) {
				ss.askKey()
			}
			ss.feed.tick(now)
		}
	}
	cause := context.Cause(ss.life)
	ss.mu.Lock()
	ss.over = true
	ss.mu.Unlock()
	_ = ss.pc.Close() // readers end
	ss.wait.Wait()
	if errors.Is(cause, publish.ErrEnded) {
		ss.feed.drain()
	}
	ss.pub.End(cause)
	ss.s.mu.Lock()
	delete(ss.s.sessions, ss.id)
	ss.s.mu.Unlock()
}

// askKey asks the publisher for a key frame (RFC 4585 section 6.3.1).
func (ss *session) askKey() {
	ssrc := ss.feed.videoSSRC.Load()
	if ssrc == 0 {
		return
	}
	ss.s.metrics.pli.Inc()
	_ = ss.pc.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: ssrc}})
}

// guard runs one of the session's goroutines.
func (ss *session) guard(f func()) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.over {
		return
	}
	ss.wait.Go(func() {
		defer func() {
			if v := recover(); v != nil {
				ss.s.log.Error("session panicked", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
				ss.stop(errPanicked)
			}
		}()
		f()
	})
}

// track reads a track: its packets, and what is reported of it.
func (ss *session) track(remote *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
	ss.guard(func() {
		t := ss.feed.add(remote, receiver)
		if t == nil {
			return // a second one of its kind
		}
		ss.guard(func() { ss.readReports(receiver, t) })
		for {
			pkt, _, err := remote.ReadRTP()
			if err != nil {
				return
			}
			ss.s.metrics.packets.Inc()
			if err := ss.feed.packet(t, pkt, time.Now()); err != nil {
				ss.stop(err)
				return
			}
		}
	})
}

func (ss *session) readReports(receiver *webrtc.RTPReceiver, t *track) {
	for {
		packets, _, err := receiver.ReadRTCP()
		if err != nil {
			return
		}
		for _, p := range packets {
			if sr, ok := p.(*rtcp.SenderReport); ok && sr.SSRC == t.ssrc {
				t.clock.report(sr.NTPTime, sr.RTPTime)
			}
		}
	}
}
