package rtmp

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/bluenviron/gortmplib/pkg/rawmessage"

	"github.com/spillway-live/spillway/ingest/cut"
	"github.com/spillway-live/spillway/ingest/cut/cutcheck"
	"github.com/spillway-live/spillway/ingest/publish"
	"github.com/spillway-live/spillway/schemas"
)

func TestTarget(t *testing.T) {
	for _, tc := range []struct{ tcURL, name, want string }{
		{"rtmp://h:1935/live", "demo", "live/demo key= cdn="},
		{"rtmp://h/live", "demo?key=k.s&cdn=b", "live/demo key=k.s cdn=b"},
		{"rtmp://h/live?key=k.s&cdn=b", "demo", "live/demo key=k.s cdn=b"},
		{"rtmp://h/live?key=k.s", "demo?cdn=b", "live/demo key=k.s cdn=b"},
		{"rtmp://h/live/", "demo", "live/demo key= cdn="},
		{"rtmp://h/live/demo", "", "live/demo key= cdn="},
		{"rtmp://h/live/demo", "?cdn=c", "live/demo key= cdn=c"},
	} {
		got, err := parseTarget(tc.tcURL, tc.name)
		if err != nil {
			t.Errorf("%s + %s: %v", tc.tcURL, tc.name, err)
			continue
		}
		if s := got.key.String() + " key=" + got.pub + " cdn=" + got.cdn; s != tc.want {
			t.Errorf("%s + %s: %s, want %s", tc.tcURL, tc.name, s, tc.want)
		}
	}
	for _, bad := range [][2]string{
		{"rtmp://h/live", ""}, {"rtmp://h/", "demo"}, {"rtmp://h/a/b", "demo"}, {"rtmp://h/live", "a b"}, {"rtmp://h/live", "..%2f"},
		{"rtmp://h/live", "demo?cdn=a/b"}, {"rtmp://h/live", strings.Repeat("x", 65)}, {"::", "demo"}, {"rtmp://h/live", "demo?key=%zz"},
	} {
		if got, err := parseTarget(bad[0], bad[1]); err == nil {
			t.Errorf("%s + %s was taken as %+v", bad[0], bad[1], got)
		}
	}
}

// FuzzMessages gives arbitrary messages to the demultiplexer and what comes out of it to a cutter.
func FuzzMessages(f *testing.F) {
	config, _ := hex.DecodeString("17000000000142c01effe1001b6742c01eda0280bfe5c05a808080a0000003002000000781e2c5d401000468ce0fc8")
	add := func(msgs ...[]byte) {
		var b []byte
		for _, m := range msgs {
			b = append(b, m[0], 40, byte(len(m)-1))
			b = append(b, m[1:]...)
		}
		f.Add(b)
	}
	key := []byte{9, 0x17, 1, 0, 0, 0, 0, 0, 0, 4, 0x65, 1, 2, 3}
	add(append([]byte{9}, config...), []byte{8, 0xaf, 0, 0x11, 0x90}, key, key, []byte{8, 0xaf, 1, 1}, key)
	add([]byte{18, 2, 0, 10, 'o', 'n', 'M', 'e', 't', 'a', 'D', 'a', 't', 'a', 3, 0, 0, 9}, []byte{9, 0x90, 'h', 'v', 'c', '1'}, []byte{20, 2, 0, 1, 'x'})
	opus := append([]byte{8, 0x90}, "OpusOpusHead\x01\x02\x38\x01\x80\xbb\x00\x00\x00\x00\x00"...)
	add(opus, []byte{8, 0x91, 'O', 'p', 'u', 's', 0xfc, 1}, []byte{8, 0x95, 0x01, 'O', 'p', 'u', 's', 0, 0xfc, 1}, []byte{8, 0x97, 2, 0, 0, 9, 1, 'O', 'p', 'u', 's', 0xfc, 1})
	add([]byte{9, 0x90, 'a', 'v', '0', '1', 0x81, 0, 12, 0}, []byte{9, 0x93, 'a', 'v', '0', '1', 0x12, 0, 0x0a, 11, 0, 0, 0, 0x42, 0xab, 0xbf, 0xc3, 0x70, 0x0b, 0xe0, 1, 0x32, 2, 0x10, 1})
	add([]byte{9, 0x96, 0x20, 'h', 'v', 'c', '1', 0, 0, 0, 1, 1, 'a', 'v', '0', '1', 1, 0, 0, 1, 2}, []byte{9, 0x97, 2, 0, 0, 9, 0x51, 0, 7, 3, 'a', 'v', 'c', '1', 1}, []byte{9, 0x94, 2, 0, 1, 'c'})
	add([]byte{18, 2, 0, 4, 'o', 'n', 'F', 'I', 3, 0, 2, 's', 'd', 2, 0, 10, '2', '1', '-', '1', '1', '-', '2', '0', '2', '6', 0, 2, 's', 't', 2, 0, 8, '1', '2', ':', '0', '0', ':', '0', '0', 0, 0, 9})
	f.Fuzz(func(t *testing.T, data []byte) {
		var d demux
		var c *cut.Cutter
		var check cutcheck.Checker
		ts, now := uint32(1<<32-1000), time.Unix(1_700_000_000, 0)
		for len(data) >= 3 {
			typ, step, n := data[0], data[1], min(int(data[2]), len(data)-3)
			m := &rawmessage.Message{Type: typ, Timestamp: time.Duration(ts) * time.Millisecond, Body: append([]byte(nil), data[3:3+n]...)}
			data = data[3+n:]
			ts += uint32(step)
			now = now.Add(time.Duration(step) * time.Millisecond)
			got, err := d.take(m, now)
			if err != nil || got.end {
				if err != nil && !errors.Is(err, cut.ErrBitstream) && !errors.As(err, new(*publish.Refused)) && typ != typeCommandAMF0 && typ != typeCommandAMF3 {
					t.Errorf("message of type %d: error %v of no kind", typ, err)
				}
				continue
			}
			if got.config {
				if c != nil {
					c.Finish()
				}
				c, check = nil, cutcheck.Checker{}
			}
			if c == nil && (d.video.cfg != nil || d.audio.cfg != nil) {
				video, audio, err := tracks(&d)
				if err != nil {
					return
				}
				if c, err = cut.New(cut.Settings{App: "a", Stream: "b", Rendition: "src", Epoch: 1, Video: video, Audio: audio,
					Emit: func(ch *schemas.Chunk, data []byte) {
						if err := check.Chunk(ch, data); err != nil {
							t.Error(err)
						}
					}}); err != nil {
					t.Fatal(err)
				}
			}
			switch {
			case c == nil:
			case got.video && d.video.cfg != nil:
				err = c.Video(got.frame)
			case got.audio && d.audio.cfg != nil:
				err = c.Audio(got.frame)
			}
			var jump *cut.JumpError
			if err != nil && !errors.As(err, &jump) {
				t.Error(err)
			}
		}
		if c != nil {
			c.Finish()
		}
	})
}

// tracks makes tracks of the configurations.
func tracks(d *demux) (video, audio *cut.Track, err error) {
	if d.video.cfg != nil {
		c := *d.video.cfg
		c.FPS = d.meta.fps
		if video, err = cut.NewVideoTrack(&c, schemas.DefaultPartTargetUs); err != nil {
			return nil, nil, err
		}
	}
	if d.audio.cfg != nil {
		audio, err = cut.NewAudioTrack(d.audio.cfg, schemas.DefaultPartTargetUs)
	}
	return video, audio, err
}
