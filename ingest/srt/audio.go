package srt

import (
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"

	"github.com/spillway-live/spillway/ingest/cut"
	"github.com/spillway-live/spillway/ingest/mpegts"
	"github.com/spillway-live/spillway/ingest/publish"
)

// audio makes frames of units.
type audio struct {
	stream *mpegts.Stream
	adts   mpegts.ADTS
	told   *cut.AudioConfig // what the publication knows
	begun  bool
	nextUs int64 // of the frame after the last one
	bad    int   // units in a row without a frame
}

func newAudio(s *mpegts.Stream) *audio { return &audio{stream: s} }

// sound is one frame with its duration.
type sound struct {
	data []byte
	us   int64
	cfg  cut.AudioConfig
}

func (f *feed) takeAudio(u *mpegts.Unit) error {
	a := f.audio
	sounds, early := a.read(u)
	if len(sounds) == 0 {
		if a.bad++; a.bad > maxMalformed {
			return publish.Refuse("bitstream", a.stream.Name+": no frame in 30 units in a row")
		}
		return nil
	}
	a.bad = 0
	if u.HasTime {
		a.nextUs, a.begun = f.clock.Next(true, u.PTS)-early, true
	}
	if !a.begun {
		return nil
	}
	f.units++
	for _, s := range sounds {
		if a.told == nil || !a.told.Equal(&s.cfg) {
			if err := f.pub.Audio(&s.cfg); err != nil {
				return err
			}
			told := s.cfg.Clone()
			a.told = &told
		}
		at := a.nextUs
		a.nextUs += s.us
		if err := f.pub.WriteAudio(cut.Frame{DTSUs: at, Data: s.data, ArrivedUs: f.arrived.UnixMicro()}); err != nil {
			return err
		}
	}
	return nil
}

// read gives the frames of a unit. early is how much before the unit's timestamp the
// first one begins, microseconds.
func (a *audio) read(u *mpegts.Unit) (sounds []sound, early int64) {
	if a.stream.Codec == cut.Opus {
		packets, _ := mpegts.OpusPackets(u.Data) // those before a damaged one are good
		for _, p := range packets {
			if n := cut.OpusDuration(p); n > 0 {
				sounds = append(sounds, sound{p, us(int64(n), 48000), cut.AudioConfig{Codec: cut.Opus, OpusChannels: a.stream.OpusChannels}})
			}
		}
		return sounds, 0
	}
	if u.Lost {
		a.adts.Reset()
	}
	frames, carried := a.adts.Next(u.Data)
	for _, fr := range frames {
		sounds = append(sounds, sound{fr.Data, us(int64(fr.Samples()), int64(fr.Rate)), cut.AudioConfig{Codec: cut.AAC,
			AAC: &mpeg4audio.AudioSpecificConfig{Type: fr.Type, SampleRate: fr.Rate, ChannelConfig: fr.Channels}}})
	}
	if carried {
		early = sounds[0].us
	}
	return sounds, early
}
