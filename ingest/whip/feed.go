package whip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bluenviron/gortsplib/v5/pkg/format/rtph264"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"github.com/spillway-live/spillway/ingest/cut"
	"github.com/spillway-live/spillway/ingest/publish"
)

const (
	// keyEvery is the longest time without a key frame before one is asked for; askEvery
	// how often that is repeated.
	keyEvery, askEvery = 1900 * time.Millisecond, 500 * time.Millisecond
	maxMalformed       = 100 // packets or frames in a row
	maxHeldBytes       = 8 << 20
)

// track is one RTP stream.
type track struct {
	ssrc    uint32
	clock   *trackClock
	order   reorder
	capture uint8 // number of the header extension abs-capture-time; 0: none
	video   *video
	told    bool // audio: the publication knows the configuration
	bad     int  // malformed in a row
}

// held is a frame that waits until the tracks' clocks are known.
type held struct {
	t     *track
	frame cut.Frame // times are in the track's own clock
	rtp   uint32    // timestamp
	cfg   *cut.VideoConfig
}

// feed carries a session's frames to its publication. Its methods may be called
// from several goroutines.
type feed struct {
	ss        *session
	has       offered
	videoSSRC atomic.Uint32

	mu           sync.Mutex
	vid, aud     *track
	keyAt, askAt time.Time
	settled      bool
	since        time.Time // of the first packet
	wait         []held
	waitBytes    int
}

func newFeed(ss *session, has offered) *feed { return &feed{ss: ss, has: has} }

// add takes the first track of each kind; nil: another is taken.
func (f *feed) add(remote *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) *track {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := &track{ssrc: uint32(remote.SSRC()), clock: newTrackClock(int64(remote.Codec().ClockRate))}
	for _, e := range receiver.GetParameters().HeaderExtensions {
		if e.URI == absCaptureTime {
			t.capture = uint8(e.ID)
		}
	}
	mime := remote.Codec().MimeType
	switch {
	case strings.EqualFold(mime, webrtc.MimeTypeH264) && f.vid == nil:
		t.video = newVideo()
		f.vid = t
		f.videoSSRC.Store(t.ssrc)
	case strings.EqualFold(mime, webrtc.MimeTypeOpus) && f.aud == nil:
		f.aud = t
	default:
		return nil
	}
	return t
}

// wantsKey tells whether to ask for a key frame now.
func (f *feed) wantsKey(now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.vid == nil || now.Sub(f.askAt) < askEvery {
		return false
	}
	if !f.vid.video.keyNeeded && now.Sub(f.keyAt) < keyEvery {
		return false
	}
	f.askAt = now
	return true
}

// packet takes an RTP packet.
func (f *feed) packet(t *track, pkt *rtp.Packet, now time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.since.IsZero() {
		f.since = now
	}
	return f.take(t, t.order.put(pkt, now))
}

// tick gives up on what was waited for too long.
func (f *feed) tick(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range []*track{f.vid, f.aud} {
		if t == nil {
			continue
		}
		if err := f.take(t, t.order.expire(now)); err != nil {
			f.ss.stop(err)
		}
	}
	if !f.since.IsZero() {
		if err := f.settle(now); err != nil {
			f.ss.stop(err)
		}
	}
}

// drain publishes what is held at an orderly end.
func (f *feed) drain() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range []*track{f.vid, f.aud} {
		if t != nil && f.take(t, t.order.flush()) != nil {
			return
		}
	}
}

// take makes frames of packets in order. mu is held.
func (f *feed) take(t *track, packets []ordered) error {
	for _, o := range packets {
		if len(o.pkt.Payload) == 0 { // padding
			if o.missing > 0 && t.video != nil {
				t.video.keyNeeded = true
			}
			continue
		}
		f.ss.s.metrics.lost.Add(float64(o.missing))
		h := held{t: t, rtp: o.pkt.Timestamp}
		ok, err := true, error(nil)
		if t.video != nil {
			ok, err = t.video.packet(o, &h)
		} else if cut.OpusDuration(o.pkt.Payload) == 0 {
			ok, err = false, errors.New("opus packet without content")
		} else {
			h.frame.Data = o.pkt.Payload
		}
		if err != nil {
			f.ss.s.metrics.skipped.Inc()
			if t.bad++; t.bad > maxMalformed {
				return publish.Refuse("bitstream", fmt.Sprintf("%d packets in a row are malformed: %v", t.bad, err))
			}
			continue
		}
		if !ok {
			continue
		}
		t.bad = 0
		h.frame.ArrivedUs = o.arrived.UnixMicro()
		f.time(t, o.pkt, &h.frame)
		if h.frame.Key {
			f.keyAt = o.arrived
		}
		if err := f.hold(h, o.arrived); err != nil {
			return err
		}
	}
	return nil
}

// time sets a frame's times: DTSUs in the track's own clock until it is placed.
func (f *feed) time(t *track, pkt *rtp.Packet, fr *cut.Frame) {
	fr.DTSUs = t.clock.unwrap.Next(t.video == nil, uint64(pkt.Timestamp))
	fr.CaptureUs = t.clock.wall(pkt.Timestamp)
	if t.capture != 0 {
		if at, ok := captureTime(pkt.GetExtension(t.capture)); ok {
			fr.CaptureUs = at
		}
	}
}

