package push

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bluenviron/gortmplib"
	"github.com/bluenviron/gortmplib/pkg/codecs"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"
	"github.com/nats-io/nats.go"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/cmaf"
)

// maxBehind is how late a frame may leave; a target that is slower misses what comes up to the next key frame.
const maxBehind = 4 * time.Second

// sender writes one connection's media.
type sender struct {
	j     *job
	conn  *targetConn
	w     *gortmplib.Writer
	epoch uint32
	next  uint64 // chunk expected
	open  bool   // decoding can go on at the target
	video *media
	audio *media
	begun bool
	zero  time.Duration // media time of the first frame sent
	start time.Time     // when it left
}

// media is one track.
type media struct {
	initID string
	init   *cmaf.Init
	track  *gortmplib.Track
}

// frame is one sample in the order of sending.
type frame struct {
	*media
	dts, pts time.Duration
	key      bool
	data     []byte
}

// send passes media on from the next key frame.
func (j *job) send(ctx context.Context, msgs <-chan *nats.Msg, conn *targetConn, t *schemas.PushTarget) error {
	s := &sender{j: j, conn: conn}
	defer func() {
		if s.begun {
			j.p.m.sending.WithLabelValues(j.target).Dec()
		}
	}()
	for len(msgs) > 0 { // from before the connection
		j.skip(<-msgs)
	}
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
			if now, ok := j.p.targets.Get(j.target); !ok || *now != *t {
				return errAnew // it was changed
			}
		case m := <-msgs:
			switch m.Header.Get(schemas.HeaderKind) {
			case schemas.KindEnd, schemas.KindEpoch:
				if s.begun {
					return errAnew
				}
			case schemas.KindChunk:
				c, err := schemas.DecodeChunk([]byte(m.Header.Get(schemas.HeaderChunk)), m.Data)
				if err != nil {
					s.open = false // as if it were missing
					continue
				}
				if err := s.chunk(ctx, c, m.Data, len(msgs)); err != nil {
					return err
				}
			}
		}
	}
}

// chunk sends one chunk, or counts its frames as dropped; behind it wait others.
func (s *sender) chunk(ctx context.Context, c *schemas.Chunk, data []byte, behind int) error {
	s.j.came(c)
	if c.Encryption != nil {
		return errors.New("the stream is encrypted: it is not published in the clear elsewhere")
	}
	if s.begun && c.Epoch != s.epoch {
		return errAnew
	}
	if s.begun && c.Seq != s.next {
		s.open = false // the queue was full, or the bus lost one
	}
	s.epoch, s.next = c.Epoch, c.Seq+1
	if !s.open {
		if !startsHere(c) {
			s.j.drop(frames(c))
			return nil
		}
		if err := s.begin(ctx, c); err != nil {
			return err
		}
		if !s.open { // the next key frame may do
			s.j.drop(frames(c))
			return nil
		}
	}
	list, err := s.frames(c, data)
	if err != nil {
		return err
	}
	return s.write(ctx, c, list, behind)
}

// startsHere: the chunk begins with a key frame, or has no pictures in a stream without.
func startsHere(c *schemas.Chunk) bool {
	for i := range c.Fragments {
		if f := &c.Fragments[i]; f.Track == schemas.Video {
			return f.Independent
		}
	}
	return c.Fragments[0].Independent && c.Fragments[0].SegmentStart
}

// begin opens the media at the target when it is the first, and after a gap; not
// before the stream's state, which follows within a second, has the chunk's tracks.
func (s *sender) begin(ctx context.Context, c *schemas.Chunk) error {
	if s.open = s.begun; s.begun {
		return nil
	}
	st, ok := s.j.p.streams.Get(s.j.key.KVKey())
	if !ok || !knows(&st.Epoch, c) {
		return nil
	}
	var tracks []*gortmplib.Track
	for _, t := range st.Epoch.Tracks {
		id := t.InitID
		for i := range c.Fragments { // newer than the state, where parameter sets have changed
			if c.Fragments[i].Track == t.Track {
				id = c.Fragments[i].InitID
			}
		}
		m, err := s.j.track(ctx, id)
		if err != nil {
			return err
		}
		if t.Track == schemas.Video {
			s.video = m
		} else {
			s.audio = m
		}
		tracks = append(tracks, m.track)
	}
	s.w = &gortmplib.Writer{Conn: s.conn, Tracks: tracks}
	if err := s.w.Initialize(); err != nil {
		return fmt.Errorf("announce the tracks: %w", err)
	}
	s.begun, s.open = true, true
	s.j.p.m.sending.WithLabelValues(s.j.target).Inc()
	s.j.phase(schemas.PushSending, "")
	s.j.log.Info("push flows")
	return nil
}

// knows reports whether the epoch is the chunk's and has its tracks.
func knows(e *schemas.EpochOpen, c *schemas.Chunk) bool {
	if e.Epoch != c.Epoch {
		return false
	}
	for i := range c.Fragments {
		if !slices.ContainsFunc(e.Tracks, func(t schemas.TrackInfo) bool { return t.Track == c.Fragments[i].Track }) {
			return false
		}
	}
	return true
}

