package origin

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/schemas"
)

// waited is one answer to a blocking reload.
type waited struct {
	id         partID
	sent, came time.Time
}

// reloads measures players that all wait for the next part of one playlist.
func (b *run) reloads(ctx context.Context, f *follower) (*Reloads, error) {
	b.s.Logger.Info("measuring what is used when nobody waits")
	idle, err := b.idle(ctx, f)
	if err != nil {
		return nil, err
	}
	players := make([]*client, b.s.Players)
	for i := range players {
		if players[i], err = dial(ctx, b.addr); err != nil {
			return nil, fmt.Errorf("player %d: %w", i, err)
		}
		defer players[i].close()
	}
	b.s.Logger.Info("measuring blocking reloads", "players", len(players))
	answers := make([][]waited, len(players))
	sizes := make([]int64, len(players))
	rep := &Reloads{Players: len(players)}
	rep.Usage, err = b.used(func() error {
		g, ctx := errgroup.WithContext(ctx)
		end := time.Now().Add(b.s.Window)
		for i, c := range players {
			g.Go(func() error {
				_, next := f.newest(0, schemas.Video)
				for time.Now().Before(end) && ctx.Err() == nil {
					id := next
					a, err := c.get(fmt.Sprintf("%splaylist.m3u8?_HLS_msn=%d&_HLS_part=%d&_HLS_skip=YES", f.folder(0, id.track), id.msn, id.part))
					if err != nil {
						return err
					}
					if a.code != 200 {
						return fmt.Errorf("reload of %d.%d: HTTP status %d: %.100s", id.msn, id.part, a.code, a.body)
					}
					if next, err = hinted(a.body, id.track); err != nil {
						return err
					}
					answers[i] = append(answers[i], waited{id, a.sent, a.came})
					sizes[i] += int64(a.size)
				}
				return nil
			})
		}
		return g.Wait()
	})
	if err != nil {
		return nil, err
	}
	rep.count(f, answers)
	if rep.Answers == 0 {
		return nil, fmt.Errorf("no answers in %s", b.s.Window)
	}
	for _, n := range sizes {
		rep.MeanBytes += float64(n) / float64(rep.Answers)
	}
	n := float64(rep.Answers)
	rep.CPUUs = rep.ServerCPUSeconds * 1e6 / n
	rep.LoadCPUUs = (rep.ServerCPUSeconds - idle*rep.WindowSeconds) * 1e6 / n
	return rep, nil
}

func (r *Reloads) count(f *follower, answers [][]waited) {
	existed := map[partID]time.Time{}
	for _, list := range answers {
		for _, w := range list {
			t, ok := existed[w.id]
			if h, announced := f.heard(0, w.id); !ok && announced {
				t, ok = h.at, true
			}
			if !ok || w.came.Before(t) {
				t = w.came
			}
			existed[w.id] = t
		}
	}
	var took []time.Duration
	for _, list := range answers {
		for _, w := range list {
			r.Answers++
			if w.sent.After(existed[w.id]) {
				r.Late++
				continue
			}
			took = append(took, w.came.Sub(existed[w.id]))
		}
	}
	r.AnswerMs = distribution(took)
}

// hinted is the part that a playlist announces as the next.
func hinted(playlist []byte, track schemas.Track) (partID, error) {
	i := bytes.LastIndex(playlist, []byte(`#EXT-X-PRELOAD-HINT:`))
	if i >= 0 {
		_, rest, _ := bytes.Cut(playlist[i:], []byte(`URI="`))
		name, _, _ := bytes.Cut(rest, []byte(`"`))
		epoch, msn, part, err := schemas.ParseMediaFileName(string(name))
		if err == nil && part >= 0 {
			return partID{track, epoch, msn, uint32(part)}, nil
		}
	}
	return partID{}, fmt.Errorf("the playlist announces no next part: %.200q", playlist)
}
