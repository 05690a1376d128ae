package srt

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"github.com/datarhei/gosrt"

	"github.com/spillway-live/spillway/ingest/publish"
)

// grainUs is the resolution of timestamps of 90 kHz, with the rounding of encoders.
const grainUs = 100

// serve takes one caller, from its handshake to its end.
func (s *Server) serve(ctx context.Context, call srt.ConnRequest, peer netip.Addr) {
	req := publish.Request{Protocol: Protocol, Peer: peer, GrainUs: grainUs}
	open := false // the call was answered
	defer func() {
		if r := recover(); r != nil {
			s.log.Error("connection handler panicked", "peer", peer, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			if !open { // otherwise the publication has told it
				s.s.Publish.Refuse(req, errPanicked, false)
				call.Reject(srt.REJX_ISE)
			}
		}
	}()
	if why, code := s.screen(call, &req); why != nil {
		s.s.Publish.Refuse(req, why, true)
		call.Reject(code)
		return
	}
	pub, err := s.s.Publish.Admit(ctx, req)
	if err != nil {
		call.Reject(codeOf(err))
		return
	}
	var cause error = errPanicked
	defer func() { pub.End(cause) }()
	s.goodbye.watch(call.SocketId())
	defer s.goodbye.take(call.SocketId())
	c, err := call.Accept()
	open = true
	if err != nil {
		cause = &lostError{"the caller was gone before it was answered"}
		return
	}
	defer c.Close()
	cause = s.publish(c, pub)
}

var errPanicked = publish.Refuse("panic", "internal error")

// screen checks what the handshake says, and completes the request.
func (s *Server) screen(call srt.ConnRequest, req *publish.Request) (*publish.Refused, srt.RejectionReason) {
	if call.Version() < 5 {
		return publish.Refuse("protocol", "the caller's SRT is older than 1.3 and cannot name a stream"), srt.REJ_VERSION
	}
	id, err := ParseStreamID(call.StreamId())
	req.Key, req.PublishKey, req.CDN = id.Key, id.PublishKey, id.CDN
	switch {
	case errors.Is(err, errMode):
		return publish.Refuse("play", err.Error()), srt.REJX_BAD_MODE
	case err != nil:
		return publish.Refuse("name", err.Error()), srt.REJX_BAD_REQUEST
	}
	switch encrypted := call.IsEncrypted(); {
	case encrypted && s.s.Passphrase == "":
		return publish.Refuse("key", "the caller encrypts, and no passphrase is set here: leave it out"), srt.REJ_UNSECURE
	case !encrypted && s.s.Passphrase != "":
		return publish.Refuse("key", "the SRT passphrase is missing: set it at the publisher"), srt.REJ_UNSECURE
	case encrypted:
		if err := call.SetPassphrase(s.s.Passphrase); err != nil {
			return publish.Refuse("key", "the SRT passphrase is wrong"), srt.REJ_BADSECRET
		}
	}
	return nil, 0
}

// codeOf gives the rejection code that says most nearly why a publisher is refused
// (SRT access control guidelines).
func codeOf(err error) srt.RejectionReason {
	var r *publish.Refused
	if errors.As(err, &r) {
		switch r.Code {
		case "name":
			return srt.REJX_BAD_REQUEST
		case "key":
			return srt.REJX_UNAUTHORIZED
		case "hook":
			return srt.REJX_FORBIDDEN
		case "second":
			return srt.REJX_CONFLICT
		case "limit":
			return srt.REJX_OVERLOAD
		case "bus", "shutdown":
			return srt.REJX_DOWN
		}
	}
	return srt.REJ_PEER
}

// lostError is a publication that ended because the peer or its connection went.
type lostError struct{ reason string }

func (e *lostError) Error() string { return e.reason }

// publish carries a caller's packets to its publication until it ends, and gives why.
func (s *Server) publish(c srt.Conn, pub *publish.Publication) error {
	q := newQueue(s.s.MaxQueueBytes)
	received := make(chan struct{})
	go func() {
		defer close(received)
		s.receive(c, q)
	}()
	err := s.consume(c, pub, q)
	c.Close()
	<-received
	if n := q.spilt(); n > 0 {
		s.metrics.spilt.Add(float64(n))
	}
	return err
}

// receive moves packets from the library's short queue into ours, which is longer.
func (s *Server) receive(c srt.Conn, q *queue) {
	defer q.close()
	var next uint32
	for begun := false; ; begun = true {
		p, err := c.ReadPacket()
		if err != nil {
			return
		}
		h := p.Header()
		missing := 0
		if begun {
			missing = int((h.PacketSequenceNumber.Val() - next) & 0x7fff_ffff)
			s.metrics.lost.Add(float64(missing))
		}
		next = h.PacketSequenceNumber.Inc().Val()
		q.put(p.Data(), missing)
		p.Decommission()
	}
}

// consume publishes what the queue gives until something ends.
func (s *Server) consume(c srt.Conn, pub *publish.Publication, q *queue) error {
	f := newFeed(pub, s.metrics, s.log)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	w := watch{s: s, c: c, pub: pub}
	defer w.look()
	frames, since := uint64(0), time.Now()
	for {
		select {
		case <-pub.Done():
			return pub.Err()
		case <-tick.C:
			w.look()
			if w.buffered > maxLibraryBytes {
				return publish.Refuse("protocol", fmt.Sprintf("%d bytes were sent ahead of their time: send in real time", w.buffered))
			}
			if f.units != frames {
				frames, since = f.units, time.Now()
			} else if d := time.Since(since); d > s.s.ReadTimeout {
				return f.silent(d)
			}
		case <-q.ready:
			batch, over := q.take()
			for _, b := range batch {
				if err := f.take(b); err != nil {
					return err
				}
			}
			if !over {
				continue
			}
			if err := f.demux.Flush(); err != nil {
				return err
			}
			if s.goodbye.take(c.SocketId()) {
				return publish.ErrEnded
			}
			return &lostError{fmt.Sprintf("the connection was lost: nothing came for %s, or it broke SRT's protocol", s.s.PeerTimeout)}
		}
	}
}

// maxLibraryBytes bounds what the SRT library holds of one publisher.
const maxLibraryBytes = 64 << 20

// watch follows a connection's statistics.
type watch struct {
	s        *Server
	c        srt.Conn
	pub      *publish.Publication
	last     srt.StatisticsAccumulated
	buffered uint64
}

func (w *watch) look() {
	var st srt.Statistics
	w.c.Stats(&st)
	w.s.metrics.count(&w.last, &st.Accumulated)
	w.last, w.buffered = st.Accumulated, st.Instantaneous.ByteRecvBuf
	if rtt := st.Instantaneous.MsRTT; rtt > 0 {
		w.s.metrics.rtt.Observe(rtt / 1000)
	}
	w.pub.Link(publish.Link{RTTMs: st.Instantaneous.MsRTT, Lost: st.Accumulated.PktRecvLoss, Retransmitted: st.Accumulated.PktRecvRetrans})
}

// names joins what is refused, for a message.
func names(list []string) string { return strings.Join(list, ", ") }
