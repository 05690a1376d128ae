package origin

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/spillway-live/spillway/schemas"
)

// memoryParts are asked for in turn: at most five seconds of a stream.
const memoryParts = 25

// parts measures requests for parts that are in memory.
func (b *run) parts(ctx context.Context, f *follower) (*Parts, error) {
	b.s.Logger.Info("measuring what is used when nobody asks")
	idle, err := b.idle(ctx, f)
	if err != nil {
		return nil, err
	}
	b.s.Logger.Info("measuring parts from memory", "connections", b.s.Connections)
	rep := &Parts{Connections: b.s.Connections}
	var requests, size atomic.Int64
	rep.Usage, err = b.used(func() error {
		g, ctx := errgroup.WithContext(ctx)
		end := time.Now().Add(b.s.Window)
		for range b.s.Connections {
			g.Go(func() error {
				c, err := dial(ctx, b.addr)
				if err != nil {
					return err
				}
				defer c.close()
				for time.Now().Before(end) {
					for _, id := range f.latest(0, schemas.Video, memoryParts) {
						a, err := c.get(f.path(0, id))
						if err != nil {
							return err
						}
						if a.code != 200 {
							return fmt.Errorf("%s: HTTP status %d: %.100s", f.path(0, id), a.code, a.body)
						}
						requests.Add(1)
						size.Add(int64(a.size))
					}
				}
				return nil
			})
		}
		return g.Wait()
	})
	if err != nil {
		return nil, err
	}
	rep.Requests = requests.Load()
	n := float64(rep.Requests)
	rep.MeanBytes, rep.PerSecond = float64(size.Load())/n, n/rep.WindowSeconds
	rep.CPUUs = rep.ServerCPUSeconds * 1e6 / n
	rep.LoadCPUUs = (rep.ServerCPUSeconds - idle*rep.WindowSeconds) * 1e6 / n
	rep.CPUSecondsPer1000, rep.PerCore = rep.CPUUs/1000, 1e6/rep.CPUUs
	return rep, nil
}
