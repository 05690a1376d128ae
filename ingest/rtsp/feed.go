package rtsp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/bluenviron/gortsplib/v5"
	"github.com/bluenviron/gortsplib/v5/pkg/description"
	"github.com/bluenviron/gortsplib/v5/pkg/format"
	"github.com/pion/rtp"

	"github.com/spillway-live/spillway/ingest/cut"
	"github.com/spillway-live/spillway/ingest/publish"
	"github.com/spillway-live/spillway/schemas"
)

// feed carries one connection's media to its publication.
type feed struct {
	c      *camera
	cl     *gortsplib.Client
	pub    *publish.Publication
	failed chan error
	begun  atomic.Bool // media has come
}

// maxMalformed is how many packets in a row may make no sense before the camera is left.
const maxMalformed = 200

// track is one format of the camera that is taken.
type track struct {
	bad   int // malformed packets in a row
	media *description.Media
	forma format.Format
	read  reader
	seq   sequence
}

// reader makes frames of one format's packets.
type reader interface {
	// packet gives the frames that a packet completes. lost: packets before it are missing.
	packet(pkt *rtp.Packet, pts int64, lost bool) ([]cut.Frame, error)
	// configure tells the publication what is known of the configuration.
	configure(pub *publish.Publication) error
}

// choose takes the first video and the first audio that can be published as
// they are. What is left out is said by name.
func (f *feed) choose(desc *description.Session) ([]*track, error) {
	var video, audio *track
	var left []string
	for _, m := range desc.Medias {
		if m.IsBackChannel {
			continue
		}
		for _, forma := range m.Formats {
			r, err := newReader(forma, f.c.p.m)
			if err != nil {
				left = append(left, fmt.Sprintf("%s (%v)", codecName(forma), err))
				continue
			}
			if r == nil {
				left = append(left, codecName(forma))
				continue
			}
			t := &track{media: m, forma: forma, read: r}
			if _, isVideo := r.(*videoReader); isVideo && video == nil {
				video = t
			} else if !isVideo && audio == nil {
				audio = t
			}
		}
	}
	var out []*track
	for _, t := range []*track{video, audio} {
		if t != nil {
			out = append(out, t)
		}
	}
	const taken = "H.264, H.265, AAC and Opus are taken"
	if len(out) == 0 {
		return nil, fmt.Errorf("the camera sends nothing that can be published: it offers %s; %s", orNothing(left), taken)
	}
	if len(left) > 0 {
		f.c.log.Warn("a part of what the camera sends is refused", "refused", strings.Join(left, ", "), "why", taken)
	}
	return out, nil
}

func orNothing(s []string) string {
	if len(s) == 0 {
		return "nothing"
	}
	return strings.Join(s, ", ")
}

// play feeds the publication until something ends.
func (f *feed) play(ctx context.Context, tracks []*track) (err error) {
	defer func() {
		cause := context.Cause(ctx)
		if cause == nil {
			cause = errors.New("camera: " + answerText(err))
		}
		f.pub.End(cause)
	}()
	var wantVideo, wantAudio bool
	for _, t := range tracks {
		_, isVideo := t.read.(*videoReader)
		wantVideo, wantAudio = wantVideo || isVideo, wantAudio || !isVideo
		if err := t.read.configure(f.pub); err != nil {
			return err
		}
		f.cl.OnPacketRTP(t.media, t.forma, func(pkt *rtp.Packet) { f.take(t, pkt) })
	}
	f.pub.Expect(wantVideo, wantAudio)
	if _, err := f.cl.Play(nil); err != nil {
		return fmt.Errorf("PLAY: %w", err)
	}
	f.c.p.m.connects.Inc()
	ended := make(chan error, 1)
	go func() { ended <- f.cl.Wait() }()
	select {
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-f.pub.Done():
		err = f.pub.Err()
	case err = <-f.failed:
	case err = <-ended:
		return err
	}
	f.cl.Close() // no packet comes any more
	<-ended
	return err
}

// fail ends the connection; the first error holds.
func (f *feed) fail(err error) {
	select {
	case f.failed <- err:
	default:
	}
}

// take makes frames of a packet and publishes them. It blocks while the bus
// holds us back, which holds the camera back over TCP.
func (f *feed) take(t *track, pkt *rtp.Packet) {
	pts, ok := f.cl.PacketPTS(t.media, pkt)
	if !ok {
		return // the time of this track is not known yet
	}
	frames, err := t.read.packet(pkt, pts, t.seq.lost(pkt.SequenceNumber))
	if err != nil {
		f.c.p.m.broken.Inc()
		f.c.log.Debug("frame is malformed", "codec", codecName(t.forma), "err", err)
		if t.bad++; t.bad == maxMalformed {
			f.fail(publish.Refuse("bitstream", fmt.Sprintf("%d packets of %s in a row are malformed: %v", t.bad, codecName(t.forma), err)))
		}
		return
	}
	t.bad = 0
	if len(frames) == 0 {
		return
	}
	if err := t.read.configure(f.pub); err != nil {
		f.fail(err)
		return
	}
	now := time.Now()
	var captured int64
	// The camera's clock by its sender reports; one that was never set says 1970.
	if ntp, ok := f.cl.PacketNTP(t.media, pkt); ok && ntp.Year() >= 2020 && ntp.Year() < 2100 {
		captured = ntp.UnixMicro()
	}
	rate := int64(t.forma.ClockRate())
	first := frames[0].DTSUs + frames[0].CTSUs
	for i := range frames {
		fr := &frames[i]
		fr.ArrivedUs = now.UnixMicro()
		if captured != 0 {
			fr.CaptureUs = captured + us(fr.DTSUs+fr.CTSUs-first, rate)
		}
		// Readers count in units of the RTP clock.
		fr.CTSUs = us(fr.CTSUs, rate)
		fr.DTSUs = us(fr.DTSUs, rate)
		write := f.pub.WriteAudio
		if _, isVideo := t.read.(*videoReader); isVideo {
			write = f.pub.WriteVideo
		}
		if err := write(*fr); err != nil {
			f.fail(err)
			return
		}
	}
	if !f.begun.Swap(true) {
		f.c.log.Info("camera plays")
		f.c.lease.tell(func(s *schemas.PullState) { s.Playing, s.Error, s.Tries = true, "", 0 })
	}
}

// us converts units of an RTP clock into microseconds, without overflow.
func us(units, rate int64) int64 {
	return units/rate*1_000_000 + units%rate*1_000_000/rate
}

// sequence finds lost packets by their numbers (RFC 3550 section 5.1).
type sequence struct {
	next  uint16
	begun bool
}

// lost reports whether packets before this one are missing.
func (s *sequence) lost(n uint16) bool {
	missing := s.begun && n != s.next
	s.next, s.begun = n+1, true
	return missing
}
