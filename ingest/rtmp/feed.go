package rtmp

import (
	"errors"
	"fmt"

	"github.com/spillway-live/spillway/ingest/cut"
	"github.com/spillway-live/spillway/ingest/publish"
)

// maxMalformed is how many malformed frames in a row end a publication.
const maxMalformed = 30

// feed carries one connection's messages to its publication.
type feed struct {
	n         *conn
	pub       *publish.Publication
	demux     demux
	announced bool // the metadata has been passed on
	malformed int  // frames in a row
}

// run reads until the publication ends, and gives why.
func (f *feed) run() error {
	for {
		m, now, err := f.n.next()
		if err != nil {
			if err := readError(err); errors.As(err, new(*publish.Refused)) {
				return err
			}
			return f.n.endReason(err)
		}
		t, err := f.demux.take(m, now)
		if err != nil {
			if err := f.bad(err); err != nil {
				return err
			}
			continue
		}
		if t.end {
			return publish.ErrEnded
		}
		if t.video {
			f.malformed = 0
		}
		if err := f.give(&t); err != nil {
			return err
		}
	}
}

// bad decides on a message that could not be taken: nil means that the stream may go on.
func (f *feed) bad(err error) error {
	if errors.Is(err, cut.ErrBitstream) {
		if f.malformed++; f.malformed > maxMalformed {
			return publish.Refuse("bitstream", fmt.Sprintf("%d video frames in a row are malformed: %v", f.malformed, err))
		}
		return nil
	}
	if errors.As(err, new(*publish.Refused)) {
		return err
	}
	return publish.Refuse("protocol", fmt.Sprintf("protocol error: %.200s", err))
}

// give passes on what one message held.
func (f *feed) give(t *taken) error {
	d := &f.demux
	if d.meta.come && !f.announced {
		f.announced = true
		f.pub.Expect(d.meta.wantVideo, d.meta.wantAudio)
		f.pub.Encoder(d.meta.encoder)
		t.config = true // the frame rate belongs to the configuration
	}
	if t.config {
		if err := f.configure(); err != nil {
			return err
		}
	}
	switch {
	case t.video:
		return f.pub.WriteVideo(t.frame)
	case t.audio:
		return f.pub.WriteAudio(t.frame)
	}
	return nil
}

func (f *feed) configure() error {
	d := &f.demux
	if d.video.cfg != nil {
		c := *d.video.cfg
		c.FPS = d.meta.fps
		if err := f.pub.Video(&c); err != nil {
			return err
		}
	}
	if d.audio.cfg != nil {
		return f.pub.Audio(d.audio.cfg)
	}
	return nil
}
