package router

import (
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// A version that cannot be read is looked for again after so long; meanwhile the
// newest one decides, and decisions say so.
const pinnedAgain = 5 * time.Second

// pinned are policies that were asked for as NAME@VERSION. The zero value is
// ready to use; it is safe for concurrent use.
type pinned struct {
	mu sync.Mutex
	by map[string]*pin
}

type pin struct {
	mu     sync.Mutex
	policy *policy.Policy // nil: not found
	looked time.Time
}

func (p *pinned) of(ref string) *pin {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.by == nil {
		p.by = map[string]*pin{}
	}
	x := p.by[ref]
	if x == nil {
		x = &pin{}
		p.by[ref] = x
	}
	return x
}

// named gives the policy that NAME or NAME@VERSION means.
func (p *policies) named(ref string) *policy.Policy {
	name, version, err := schemas.ParsePolicyRef(ref)
	if err != nil { // none was named
		return p.get(ref)
	}
	c := p.get(name)
	if version == 0 || c.Value().Name == name && c.Value().Version == version {
		return c
	}
	if newest, ok := p.table.Get(name); !ok || newest.Value().Version < version {
		return c // removed: what was stored before is not meant any more
	}
	if old := p.stored(ref, name, version); old != nil {
		return old
	}
	return c
}

// stored gives an earlier version, which is read from the bucket once.
func (p *policies) stored(ref, name string, version int) *policy.Policy {
	x := p.pinned.of(ref)
	x.mu.Lock() // sessions that begin meanwhile wait for the version they are to have
	defer x.mu.Unlock()
	if x.policy != nil || time.Since(x.looked) < pinnedAgain {
		return x.policy
	}
	p.mu.Lock()
	js := p.js
	p.mu.Unlock()
	if js == nil {
		return nil
	}
	history, err := readHistory(js, name, time.Second)
	x.policy, x.looked = versionIn(history, name, version), time.Now()
	if x.policy == nil {
		p.logger.Error("a stored version of a policy cannot be read: the newest decides instead", "policy", name, "version", version, "err", err)
	}
	return x.policy
}

// versionIn finds a version among what the bucket keeps; nil: it is not there, or cannot be understood.
func versionIn(history []jetstream.KeyValueEntry, name string, version int) *policy.Policy {
	for i := len(history) - 1; i >= 0 && history[i].Operation() == jetstream.KeyValuePut; i-- {
		if c, err := policy.Parse(name, history[i].Value()); err == nil && c.Value().Version == version {
			return c
		}
	}
	return nil
}

// drop forgets a stored version that fails; it says whether it was one.
func (p *policies) drop(ref string, c *policy.Policy) bool {
	x := p.pinned.of(ref)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.policy != c {
		return false
	}
	x.policy, x.looked = nil, time.Now().Add(time.Hour)
	return true
}
