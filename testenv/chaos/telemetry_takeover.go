package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/nap"
)

// takeoverLimit is how long a takeover is followed.
const takeoverLimit = time.Minute

// handover is what the leases of sessionisers and loaders say, and who does the work of each.
type handover struct {
	nc *nats.Conn

	mu     sync.Mutex
	holder map[string]held      // by <role>.<partition or lane>
	worked map[string]time.Time // by the same: the last slices of a partition, the last block of a lane
	taken  map[string][]Taken   // by role
	bus    time.Time            // when the bus was last seen to be away
	wg     sync.WaitGroup
}

type held struct {
	by string
	at time.Time // when that became so
}

// Taken is one takeover: milliseconds from the kill until the last of what the dead process held has another holder,
// and until each has done something: slices on the bus, a block recorded in the ledger.
type Taken struct {
	Held     int   `json:"held"` // partitions or lanes
	HolderMs int64 `json:"holder_ms"`
	WorkMs   int64 `json:"work_ms"`
}

// follow listens until ctx ends.
func (h *handover) follow(ctx context.Context, js jetstream.JetStream) error {
	h.nc, h.holder, h.worked, h.taken = js.Conn(), map[string]held{}, map[string]time.Time{}, map[string][]Taken{}
	kv, err := js.KeyValue(ctx, schemas.BucketLedger)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", schemas.BucketLedger, err)
	}
	w, err := kv.WatchAll(ctx)
	if err != nil {
		return fmt.Errorf("watch bucket %s: %w", schemas.BucketLedger, err)
	}
	go func() {
		for e := range w.Updates() {
			if e != nil {
				h.learn(e.Key(), string(e.Value()))
			}
		}
	}()
	_, err = h.nc.Subscribe("slices.*", func(m *nats.Msg) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.worked[Sessioniser+strings.TrimPrefix(m.Subject, "slices")] = time.Now()
	})
	return err
}

func (h *handover) learn(key, value string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	name, lease := strings.CutPrefix(key, "lease.")
	switch {
	case !lease:
		h.worked[Loader+"."+key] = time.Now()
	case !strings.Contains(name, ".member.") && h.holder[name].by != value:
		h.holder[name] = held{value, time.Now()}
	}
}

// killed is called right after a process of the role was: it finds out which holder does not answer any more, and
// follows what that one held until others have it.
func (h *handover) killed(ctx context.Context, role string, at time.Time) {
	h.mu.Lock()
	names := map[string][]string{} // by holder
	for name, x := range h.holder {
		if strings.HasPrefix(name, role+".") && x.by != "" {
			names[x.by] = append(names[x.by], name)
		}
	}
	h.mu.Unlock()
	h.wg.Go(func() {
		for id, held := range names {
			if _, err := h.nc.Request("leasealive."+role+"."+id, nil, time.Second); errors.Is(err, nats.ErrNoResponders) {
				h.watch(ctx, role, id, held, at)
			}
		}
	})
}

// busAway notes that the bus is, or was until now, away or full: a takeover then tells of it and not of the processes.
func (h *handover) busAway() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bus = time.Now()
}

func (h *handover) watch(ctx context.Context, role, dead string, names []string, killed time.Time) {
	moved, worked := map[string]time.Time{}, map[string]time.Time{} // the first of each: what is shared out anew later does not count
	for deadline := killed.Add(takeoverLimit); time.Now().Before(deadline); {
		h.look(names, dead, moved, worked)
		if len(moved) == len(names) && len(worked) == len(names) {
			t := Taken{Held: len(names)}
			for _, name := range names {
				t.HolderMs, t.WorkMs = max(t.HolderMs, moved[name].Sub(killed).Milliseconds()), max(t.WorkMs, worked[name].Sub(killed).Milliseconds())
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			if h.bus.Before(killed.Add(-2 * time.Second)) { // connections are back some time after the bus
				h.taken[role] = append(h.taken[role], t)
			}
			return
		}
		if nap.For(ctx, 5*time.Millisecond) != nil {
			return
		}
	}
}

// look notes when each first had another holder, and had done something after that, where there must be something to do.
func (h *handover) look(names []string, dead string, moved, worked map[string]time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, name := range names {
		x := h.holder[name]
		if moved[name].IsZero() && x.by != dead && x.by != "" {
			moved[name] = x.at
		}
		at := moved[name]
		if at.IsZero() || !worked[name].IsZero() {
			continue
		}
		if strings.Contains(name, "decisions.") || strings.Contains(name, "exposures.") || strings.Contains(name, "events.") {
			worked[name] = at // nobody may have anything to say
		} else if h.worked[name].After(at) {
			worked[name] = h.worked[name]
		}
	}
}

// Takeovers sums up those of a role that the bus did not disturb. Milliseconds.
type Takeovers struct {
	Count     int   `json:"count"`
	HolderP50 int64 `json:"holder_p50_ms"`
	HolderMax int64 `json:"holder_max_ms"`
	WorkP50   int64 `json:"work_p50_ms"`
	WorkMax   int64 `json:"work_max_ms"`
}

func (h *handover) sums() map[string]Takeovers {
	h.wg.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	out := map[string]Takeovers{}
	for role, all := range h.taken {
		var holder, work []int64
		for _, t := range all {
			holder, work = append(holder, t.HolderMs), append(work, t.WorkMs)
		}
		slices.Sort(holder)
		slices.Sort(work)
		out[role] = Takeovers{
			Count: len(all), HolderP50: holder[len(all)/2], HolderMax: holder[len(all)-1], WorkP50: work[len(all)/2], WorkMax: work[len(all)-1],
		}
	}
	return out
}
