package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/spillway-live/spillway/schemas/nap"
)

// telemetryRoles in the order in which a small run kills them.
var telemetryRoles = []string{Collector, Bus, Sessioniser, Loader, ClickHouse}

// faultEvery: so many kills lie between two faults that last a while.
const faultEvery = 5

// telemetryPlan is what the seed says: in each five steps every role is killed once, in random order.
func telemetryPlan(s *TelemetrySettings) []step {
	roles := telemetryRoles
	if s.TakeoverOnly {
		roles = []string{Sessioniser, Loader}
	}
	return planOf(rand.New(rand.NewPCG(s.Seed, 0x7e1e_3e71)), roles, s.Kills, s.Between, 2*time.Second)
}

// killAll carries the plan out, faults beside it, and waits until all runs again.
func (r *telemetryRun) killAll(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	steps := telemetryPlan(&r.s)
	failed := make(chan error, len(steps)+1)
	rnd := rand.New(rand.NewPCG(r.s.Seed, 0xfa17))
	faults, busy := r.faultKinds(), make(chan struct{}, 1)
	for i, st := range steps {
		if nap.For(ctx, st.pause) != nil {
			return ctx.Err()
		}
		for _, p := range r.stack.places("") {
			if err := p.ended(); err != nil {
				return err
			}
		}
		p, err := r.ready(ctx, st)
		if err != nil {
			return err
		}
		at, err := p.kill()
		if err != nil {
			return err
		}
		if st.role == Sessioniser || st.role == Loader {
			r.hand.killed(ctx, st.role, at)
		}
		if st.role == Bus {
			r.hand.busAway()
		}
		r.kills[st.role]++
		r.log.Info("killed", "n", i+1, "of", len(steps), "process", p.label(), "down", st.down.Round(time.Millisecond), "accepted_events", r.crowd.accepted.Load())
		if q, ok := p.(*process); ok {
			q.shiftClock(st.role, rnd)
		}
		wg.Go(func() {
			if nap.For(ctx, st.down) == nil {
				if err := p.start(ctx); err != nil && ctx.Err() == nil {
					failed <- err
				}
				if st.role == Bus {
					r.hand.busAway()
				}
			}
		})
		if i%faultEvery == faultEvery/2 && !r.s.TakeoverOnly {
			f := faults[i/faultEvery%len(faults)]
			length := 4*time.Second + time.Duration(rnd.Int64N(int64(6*time.Second)))
			select {
			case busy <- struct{}{}:
				r.faults[f.name]++
				r.log.Info("fault begins", "fault", f.name, "length", length.Round(time.Millisecond))
				wg.Go(func() {
					defer func() { <-busy }()
					if err := f.run(ctx, length); err != nil && ctx.Err() == nil {
						failed <- fmt.Errorf("%s: %w", f.name, err)
					}
					r.log.Info("fault is over", "fault", f.name)
				})
			default: // the one before is not over
			}
		}
		select {
		case err := <-failed:
			return err
		default:
		}
	}
	wg.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return ctx.Err()
	}
}

// ready waits for a place of the step's role that runs.
func (r *telemetryRun) ready(ctx context.Context, st step) (place, error) {
	for deadline := time.Now().Add(2 * startWait); ; {
		var up []place
		for _, p := range r.stack.places(st.role) {
			if p.runs() {
				up = append(up, p)
			}
		}
		if len(up) > 0 {
			return up[st.pick%uint64(len(up))], nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("no %s ran within %s", st.role, 2*startWait)
		}
		if nap.For(ctx, 50*time.Millisecond) != nil {
			return nil, ctx.Err()
		}
	}
}

// shiftClock lets a process's clock be another from its next start on.
func (p *process) shiftClock(role string, rnd *rand.Rand) {
	if role != Collector {
		return // the others use their clock for pauses only, and the bus's is the one that counts
	}
	if p.plain == nil {
		p.plain = p.args
	}
	seconds := []int{0, 0, 90, -90, 3600, -3600}[rnd.IntN(6)]
	p.args = append(append([]string{}, p.plain...), "--clock-offset", strconv.Itoa(seconds)+"s")
}
