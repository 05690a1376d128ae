package publish

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/spillway-live/spillway/ingest/cut"
	"github.com/spillway-live/spillway/schemas"
)

// Publication is one publisher's stay on one stream: one or more epochs. Its
// methods may be called from several goroutines, but frames of one track must
// come in order.
type Publication struct {
	s     *Service
	req   Request
	log   *slog.Logger
	count counters
	begun time.Time
	// exclusive: it does not take the stream from another.
	exclusive bool
	partUs    int64 // part target where no earlier epoch has fixed it

	life    context.Context // ends when the publication must; its cause is why
	end     context.CancelCauseFunc
	work    context.Context // of what is on the way to the bus
	abandon context.CancelFunc
	unwatch func() bool
	waiting *time.Timer   // until media begins
	once    sync.Once     // of End
	ended   chan struct{} // the last message is published, or never will be

	mu    sync.Mutex // all that follows; held while the bus holds us back
	start startState
	now   tracks // as the publisher's latest configurations say
	// held are audio frames that wait for the epoch of their configuration.
	held  []cut.Frame
	jumps *rate.Limiter

	out     *outlet
	cutter  *cut.Cutter
	in      tracks // of the open epoch
	num     *numbering
	open    *schemas.EpochOpen
	timer   *time.Timer
	due     int64 // of timer, Unix microseconds
	over    bool
	fixed   uint64    // repairs of this epoch, as counted in the metric
	unclear uint64    // capture times of this epoch that were not believed, likewise
	tripUs  int64     // least round trip to the publisher; 0: not known
	keyless time.Time // since when a key frame is awaited

	stats     stats
	lastStats atomic.Pointer[schemas.PublisherStats]
	link      atomic.Pointer[Link]
	taken     atomic.Bool // another publisher owns the stream now
	kick      chan struct{}
	kept      chan struct{} // the keeper has written its last live state
}

// tracks are those of one configuration; one may be nil.
type tracks struct{ video, audio *cut.Track }

func differs(a, b *cut.Track) bool {
	return (a == nil) != (b == nil) || a != nil && a.Info.InitID != b.Info.InitID
}

// Request gives what the publication was admitted with; CDN is completed.
func (p *Publication) Request() Request { return p.req }

// Done is closed when the publication must end: taken over, the process stops, the
// bus takes nothing, no media came. The protocol then closes its peer and calls [Publication.End].
func (p *Publication) Done() <-chan struct{} { return p.life.Done() }

// Err says why Done is closed, in words for the peer; nil before.
func (p *Publication) Err() error {
	if p.life.Err() == nil {
		return nil
	}
	return context.Cause(p.life)
}

// stop ends the publication; the first cause holds.
func (p *Publication) stop(cause error) {
	p.end(cause)
	if errors.Is(cause, ErrShutdown) {
		time.AfterFunc(drainTimeout, p.abandon)
	}
}

// Expect says which tracks the publisher has announced, so that an epoch opens as
// soon as they are there and not before. Without it, what comes within half a second counts.
func (p *Publication) Expect(video, audio bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.start.announced, p.start.wantVideo, p.start.wantAudio = true, video, audio
}

// maxEncoder bounds what a publisher calls itself, bytes.
const maxEncoder = 100

// Encoder says what the publisher calls its software.
func (p *Publication) Encoder(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.start.encoder = strings.ToValidUTF8(name[:min(len(name), maxEncoder)], "")
}

// Video gives the configuration of the video frames that follow. The same again
// changes nothing. Another one, or the first after media began, opens a new epoch
// with the next key frame.
func (p *Publication) Video(c *cut.VideoConfig) error {
	t, err := cut.NewVideoTrack(c, p.partUs)
	if err != nil {
		return Refuse("codec", err.Error())
	}
	p.configure(tracks{video: t})
	return nil
}

// Audio gives the configuration of the audio frames that follow, as [Publication.Video] does.
// Frames of a changed configuration wait for the next video key frame, where there is video.
func (p *Publication) Audio(c *cut.AudioConfig) error {
	t, err := cut.NewAudioTrack(c, p.partUs)
	if err != nil {
		return Refuse("codec", err.Error())
	}
	p.configure(tracks{audio: t})
	return nil
}

func (p *Publication) configure(t tracks) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set(t)
}

// set takes the tracks that are given and differ. mu is held.
func (p *Publication) set(t tracks) {
	if t.video != nil && differs(t.video, p.now.video) {
		p.now.video, p.keyless = t.video, time.Now()
	}
	if t.audio != nil && differs(t.audio, p.now.audio) {
		p.count.fixed.Add(float64(len(p.held))) // no key frame came for them
		p.now.audio, p.held, p.keyless = t.audio, nil, time.Now()
	}
}

