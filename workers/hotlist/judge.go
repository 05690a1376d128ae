package hotlist

import (
	"slices"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/screenshot/look"
)

// settle is how long nothing may be wrong before a stream comes back.
const settle = 5 * time.Second

// freshFor is how long a stream counts as live without a word of ingest.
const freshFor = 15 * time.Second

// Inputs are what is known of a stream; only Stream is always there.
type Inputs struct {
	Stream    *schemas.StreamState
	Picture   *schemas.Picture
	Publisher *schemas.PublisherState
	Review    *schemas.ReviewState
	Settings  *schemas.PictureSettings
	// NoVideoMs is for how long ingest has received no video of a stream that has some.
	NoVideoMs int64
}

// live reports whether the stream is published now.
func (in *Inputs) live(now time.Time) bool {
	return in.Stream.Live && now.Sub(time.UnixMicro(in.Stream.UpdatedUnixUs)) < freshFor
}

// Reasons says why the stream is not worth showing at now; none: it is. What is
// known of an earlier publication says nothing about this one.
func (in *Inputs) Reasons(now time.Time) []string {
	var why []string
	if p := in.Publisher; p != nil && p.Background && p.LastUnixMs*1000 >= in.Stream.Epoch.OpenedUnixUs {
		why = append(why, schemas.HotBackground)
	}
	var s schemas.PictureSettings
	if in.Settings != nil {
		s = *in.Settings
	}
	stopped := longEnough(in.NoVideoMs, s.FrozenMs)
	if stopped {
		why = append(why, schemas.HotFrozen)
	}
	if p := in.Picture; in.tells(p, &s, now) {
		switch {
		case look.IsBlack(p.Black):
			// One black picture may be a cut; a black one is always a still one.
			if longEnough(p.BlackMs, s.BlackMs) {
				why = append(why, schemas.HotBlack)
			}
		case !stopped && longEnough(p.StillMs, s.FrozenMs):
			why = append(why, schemas.HotFrozen)
		}
	}
	if in.Review.Hidden(now) {
		why = append(why, schemas.HotHidden)
	}
	return why
}

// A last picture says nothing any more once those after it have not come: maxGap
// times the time between two, and at least pictureAge.
const (
	maxGap     = 4
	pictureAge = 30 * time.Second
)

// tells reports whether a picture says how this publication looks now. The last one
// is kept by the bus when pictures are switched off, or nobody makes them any more.
func (in *Inputs) tells(p *schemas.Picture, s *schemas.PictureSettings, now time.Time) bool {
	if p == nil || s.Off || p.Epoch != in.Stream.Epoch.Epoch {
		return false
	}
	apart := time.Duration(max(s.IntervalMs, in.Stream.Stats.KeyframeMs)) * time.Millisecond
	return now.Sub(time.UnixMicro(p.WallUnixUs)) <= max(maxGap*apart, pictureAge)
}

// longEnough: 0 ms is the first such picture, and not yet a run of them.
func longEnough(ms, limit int64) bool { return limit >= 0 && ms > 0 && ms >= limit }

// Judge gives the next state of a stream, from the one before (nil: it is on the
// list), or nil where nothing changes. Told is false where there is something to tell.
func Judge(prev *schemas.HotState, in Inputs, now time.Time) *schemas.HotState {
	k := in.Stream.Key()
	next := schemas.HotState{App: k.App, Stream: k.Stream, Told: true, SinceUs: now.UnixMicro(), Epoch: in.Stream.Epoch.Epoch}
	if prev != nil {
		next = *prev
		next.Reasons, next.Epoch = slices.Clone(prev.Reasons), in.Stream.Epoch.Epoch
	}
	if !in.live(now) {
		return nil // nobody can choose it; what it was stands for when it comes back
	}
	why := in.Reasons(now)
	switch {
	case len(why) > 0 && !next.Off:
		next.Off, next.Reasons, next.SinceUs, next.GoodUs, next.Told = true, why, now.UnixMicro(), 0, false
	case len(why) > 0:
		next.Reasons, next.GoodUs = why, 0
	case next.Off && next.GoodUs == 0:
		next.GoodUs = now.UnixMicro()
	case next.Off && now.Sub(time.UnixMicro(next.GoodUs)) >= settle:
		next.Off, next.Reasons, next.SinceUs, next.GoodUs, next.Told = false, nil, now.UnixMicro(), 0, false
	}
	if prev == nil && !next.Off || prev != nil && same(prev, &next) {
		return nil
	}
	return &next
}

func same(a, b *schemas.HotState) bool {
	return a.Off == b.Off && a.GoodUs == b.GoodUs && a.SinceUs == b.SinceUs && a.Epoch == b.Epoch && a.Told == b.Told && slices.Equal(a.Reasons, b.Reasons)
}