// hold keeps frames until the clocks are settled. mu is held.
func (f *feed) hold(h held, now time.Time) error {
	if f.settled {
		return f.write(h)
	}
	f.wait = append(f.wait, h)
	f.waitBytes += len(h.frame.Data)
	return f.settle(now)
}

// settle places the tracks on one clock: by their sender reports, or by arrival where
// those do not come. mu is held.
func (f *feed) settle(now time.Time) error {
	if f.settled {
		return nil
	}
	all := (!f.has.video || f.vid != nil) && (!f.has.audio || f.aud != nil)
	for _, t := range []*track{f.vid, f.aud} {
		if t != nil {
			t.clock.mu.Lock()
			all = all && t.clock.reported
			t.clock.mu.Unlock()
		}
	}
	both := f.has.video && f.has.audio
	if both && !all && now.Sub(f.since) < settleFor && f.waitBytes < maxHeldBytes {
		return nil
	}
	f.settled = true
	list := f.wait
	f.wait = nil
	if both && all && len(list) > 0 {
		// The publisher's clock tells how the tracks lie to each other, ours where they begin.
		first := &list[0]
		f.align(list, first.frame.ArrivedUs-first.t.clock.wall(first.rtp))
	}
	for _, h := range list {
		if err := f.write(h); err != nil {
			return err
		}
	}
	return nil
}

// align places tracks by their sender reports; ahead is our clock minus the publisher's.
func (f *feed) align(list []held, ahead int64) {
	for i := range list {
		if c := list[i].t.clock; !c.placed {
			c.placed, c.offsetUs = true, c.wall(list[i].rtp)+ahead-list[i].frame.DTSUs
		}
	}
}

// write publishes a frame. mu is held: frames of one session go one by one.
func (f *feed) write(h held) error {
	t, fr := h.t, &h.frame
	if !t.clock.placed {
		t.clock.placed, t.clock.offsetUs = true, fr.ArrivedUs-fr.DTSUs
	}
	pts := fr.DTSUs + t.clock.offsetUs - f.zero()
	if t.video == nil {
		if !t.told {
			if err := f.ss.pub.Audio(&cut.AudioConfig{Codec: cut.Opus, OpusChannels: 2}); err != nil {
				return err
			}
			t.told = true
		}
		fr.DTSUs = pts
		return f.ss.pub.WriteAudio(*fr)
	}
	v := t.video
	if h.cfg != nil && !v.told.Equal(h.cfg) {
		if err := f.ss.pub.Video(h.cfg); err != nil {
			return err
		}
		v.told = h.cfg.Clone()
	}
	dts, err := v.dts.Next(&v.told, &cut.AccessUnit{Data: fr.Data, Key: fr.Key, Picture: true}, pts)
	if err != nil {
		return nil // before the first key frame
	}
	fr.DTSUs, fr.CTSUs = dts, pts-dts
	return f.ss.pub.WriteVideo(*fr)
}

// zero keeps media times small.
func (f *feed) zero() int64 { return f.since.UnixMicro() - 10_000_000 }

// video makes access units of H.264 packets.
type video struct {
	d         rtph264.Decoder
	marks     cut.MarkReader
	cfg, told cut.VideoConfig
	dts       *cut.DecodeTimes
	keyNeeded bool
}

func newVideo() *video {
	v := &video{keyNeeded: true, cfg: cut.VideoConfig{Codec: cut.H264}, told: cut.VideoConfig{Codec: cut.H264}, dts: cut.NewDecodeTimes(cut.H264)}
	v.reset()
	return v
}

func (v *video) reset() {
	v.d = rtph264.Decoder{PacketizationMode: 1}
	_ = v.d.Init() // of a mode that it knows
}

// packet takes a packet. ok: h is a frame that can be decoded.
func (v *video) packet(o ordered, h *held) (ok bool, err error) {
	if o.missing > 0 {
		v.keyNeeded = true
		v.reset()
	}
	units, err := v.d.Decode(o.pkt)
	switch {
	case errors.Is(err, rtph264.ErrMorePacketsNeeded), errors.Is(err, rtph264.ErrNonStartingPacketAndNoPrevious):
		return false, nil
	case err != nil:
		v.keyNeeded = true
		return false, err
	}
	var data []byte
	for _, u := range units {
		data = append(binary.BigEndian.AppendUint32(data, uint32(len(u))), u...)
	}
	au, err := v.marks.ParseVideo(cut.H264, data, 4)
	if err != nil {
		v.keyNeeded = true
		return false, err
	}
	if (au.Key || !v.cfg.Complete()) && v.cfg.Update(&au) {
		v.marks.Configure(&v.cfg)
	}
	if !au.Picture || v.keyNeeded && (!au.Key || !v.cfg.Complete()) {
		return false, nil
	}
	v.keyNeeded = false
	if au.Key {
		c := v.cfg.Clone()
		h.cfg = &c
	}
	h.frame.Key, h.frame.Data = au.Key, au.Data
	return true, nil
}
