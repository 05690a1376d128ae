package router

import (
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/workers/router/policy"
)

const (
	// A version that cannot be read is looked for again after so long; meanwhile the
	// newest one decides, and decisions say so.
	pinnedAgain = 5 * time.Second
	// The first sessions that ask for a version wait for it, for they belong to an arm
	// that is to have it; a bus that is away holds up none after that time.
	pinnedWait = time.Second
	pinnedRead = 2 * time.Second
)

// pinned are policies that were asked for as NAME@VERSION. The zero value is
// ready to use; it is safe for concurrent use.
type pinned struct {
	mu sync.Mutex
	by map[string]*pin
}

// pin is one of them, guarded by pinned.mu.
type pin struct {
	policy *policy.Policy // nil: not found, or it fails
	newest *policy.Policy // of the bucket, when it was read; versions begin again when a policy is removed and made anew
	next   time.Time      // not looked for before
	wait   time.Time      // until when sessions wait for it
	done   chan struct{}  // closed when the reading under way has ended; nil: none is
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
	newest, ok := p.table.Get(name)
	if !ok || newest.Value().Version < version {
		return c // removed: what was stored before is not meant any more
	}
	if old := p.stored(ref, name, version, newest); old != nil {
		return old
	}
	return c
}

// stored gives an earlier version, which is read from the bucket once, and again whenever
// the policy has changed.
func (p *policies) stored(ref, name string, version int, newest *policy.Policy) *policy.Policy {
	x, wait := p.look(ref, name, version, newest)
	if wait != nil {
		limit := time.NewTimer(time.Until(x.wait))
		defer limit.Stop()
		select {
		case <-wait:
		case <-limit.C:
		}
	}
	p.pinned.mu.Lock()
	defer p.pinned.mu.Unlock()
	return x.policy
}

// look gives the pin of a version, begins to read it where it is not known under the
// newest version, and then says what to wait for.
func (p *policies) look(ref, name string, version int, newest *policy.Policy) (*pin, <-chan struct{}) {
	p.mu.Lock()
	js := p.js
	p.mu.Unlock()
	p.pinned.mu.Lock()
	defer p.pinned.mu.Unlock()
	if p.pinned.by == nil {
		p.pinned.by = map[string]*pin{}
	}
	x := p.pinned.by[ref]
	if x == nil {
		x = &pin{wait: time.Now().Add(pinnedWait)}
		p.pinned.by[ref] = x
	}
	if x.newest != newest {
		if x.newest != nil && newest.Value().Version <= x.newest.Value().Version {
			x.policy = nil // made anew: the version of that number is another one
		}
		x.newest, x.next = newest, time.Time{}
	}
	if js != nil && x.done == nil && !time.Now().Before(x.next) {
		x.done = make(chan struct{})
		go p.read(js, x, name, version, newest)
	}
	if x.policy != nil || time.Now().After(x.wait) {
		return x, nil
	}
	return x, x.done
}

// read looks for a version among what the bucket keeps.
func (p *policies) read(js jetstream.JetStream, x *pin, name string, version int, newest *policy.Policy) {
	history, err := readHistory(js, name, pinnedRead)
	c := versionIn(history, name, version)
	if c == nil {
		p.logger.Error("a stored version of a policy cannot be read: the newest decides instead", "policy", name, "version", version, "err", err)
	}
	p.pinned.mu.Lock()
	defer p.pinned.mu.Unlock()
	close(x.done)
	x.done = nil
	switch {
	case x.newest != newest: // changed meanwhile: the next session has it read again
	case c != nil:
		x.policy, x.next = c, time.Now().Add(100*365*24*time.Hour)
	default:
		if err == nil {
			x.policy = nil
		}
		x.next = time.Now().Add(pinnedAgain)
	}
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

// drop forgets a stored version that fails; it says whether it was one. It is looked for
// again when the policy changes.
func (p *policies) drop(ref string, c *policy.Policy) bool {
	p.pinned.mu.Lock()
	defer p.pinned.mu.Unlock()
	x := p.pinned.by[ref]
	if x == nil || x.policy != c {
		return false
	}
	x.policy, x.next = nil, time.Now().Add(time.Hour)
	return true
}
