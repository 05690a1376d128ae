package origin

import (
	"context"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/renditions"
)

// watchedFor is how long after its last request a stream counts as watched:
// players that are not low-latency ask every few seconds.
const watchedFor = 10 * time.Second

// sayWatched tells those who work for watched streams only what is watched here.
func (o *Origin) sayWatched(now time.Time) {
	for _, f := range o.watched() {
		if f.users.Load() == 0 && now.Sub(time.Unix(0, f.lastUse.Load())) > watchedFor {
			continue
		}
		f.say()
	}
}

// followRenditions reads what is made besides the publishers' own renditions.
func (o *Origin) followRenditions(ctx context.Context) error {
	o.made = renditions.New(o.Logger)
	o.fetches.Go(func() { _ = o.made.Run(o.work, o.JetStream) }) // it ends without an error
	select {
	case <-o.made.Ready():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// retiredLook is how often a held request looks whether its rendition is still made.
const retiredLook = 250 * time.Millisecond

// retired reports whether t's rendition is made no more although its stream is
// live. Its playlist is then answered 404, at once also where a request is held:
// hls.js and other players change to another level on that, whereas an unchanged
// playlist would let them wait and EXT-X-ENDLIST would end playback.
func (o *Origin) retired(ctx context.Context, t target) bool {
	if t.rendition == schemas.SourceRendition {
		return false
	}
	now := time.Now()
	s, ok, err := o.lately(t.key)
	if !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Second)
		defer cancel()
		s, err = o.state(ctx, t.key)
	}
	return err == nil && alive(s, now) && o.made.Retired(t.key, t.rendition, now)
}
