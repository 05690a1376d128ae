package router

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/mirror"
	"github.com/spillway-live/spillway/workers/router/policy"
)

// policies are the built-in ones and those of the bucket, which may replace them
// by name. A version that fails at run time is set aside for the one before it:
// at once where this router has seen that, else once it has been read back.
type policies struct {
	table  *mirror.Table[*policy.Policy]
	logger *slog.Logger
	m      *metrics
	// fell has a value when a policy was set aside, or what stands in has changed.
	fell chan struct{}

	mu    sync.Mutex
	aside map[string]*aside           // by name
	seen  map[string][]*policy.Policy // by name: the last versions of the bucket, the newest last
	js    jetstream.JetStream
	over  <-chan struct{} // closed when the router stops

	pinned pinned
}

// aside is a policy that failed: not its version, which begins again when a
// policy is removed and made anew.
type aside struct {
	failed  *policy.Policy
	instead *policy.Policy // nil while it is looked for, and where there is none
	why     error          // what went wrong last
}

// keepVersions is how many versions of a policy are kept compiled.
const keepVersions = 4

func newPolicies(logger *slog.Logger, m *metrics) *policies {
	p := &policies{logger: logger, m: m, aside: map[string]*aside{}, seen: map[string][]*policy.Policy{}, fell: make(chan struct{}, 1)}
	p.table = mirror.New(schemas.BucketPolicies, policy.Parse, logger)
	mirror.Derive(p.table, func(all iter.Seq2[string, *policy.Policy]) struct{} { p.remember(maps.Collect(all)); return struct{}{} })
	return p
}

// remember keeps the versions that the bucket has had, for when a later one fails.
func (p *policies) remember(now map[string]*policy.Policy) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, c := range now {
		had := p.seen[name]
		if n := len(had); n > 0 {
			switch last := had[n-1]; {
			case last == c:
				continue
			case last.Value().Version > c.Value().Version: // removed and made anew
				had = nil
			case last.Value().Version == c.Value().Version: // read again
				had = had[:n-1]
			}
		}
		had = append(had[max(0, len(had)+1-keepVersions):], c)
		p.seen[name] = had
	}
	for name := range p.seen {
		if now[name] == nil {
			delete(p.seen, name) // what was before is not meant any more
		}
	}
}

// before gives the newest version seen that is older than a number; nil: none.
func (p *policies) before(name string, version int) *policy.Policy {
	had := p.seen[name]
	for i := len(had) - 1; i >= 0; i-- {
		if had[i].Value().Version < version {
			return had[i]
		}
	}
	return nil
}

// run follows the bucket; loaded is called once it has been read.
func (p *policies) run(ctx context.Context, js jetstream.JetStream, loaded func()) error {
	p.mu.Lock()
	p.js, p.over = js, ctx.Done()
	p.mu.Unlock()
	go func() {
		select {
		case <-p.table.Ready():
			loaded()
		case <-ctx.Done():
		}
	}()
	return p.table.Run(ctx, js)
}

// get gives the policy of a name: that of the bucket, the built-in one, and
// where there is none, affinity.
func (p *policies) get(name string) *policy.Policy {
	if c, ok := p.table.Get(name); ok {
		failed, instead := p.standIn(name, c)
		if !failed {
			return c
		}
		if instead != nil {
			return instead
		}
	}
	if c := policy.Builtin(name); c != nil {
		return c
	}
	return policy.Builtin(policy.Affinity)
}

// standIn says whether a policy has been set aside, and what stands in; nil: what is built in.
func (p *policies) standIn(name string, c *policy.Policy) (failed bool, instead *policy.Policy) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.aside[name]
	if a == nil || a.failed != c {
		return false, nil
	}
	return true, a.instead
}

// decide applies the policy that NAME or NAME@VERSION means; one that fails is set aside.
func (p *policies) decide(ref string, in *policy.Input) (policy.Answer, error) {
	for {
		c := p.named(ref)
		a, err := c.Decide(in)
		var failed *policy.RunError
		if !errors.As(err, &failed) {
			return a, err
		}
		name, _, _ := strings.Cut(ref, "@")
		if strings.Contains(ref, "@") && p.drop(ref, c) {
			p.m.policyFailures.WithLabelValues(name).Inc()
			p.logger.Error("a stored version of a policy fails: the newest decides instead", "policy", ref, "err", failed)
			continue
		}
		p.setAside(name, c, failed)
	}
}

// setAside replaces a version that failed by the version before it; where this
// router has not seen that, by what is built in until it has been read.
func (p *policies) setAside(name string, c *policy.Policy, failed error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	version := c.Value().Version
	a := p.aside[name]
	newest, _ := p.table.Get(name)
	switch {
	case a != nil && a.instead == c: // one that stands in fails, too
	case newest == c && (a == nil || a.failed != c):
		a = &aside{failed: c}
		p.aside[name] = a
	default:
		return // another request has seen to it
	}
	a.instead, a.why = p.before(name, version), failed
	p.m.policyFailures.WithLabelValues(name).Inc()
	p.logger.Error("policy fails: set aside for the version before it", "policy", name, "version", version, "err", failed)
	switch {
	case a.instead != nil:
		p.standsIn(name, a)
	case p.js != nil:
		go p.lookBack(p.js, name, a, version)
	}
	p.wake()
}

func (p *policies) standsIn(name string, a *aside) {
	p.logger.Warn("an earlier version of the policy decides", "policy", name, "version", a.instead.Value().Version, "set_aside", a.failed.Value().Version)
}

// wake has the alert about what is set aside brought up to date.
func (p *policies) wake() {
	select {
	case p.fell <- struct{}{}:
	default:
	}
}

func readHistory(js jetstream.JetStream, name string, limit time.Duration) ([]jetstream.KeyValueEntry, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	kv, err := js.KeyValue(ctx, schemas.BucketPolicies)
	if err != nil {
		return nil, err
	}
	return kv.History(ctx, name)
}

// lookBack finds the newest version older than the one that failed that compiles.
func (p *policies) lookBack(js jetstream.JetStream, name string, a *aside, before int) {
	const limit = 5 * time.Second
	history, err := readHistory(js, name, limit)
	for told := false; err != nil; history, err = readHistory(js, name, limit) {
		if !told {
			told = true
			p.logger.Warn("earlier versions of the policy cannot be read: the built-in policy holds until they can", "policy", name, "err", err)
		}
		select {
		case <-p.over:
			return
		case <-time.After(2 * time.Second):
		}
	}
	for i := len(history) - 1; i >= 0; i-- {
		if history[i].Operation() != jetstream.KeyValuePut {
			break // removed since: what was before is not meant any more
		}
		c, err := policy.Parse(name, history[i].Value())
		if err != nil || c.Value().Version >= before {
			continue
		}
		p.mu.Lock()
		a.instead = c
		p.standsIn(name, a)
		p.mu.Unlock()
		p.wake()
		return
	}
	p.logger.Warn("the policy has no earlier version: the built-in policy holds", "policy", name)
}
