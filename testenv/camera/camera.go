// Package camera is an RTSP camera for tests: a real RTSP server that plays a
// clip, encoded by ffmpeg, in a loop at its own pace, with RTCP sender reports,
// optionally behind user and password, and with packets that get lost.
package camera

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bluenviron/gortsplib/v5"
	"github.com/bluenviron/gortsplib/v5/pkg/auth"
	"github.com/bluenviron/gortsplib/v5/pkg/base"
	"github.com/bluenviron/gortsplib/v5/pkg/description"
	"github.com/bluenviron/gortsplib/v5/pkg/format"
	"github.com/bluenviron/gortsplib/v5/pkg/liberrors"
	"github.com/pion/rtp"
)

// Settings of a Camera.
type Settings struct {
	// Clip is what it sees; required.
	Clip *Clip
	// User and Password are asked for where User is not empty.
	User, Password string
	// UDP lets viewers have RTP over UDP, too.
	UDP bool
	// LoseEvery loses every n-th video packet; 0: none. It can be changed with Lose.
	LoseEvery int64
	// Spoil changes the payload of each packet; nil: none.
	Spoil func(payload []byte)
	// ClockOffset is how far its clock is off.
	ClockOffset time.Duration
}

// Camera is a running camera. Make it with Start.
type Camera struct {
	s      Settings
	server *gortsplib.Server
	stream *gortsplib.ServerStream
	tracks []*cameraTrack
	cancel context.CancelFunc
	done   chan struct{}
	addr   string
	lose   atomic.Int64

	plays, teardowns, describes atomic.Int64
	playing                     atomic.Int64
	mu                          sync.Mutex
	sessions                    map[*gortsplib.ServerSession]bool
}

type cameraTrack struct {
	media  *description.Media
	encode func(s *sample) ([]*rtp.Packet, error)
	rate   int64
	video  bool
	sent   int64
	seq    uint16
}

// Start runs a camera on a free port of this machine.
func Start(s Settings) (*Camera, error) {
	c := &Camera{s: s, done: make(chan struct{}), sessions: map[*gortsplib.ServerSession]bool{}}
	c.lose.Store(s.LoseEvery)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("camera: %w", err)
	}
	c.addr = l.Addr().String()
	c.server = &gortsplib.Server{
		Handler: c, RTSPAddress: c.addr, WriteQueueSize: 1024,
		Listen: func(string, string) (net.Listener, error) { return l, nil },
	}
	if s.User != "" {
		c.server.AuthMethods = []auth.VerifyMethod{auth.VerifyMethodDigestMD5}
	}
	if s.UDP {
		if err := c.useUDP(); err != nil {
			return nil, err
		}
	}
	if err := c.server.Start(); err != nil {
		return nil, fmt.Errorf("camera: %w", err)
	}
	desc := &description.Session{}
	for _, t := range s.Clip.tracks {
		ct, err := newTrack(t)
		if err != nil {
			c.server.Close()
			return nil, err
		}
		c.tracks = append(c.tracks, ct)
		desc.Medias = append(desc.Medias, ct.media)
	}
	c.stream = &gortsplib.ServerStream{Server: c.server, Desc: desc}
	if err := c.stream.Initialize(); err != nil {
		c.server.Close()
		return nil, fmt.Errorf("camera: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	go func() { defer close(c.done); c.run(ctx) }()
	return c, nil
}

// useUDP finds two ports in a row, the first even, as RTP asks for.
func (c *Camera) useUDP() error {
	for range 50 {
		a, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("camera: %w", err)
		}
		port := a.LocalAddr().(*net.UDPAddr).Port
		a.Close()
		if port%2 != 0 {
			continue
		}
		next, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port+1))
		if err != nil {
			continue
		}
		next.Close()
		c.server.UDPRTPAddress, c.server.UDPRTCPAddress = fmt.Sprintf("127.0.0.1:%d", port), fmt.Sprintf("127.0.0.1:%d", port+1)
		return nil
	}
	return fmt.Errorf("camera: no two free UDP ports in a row")
}

// URL is where it is pulled, with user and password.
func (c *Camera) URL() string {
	if c.s.User != "" {
		return "rtsp://" + c.s.User + ":" + c.s.Password + "@" + c.addr + "/stream"
	}
	return "rtsp://" + c.addr + "/stream"
}

// Lose loses every n-th video packet from now on; 0: none.
func (c *Camera) Lose(every int64) { c.lose.Store(every) }

// Plays counts PLAY requests, Teardowns TEARDOWN requests, Describes DESCRIBE
// requests that were let in; Playing is the number of sessions that play now.
func (c *Camera) Plays() int64     { return c.plays.Load() }
func (c *Camera) Teardowns() int64 { return c.teardowns.Load() }
func (c *Camera) Describes() int64 { return c.describes.Load() }
func (c *Camera) Playing() int64   { return c.playing.Load() }