// track reads what an init segment says of its track.
func (j *job) track(ctx context.Context, id string) (*media, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	e, err := j.p.inits.Get(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("read init segment: %w", err)
	}
	i, err := cmaf.ParseInit(e.Value())
	if err != nil {
		return nil, err
	}
	m := &media{initID: id, init: i}
	switch {
	case i.AVC() && len(i.Params) >= 2:
		m.track = &gortmplib.Track{Codec: &codecs.H264{SPS: i.Params[0], PPS: i.Params[1]}}
	case i.HEVC() && len(i.Params) >= 3:
		m.track = &gortmplib.Track{Codec: &codecs.H265{VPS: i.Params[0], SPS: i.Params[1], PPS: i.Params[2]}}
	case i.AAC():
		var asc mpeg4audio.AudioSpecificConfig
		if err := asc.Unmarshal(i.ASC); err != nil {
			return nil, fmt.Errorf("read the audio's configuration: %w", err)
		}
		m.track = &gortmplib.Track{Codec: &codecs.MPEG4Audio{Config: &asc}}
	default:
		return nil, fmt.Errorf("%s cannot be pushed by RTMP here: H.264, H.265 and AAC can", i.Codec)
	}
	return m, nil
}

// frames are the chunk's samples of both tracks in the order of decoding.
func (s *sender) frames(c *schemas.Chunk, data []byte) ([]frame, error) {
	var out []frame
	for i := range c.Fragments {
		f := &c.Fragments[i]
		m := s.video
		if f.Track == schemas.Audio {
			m = s.audio
		}
		if m == nil || m.initID != f.InitID {
			return nil, errAnew // other parameter sets: the target is told them with a connection
		}
		samples, err := cmaf.Samples(nil, data[f.Offset:f.Offset+f.Size])
		if err != nil {
			return nil, err
		}
		for k := range samples {
			x := &samples[k]
			out = append(out, frame{m, duration(int64(x.DTS), f.Timescale), duration(x.PTS(), f.Timescale), x.Sync, x.Data})
		}
	}
	slices.SortStableFunc(out, func(a, b frame) int { return int(a.dts - b.dts) })
	return out, nil
}

// duration converts media time without losing bits for long streams.
func duration(t int64, timescale uint32) time.Duration {
	ts := int64(max(timescale, 1))
	return time.Duration(t/ts)*time.Second + time.Duration(t%ts)*time.Second/time.Duration(ts)
}

// write sends frames at their pace.
func (s *sender) write(ctx context.Context, c *schemas.Chunk, list []frame, behind int) error {
	if s.start.IsZero() {
		if s.zero = list[0].dts; s.video != nil {
			for _, f := range slices.Backward(list) { // sound before the first picture is left out
				if f.media == s.video {
					s.zero = f.dts
				}
			}
		}
		s.start = time.Now()
	}
	// The publisher's clock is not ours: where nothing waits it is the stream that is
	// late, not the target, and where much waits it runs ahead.
	if late := time.Since(s.start.Add(list[0].dts - s.zero)); late > 0 && behind == 0 || late < 0 && behind > 2 {
		s.start = s.start.Add(late)
	}
	for i := range list {
		f := &list[i]
		if f.dts < s.zero {
			continue
		}
		due := s.start.Add(f.dts - s.zero)
		late := time.Since(due)
		if late > maxBehind {
			s.j.drop(frames(c) * (len(list) - i) / len(list))
			s.open = false
			s.start = s.start.Add(late) // what follows is on time again
			return nil
		}
		if late < 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(min(-late, time.Second)):
			}
		}
		if err := s.frame(f); err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	return nil
}

func (s *sender) frame(f *frame) error {
	dts, pts := f.dts-s.zero, f.pts-s.zero
	var err error
	switch f.track.Codec.(type) {
	case *codecs.MPEG4Audio:
		err = s.w.WriteMPEG4Audio(f.track, pts, f.data)
	default:
		var au h264.AVCC // H.265 has the same lengths before its units
		if err := au.Unmarshal(f.data); err != nil {
			return err
		}
		_, hevc := f.track.Codec.(*codecs.H265)
		if p := f.init.Params; f.key && (len(p) > 3 || len(p) > 2 && !hevc) {
			au = append(slices.Clone(p), au...) // the announcement has room for one of each
		}
		if hevc {
			err = s.w.WriteH265(f.track, pts, dts, au)
		} else {
			err = s.w.WriteH264(f.track, pts, dts, au)
		}
	}
	if err != nil {
		return err
	}
	s.j.add(func(st *schemas.PushState) { st.Bytes += int64(len(f.data)) })
	s.j.p.m.bytes.WithLabelValues(s.j.target).Add(float64(len(f.data)))
	return nil
}
