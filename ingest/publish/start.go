package publish

import (
	"context"
	"fmt"
	"time"

	"github.com/spillway-live/spillway/ingest/cut"
	"github.com/spillway-live/spillway/schemas"
)

const (
	// How much media of one track is kept for the other's configuration: where it
	// was announced, and where nothing was announced.
	announcedUs, unannouncedUs = 3_000_000, 500_000
	maxPending                 = 1024
	maxPendingBytes            = 8 << 20
)

func (p *Publication) noMedia() error {
	return Refuse("no_media", fmt.Sprintf("no media that can be used within %s", p.s.s.StartTimeout))
}

func (p *Publication) noKeyFrame() error {
	return Refuse("no_key_frame", fmt.Sprintf("no key frame (IDR) within %s: set a key frame interval of 2 s", p.s.s.StartTimeout))
}

// startState is what is known before the first epoch.
type startState struct {
	announced            bool
	wantVideo, wantAudio bool
	encoder              string

	pending []pendingFrame
	bytes   int
	firstUs int64
}

type pendingFrame struct {
	frame cut.Frame
	of    tracks // with only the frame's own track, as configured when the frame came
}

// first gives the tracks that the first epoch opens with: those of the first
// frames, and where a track has none yet its latest configuration.
func (s *startState) first(now tracks) tracks {
	for i := len(s.pending) - 1; i >= 0; i-- {
		if of := s.pending[i].of; of.audio != nil {
			now.audio = of.audio
		} else {
			now.video = of.video
		}
	}
	return now
}

// ready tells whether the first epoch can open with the tracks that are there.
func (s *startState) ready(t tracks) bool {
	haveV, haveA := t.video != nil, t.audio != nil
	if len(s.pending) == 0 || !haveV && !haveA {
		return false
	}
	if haveV && haveA || len(s.pending) >= maxPending || s.bytes >= maxPendingBytes {
		return true
	}
	media := s.pending[len(s.pending)-1].frame.DTSUs - s.firstUs
	if !s.announced {
		return media >= unannouncedUs
	}
	return (haveV || !s.wantVideo) && (haveA || !s.wantAudio) || media >= announcedUs
}

// collect keeps what comes until the tracks are known, then starts. mu is held.
func (p *Publication) collect(f *cut.Frame, audio bool) error {
	s := &p.start
	if audio && p.now.audio == nil || !audio && p.now.video == nil {
		return nil // nothing can be made of it before its configuration
	}
	if len(s.pending) == 0 {
		s.firstUs = f.DTSUs
	}
	of := tracks{video: p.now.video}
	if audio {
		of = tracks{audio: p.now.audio}
	}
	s.pending = append(s.pending, pendingFrame{*f, of})
	s.bytes += len(f.Data)
	if !s.ready(p.now) {
		return nil
	}
	latest := p.now
	p.now = s.first(p.now)
	if err := p.begin(); err != nil {
		return err
	}
	pending := s.pending
	s.pending = nil
	for i := range pending {
		p.set(pending[i].of)
		if err := p.place(&pending[i].frame, pending[i].of.audio != nil); err != nil {
			return err
		}
	}
	p.set(latest)
	return nil
}

// begin takes the stream over, continues its numbering and opens the first epoch. mu is held.
func (p *Publication) begin() error {
	p.waiting.Stop()
	if err := p.s.claim(p); err != nil {
		return err
	}
	num, err := p.numbering()
	if err == nil && p.exclusive {
		err = p.alone()
	}
	if err != nil {
		p.s.release(p)
		return err
	}
	out := newOutlet(p.s.bus, schemas.MediaSubject(p.req.Key, schemas.SourceRendition), num)
	out.log, out.limit, out.pool = p.log, p.s.s.BusTimeout, &p.s.pool
	out.onTrap, out.onOpen = p.trapped, p.opened
	out.onFail = func(err error) {
		if err == ErrTakenOver {
			p.taken.Store(true)
			p.s.tellSecond(&p.req, &Request{Key: p.req.Key}, "took_over")
		}
		p.stop(err)
	}
	out.onLost = func(c *schemas.Chunk) { p.s.hops.Tell(p.s.hopRows(c, time.Now(), false)...) }
	out.onSent = func(c *schemas.Chunk, n int) {
		p.s.hops.Tell(p.s.hopRows(c, time.Now(), true)...)
		p.count.chunks.Inc()
		p.count.bytes.Add(float64(n))
		p.stats.chunk()
	}
	p.out, p.num = out, num
	p.keyless = time.Now()
	go out.run(p.work)
	go p.keep(p.work)
	return p.openEpoch()
}

// alone refuses the publication if another process has begun to publish the
// stream since the admission. One that begins later meets the fence.
func (p *Publication) alone() error {
	ctx, cancel := context.WithCancel(p.work)
	defer cancel()
	defer context.AfterFunc(p.life, cancel)()
	if st, err := p.s.elsewhere(ctx, p.req.Key); st != nil {
		p.s.tellSecond(&Request{Key: p.req.Key, Protocol: st.Epoch.Protocol, CDN: st.Epoch.CDN}, &p.req, "refused")
		return secondRefused(p.req.Key, st.Epoch.Protocol)
	} else if err != nil {
		return Refuse("bus", fmt.Sprintf("the bus could not be asked whether %s has a publisher: %v", p.req.Key, err))
	}
	return nil
}

// numbering asks the bus where the stream's numbers stand, again and again while it is away.
func (p *Publication) numbering() (*numbering, error) {
	deadline := time.Now().Add(p.s.s.BusTimeout)
	for told := false; ; {
		try, cancel := context.WithTimeout(p.work, 5*time.Second)
		var n *numbering
		var err error
		if !p.exclusive {
			err = p.s.bus.seize(try, p.req.Key)
		}
		if err == nil {
			n, err = p.s.bus.load(try, p.req.Key)
		}
		cancel()
		if err == nil {
			return n, nil
		}
		if p.life.Err() != nil || time.Now().After(deadline) {
			return nil, Refuse("bus", fmt.Sprintf("the bus could not be asked for the stream's numbering: %v", err))
		}
		if !told {
			told = true
			p.trapped(err)
		}
		select {
		case <-p.life.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}
