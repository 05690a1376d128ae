package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/spillway-live/spillway/schemas/nap"
)

// kill is one process killed.
type kill struct {
	process *process
	role    string
	at      time.Time
	streams []string // an ingest's, whose publishers lost their connection
}

// step of the plan.
type step struct {
	role  string
	pause time.Duration // before it
	down  time.Duration // until the process is started again
	pick  uint64        // which process
}

// plan is what a seed says: in each four steps every role is killed once, in random order.
func plan(s *Settings) []step {
	roles := []string{Ingest, Packager, Origin, Transcoder}
	return planOf(rand.New(rand.NewPCG(s.Seed, 0x5911_1afe)), roles, s.Kills, s.Between, 3*time.Second)
}

// planOf kills every role once in each round, in random order; a process is down for 200 ms and up to down more.
func planOf(rnd *rand.Rand, roles []string, kills int, between, down time.Duration) []step {
	roles = slices.Clone(roles)
	var out []step
	for i := range kills {
		if i%len(roles) == 0 {
			rnd.Shuffle(len(roles), func(i, j int) { roles[i], roles[j] = roles[j], roles[i] })
		}
		least := between / 4
		out = append(out, step{
			role:  roles[i%len(roles)],
			pause: least + time.Duration(rnd.Int64N(int64(between-least)+1)),
			down:  200*time.Millisecond + time.Duration(rnd.Int64N(int64(down))),
			pick:  rnd.Uint64(),
		})
	}
	return out
}

// killAll carries the plan out and waits until all runs again.
func (r *run) killAll(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	failed := make(chan error, r.s.Kills)
	for i, st := range plan(&r.s) {
		if nap.For(ctx, st.pause) != nil {
			return ctx.Err()
		}
		if err := r.died(); err != nil {
			return err
		}
		var p *process
		if err := r.await(ctx, "a survivor of role "+st.role, func() string {
			if p = r.victim(st); p == nil {
				return "none"
			}
			return ""
		}); err != nil {
			return err
		}
		k := &kill{process: p, role: st.role}
		if st.role == Ingest {
			k.streams = r.at(p.addr)
		}
		var err error
		if k.at, err = p.kill(); err != nil {
			return err
		}
		r.mu.Lock()
		r.kills = append(r.kills, k)
		r.mu.Unlock()
		r.log.Info("killed", "n", i+1, "process", p.name, "down", st.down.Round(time.Millisecond), "streams", len(k.streams))
		wg.Go(func() {
			if nap.For(ctx, st.down) == nil {
				if err := p.start(ctx); err != nil {
					failed <- err
				}
			}
		})
		select {
		case err := <-failed:
			return err
		default:
		}
	}
	wg.Wait()
	_ = nap.For(ctx, settle)
	select {
	case err := <-failed:
		return err
	default:
	}
	return r.died()
}

// victim chooses a process of the step's role, nil while killing one would leave no survivor. Of ingests, one
// that has publishers.
func (r *run) victim(st step) *process {
	var ready, busy []*process
	for _, p := range r.stack.of(st.role) {
		if p.runs() {
			ready = append(ready, p)
			if st.role == Ingest && len(r.at(p.addr)) > 0 {
				busy = append(busy, p)
			}
		}
	}
	// Without a packager origins make the parts themselves; every other role needs one that is left.
	if len(ready) == 0 || len(ready) == 1 && st.role != Packager {
		return nil
	}
	if st.role == Ingest {
		if len(busy) == 0 {
			return nil // the publishers are on their way
		}
		ready = busy
	}
	return ready[st.pick%uint64(len(ready))]
}

// died finds processes that ended without being killed.
func (r *run) died() error {
	for _, p := range r.stack.each() {
		if p.died() {
			return fmt.Errorf("%s ended by itself: %w", p.name, p.proc.Err())
		}
	}
	return nil
}