// WriteVideo takes a video frame, whose Data it keeps. It blocks while the bus
// takes nothing. Its errors are for the peer: a [*Refused], or why the
// publication was stopped. After one, it must be ended. A frame without a configuration is passed over.
func (p *Publication) WriteVideo(f cut.Frame) error { return p.write(&f, false) }

// WriteAudio takes an audio frame, as [Publication.WriteVideo] does.
func (p *Publication) WriteAudio(f cut.Frame) error { return p.write(&f, true) }

func (p *Publication) write(f *cut.Frame, audio bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.Err(); err != nil {
		return err
	}
	var err error
	if p.cutter == nil {
		err = p.collect(f, audio)
	} else {
		err = p.place(f, audio)
	}
	if err != nil {
		p.stop(err)
	}
	return err
}

// place takes a frame of the running publication. mu is held.
func (p *Publication) place(f *cut.Frame, audio bool) error {
	if differs(p.now.video, p.in.video) || differs(p.now.audio, p.in.audio) {
		if ready, err := p.turn(f, audio); !ready || err != nil {
			return err
		}
	}
	if audio && p.in.audio == nil || !audio && p.in.video == nil {
		return nil
	}
	p.stats.frame(f, audio)
	if err := p.cut(f, audio); err != nil {
		if err = p.mend(err, f, audio); err != nil {
			return err
		}
	}
	if !p.cutter.Started() && time.Since(p.keyless) > p.s.s.StartTimeout {
		return p.noKeyFrame()
	}
	p.arm()
	return nil
}

// maxHeld bounds the audio frames that wait for a changed configuration's epoch.
const maxHeld = 256

// turn opens the epoch of changed configurations when its first frame has come. It
// tells whether the frame can be cut now. mu is held.
func (p *Publication) turn(f *cut.Frame, audio bool) (ready bool, err error) {
	switch {
	case !audio && f.Key, audio && p.now.video == nil:
		if err := p.reopen("codec configuration changed"); err != nil {
			return false, err
		}
		held := p.held
		p.held = nil
		for i := range held {
			if err := p.place(&held[i], true); err != nil {
				return false, err
			}
		}
		return true, nil
	case time.Since(p.keyless) > p.s.s.StartTimeout:
		return false, p.noKeyFrame()
	case audio && differs(p.now.audio, p.in.audio):
		if len(p.held) == maxHeld {
			copy(p.held, p.held[1:])
			p.held = p.held[:maxHeld-1]
			p.count.fixed.Inc()
		}
		p.held = append(p.held, *f)
		return false, nil
	case !audio && differs(p.now.video, p.in.video): // its configuration is not the open epoch's
		p.count.fixed.Inc()
		return false, nil
	}
	return true, nil
}

// mend does what can be done about an error of the cutter: after a jump of the
// timestamps a new epoch opens. mu is held.
func (p *Publication) mend(err error, f *cut.Frame, audio bool) error {
	var jump *cut.JumpError
	if errors.As(err, &jump) {
		p.stats.jump()
		if err := p.reopen(jump.Error()); err != nil {
			return err
		}
		err = p.cut(f, audio)
	}
	if errors.Is(err, cut.ErrTooLarge) {
		return Refuse("too_large", err.Error())
	}
	return err
}

func (p *Publication) cut(f *cut.Frame, audio bool) error {
	if audio {
		return p.cutter.Audio(*f)
	}
	return p.cutter.Video(*f)
}

// RoundTrip tells the least round trip to the publisher itself, not to a relay
// between, that the protocol has measured so far, microseconds. It narrows the bound
// of the publisher's clock.
func (p *Publication) RoundTrip(us int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if us <= 0 || p.tripUs > 0 && us >= p.tripUs {
		return
	}
	p.tripUs = us
	if p.cutter != nil {
		p.cutter.SetRoundTrip(us)
	}
}

// arm sets the timer for what the cutter must let go. mu is held.
func (p *Publication) arm() {
	if c := p.cutter.Counters(); c.Dropped+c.Repaired > p.fixed {
		p.count.fixed.Add(float64(c.Dropped + c.Repaired - p.fixed))
		p.fixed = c.Dropped + c.Repaired
	}
	if n := p.cutter.Counters().Clock; n > p.unclear {
		p.count.clock.Add(float64(n - p.unclear))
		p.unclear = n
	}
	d := p.cutter.Deadline()
	if d == 0 || d == p.due {
		return // a timer set for what has gone already does no harm
	}
	p.due = d
	p.timer.Reset(time.Duration(d-time.Now().UnixMicro())*time.Microsecond + time.Millisecond)
}

func (p *Publication) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over || p.cutter == nil {
		return
	}
	p.due = 0
	p.cutter.Tick(time.Now().UnixMicro())
	p.arm()
}
