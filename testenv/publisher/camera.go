package publisher

import (
	"context"
	"io"
	"sync/atomic"
	"time"

	"github.com/spillway-live/spillway/testenv/testcard"
)

// audioLead is how far the tone is generated ahead of the picture. ffmpeg's muxer holds a picture back until it
// has sound of the same time, and the AAC encoder gives sound out two to three packets (of 21.3 ms) late; sound
// that is already there costs the picture no delay. Its timestamps are right, so nothing is out of step.
const audioLead = 85 * time.Millisecond

// camera draws the test card at an exact pace, like a camera with a microphone.
type camera struct {
	card *testcard.Card
	fps  float64
	mute bool
	// frames and dropped are counted over all runs.
	frames, dropped *atomic.Int64
}

// run writes frames to w until ctx ends or a write fails. Frame i belongs to the time i/fps after the start and
// carries it as its timestamp; the picture shows the wall clock of the moment it was drawn. When w is slow, the
// frames that are over by then are skipped, never sent late in a row.
func (c *camera) run(ctx context.Context, w io.Writer) error {
	rate := sampleRate
	if c.mute {
		rate = 0
	}
	mkv, err := newMKV(w, c.card.Width(), c.card.Height(), c.at(1), rate)
	if err != nil {
		return err
	}
	var picture []byte
	start := time.Now()
	sound := newTone(start)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for slot := int64(0); ; slot++ {
		timer.Reset(time.Until(start.Add(c.at(slot))))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		now := time.Now()
		for now.Sub(start) >= c.at(slot+1) {
			slot++
			c.dropped.Add(1)
		}
		picture = c.card.Render(picture, now)
		var audioAt time.Duration
		var samples []byte
		if !c.mute {
			audioAt, samples = sound.until(c.at(slot) + audioLead)
		}
		if err := mkv.write(c.at(slot), picture, audioAt, samples); err != nil {
			return err
		}
		c.frames.Add(1)
	}
}

// at is the time of a frame after the start.
func (c *camera) at(slot int64) time.Duration {
	return time.Duration(float64(slot) * float64(time.Second) / c.fps)
}
