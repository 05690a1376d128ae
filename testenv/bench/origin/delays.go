package origin

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/nap"
)

// delays measures how long after their last frame parts are fetched by players
// that asked for them before they existed, of every stream and track.
func (b *run) delays(ctx context.Context, f *follower) (*Delays, error) {
	b.s.Logger.Info("measuring the delay of parts", "publishers", len(f.streams))
	tracks := []schemas.Track{schemas.Video, schemas.Audio}
	got := make([][]waited, len(f.streams)*len(tracks))
	rep := &Delays{Publishers: len(f.streams)}
	var err error
	rep.Usage, err = b.used(func() error {
		g, ctx := errgroup.WithContext(ctx)
		end := time.Now().Add(b.s.Window)
		for i := range f.streams {
			for j, track := range tracks {
				g.Go(func() (err error) {
					got[i*len(tracks)+j], err = b.fetch(ctx, f, i, track, end)
					return err
				})
			}
		}
		return g.Wait()
	})
	if err != nil {
		return nil, err
	}
	rep.count(f, got, tracks)
	if rep.VideoMs.Samples == 0 {
		return nil, fmt.Errorf("no part was waited for in %s", b.s.Window)
	}
	return rep, nil
}

// fetch asks for one part after the other of a track until end.
func (b *run) fetch(ctx context.Context, f *follower, i int, track schemas.Track, end time.Time) (got []waited, err error) {
	c, err := dial(ctx, b.addr)
	if err != nil {
		return nil, err
	}
	defer c.close()
	// The first request makes the origin read the stream: it is not counted.
	last, _ := f.newest(i, track)
	if _, err := c.get(f.path(i, last)); err != nil {
		return nil, err
	}
	_, id := f.newest(i, track)
	for time.Now().Before(end) {
		a, err := c.get(f.path(i, id))
		if err != nil {
			return nil, err
		}
		switch {
		case a.code == 200:
			got = append(got, waited{id, a.sent, a.came})
			if last, next := f.newest(i, track); last == id {
				id = next
			} else if _, ok := f.heard(i, id); ok {
				id = next // behind
			} else { // the announcement is still to come here
				id.part++
			}
		case a.code == 404: // its segment ended before it, or we are behind
			if err := nap.For(ctx, 2*time.Millisecond); err != nil {
				return nil, err
			}
			_, id = f.newest(i, track)
		default:
			return nil, fmt.Errorf("%s: HTTP status %d: %.100s", f.path(i, id), a.code, a.body)
		}
	}
	return got, nil
}

func (r *Delays) count(f *follower, got [][]waited, tracks []schemas.Track) {
	var video, audio, sent, gather, announced, origin []time.Duration
	for k, list := range got {
		i, track := k/len(tracks), tracks[k%len(tracks)]
		for _, w := range list {
			h, ok := f.heard(i, w.id)
			if !ok || h.done.Unix() == 0 {
				continue
			}
			switch {
			case w.sent.After(h.done):
				r.Late++
			case track == schemas.Audio:
				audio = append(audio, w.came.Sub(h.done))
			default:
				video = append(video, w.came.Sub(h.done))
				announced = append(announced, h.at.Sub(h.done))
				origin = append(origin, w.came.Sub(h.at))
				if at, ok := f.wasSent(i, h.frames); ok {
					sent = append(sent, w.came.Sub(at))
					gather = append(gather, h.done.Sub(at))
				}
			}
		}
	}
	r.VideoMs, r.AudioMs, r.SentMs = distribution(video), distribution(audio), distribution(sent)
	r.GatherMs, r.BusMs, r.OriginMs = distribution(gather), distribution(announced), distribution(origin)
}