// Cut closes all sessions, as a camera that restarts would.
func (c *Camera) Cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.sessions {
		s.Close()
	}
}

// Stop ends it.
func (c *Camera) Stop() {
	c.cancel()
	<-c.done
	c.stream.Close()
	c.server.Close()
}

func (c *Camera) run(ctx context.Context) {
	start := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for loop := time.Duration(0); ; loop++ {
		for i := range c.s.Clip.samples {
			s := &c.s.Clip.samples[i]
			at := start.Add(loop*c.s.Clip.length + s.dts)
			timer.Reset(time.Until(at))
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
			c.send(s, loop*c.s.Clip.length, start)
		}
	}
}

func (c *Camera) send(s *sample, offset time.Duration, start time.Time) {
	t := c.tracks[s.track]
	packets, err := t.encode(s)
	if err != nil {
		return // the encoders take what ffmpeg made
	}
	pts := offset + s.pts
	ts := uint32(pts.Microseconds() * t.rate / 1_000_000)
	for _, p := range packets {
		p.Timestamp += ts
		t.seq++
		p.SequenceNumber = t.seq
		t.sent++
		if n := c.lose.Load(); t.video && n > 0 && t.sent%n == 0 {
			continue
		}
		if c.s.Spoil != nil {
			p.Payload = bytes.Clone(p.Payload) // it is the clip's, which others play too
			c.s.Spoil(p.Payload)
		}
		_ = c.stream.WritePacketRTPWithNTP(t.media, p, start.Add(pts+c.s.ClockOffset)) // nobody may be there
	}
}

func newTrack(t clipTrack) (*cameraTrack, error) {
	ct := &cameraTrack{rate: int64(t.format.ClockRate())}
	m := &description.Media{Type: description.MediaTypeAudio, Formats: []format.Format{t.format}}
	var err error
	switch f := t.format.(type) {
	case *format.H264:
		m.Type, ct.video = description.MediaTypeVideo, true
		e, cerr := f.CreateEncoder()
		err = cerr
		ct.encode = func(s *sample) ([]*rtp.Packet, error) { return e.Encode(s.units) }
	case *format.H265:
		m.Type, ct.video = description.MediaTypeVideo, true
		e, cerr := f.CreateEncoder()
		err = cerr
		ct.encode = func(s *sample) ([]*rtp.Packet, error) { return e.Encode(s.units) }
	case *format.MPEG4Audio:
		e, cerr := f.CreateEncoder()
		err = cerr
		ct.encode = func(s *sample) ([]*rtp.Packet, error) { return e.Encode(s.units) }
	case *format.Opus:
		e, cerr := f.CreateEncoder()
		err = cerr
		ct.encode = func(s *sample) ([]*rtp.Packet, error) {
			p, err := e.Encode(s.units[0])
			return []*rtp.Packet{p}, err
		}
	case *format.G711:
		e, cerr := f.CreateEncoder()
		err = cerr
		ct.encode = func(s *sample) ([]*rtp.Packet, error) { return e.Encode(s.units[0]) }
	default:
		err = fmt.Errorf("format %T is not known here", t.format)
	}
	if err != nil {
		return nil, fmt.Errorf("camera: %w", err)
	}
	ct.media = m
	return ct, nil
}

// OnRequest counts.
func (c *Camera) OnRequest(_ *gortsplib.ServerConn, r *base.Request) {
	if r.Method == base.Teardown {
		c.teardowns.Add(1)
	}
}

// OnDescribe asks for user and password.
func (c *Camera) OnDescribe(ctx *gortsplib.ServerHandlerOnDescribeCtx) (*base.Response, *gortsplib.ServerStream, error) {
	if c.s.User != "" && !ctx.Conn.VerifyCredentials(ctx.Request, c.s.User, c.s.Password) {
		return &base.Response{StatusCode: base.StatusUnauthorized}, nil, liberrors.ErrServerAuth{}
	}
	c.describes.Add(1)
	return &base.Response{StatusCode: base.StatusOK}, c.stream, nil
}

// OnSetup takes everybody who was described to.
func (c *Camera) OnSetup(*gortsplib.ServerHandlerOnSetupCtx) (*base.Response, *gortsplib.ServerStream, error) {
	return &base.Response{StatusCode: base.StatusOK}, c.stream, nil
}

// OnPlay counts.
func (c *Camera) OnPlay(ctx *gortsplib.ServerHandlerOnPlayCtx) (*base.Response, error) {
	c.plays.Add(1)
	c.playing.Add(1)
	c.mu.Lock()
	c.sessions[ctx.Session] = true
	c.mu.Unlock()
	return &base.Response{StatusCode: base.StatusOK}, nil
}

// OnSessionClose counts.
func (c *Camera) OnSessionClose(ctx *gortsplib.ServerHandlerOnSessionCloseCtx) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sessions[ctx.Session] {
		delete(c.sessions, ctx.Session)
		c.playing.Add(-1)
	}
}
