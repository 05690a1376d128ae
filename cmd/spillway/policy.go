package main

import (
	"flag"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
	"github.com/spillway-live/spillway/workers/router/policy"
)

type policyRegistry = registry.Registry[schemas.Policy]

// policyCommand manages the routing policies.
func (c *commands) policyCommand() *ffcli.Command {
	var b base
	with := func(ctx ctx, f func(r *policyRegistry) error) error {
		return withRegistry(ctx, &b, schemas.BucketPolicies, policyValue, f)
	}
	return c.parent("policy", "how sessions are sent to CDNs",
		c.command("policy list", "", "list the policies, built-in ones last", 0, b.register, func(ctx ctx, _ []string) error {
			return with(ctx, func(r *policyRegistry) error { return c.listPolicies(ctx, r) })
		}),
		c.command("policy show", "NAME", "print a policy as JSON", 1, b.register, func(ctx ctx, a []string) error {
			return with(ctx, func(r *policyRegistry) error {
				p, err := r.Get(ctx, a[0])
				if builtin := policy.Builtin(a[0]); err != nil && builtin != nil {
					v := builtin.Value()
					p, err = &v, nil
				}
				if err != nil {
					return noEntry(ctx, r, "policy", a[0], err)
				}
				return c.printJSON(p)
			})
		}),
		c.command("policy set", "FILE", "make a policy or its next version from a JSON file (- is standard input)", 1, b.register, func(ctx ctx, a []string) error {
			p, err := c.readPolicy(a[0])
			if err != nil {
				return err
			}
			return with(ctx, func(r *policyRegistry) error { return c.setPolicy(ctx, r, p) })
		}),
		c.command("policy check", "FILE", "say whether a policy would be accepted; needs no bus", 1, func(*flag.FlagSet) {}, func(_ ctx, a []string) error {
			p, err := c.readPolicy(a[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.stdout, "policy %s is fine\n", p.Name)
			return err
		}),
		c.command("policy history", "NAME", "list the versions of a policy", 1, b.register, func(ctx ctx, a []string) error {
			return with(ctx, func(r *policyRegistry) error { return c.policyHistory(ctx, r, a[0]) })
		}),
		c.command("policy remove", "NAME", "remove a policy; who names it gets the built-in one of that name, or affinity", 1, b.register, func(ctx ctx, a []string) error {
			return with(ctx, func(r *policyRegistry) error {
				if err := r.Remove(ctx, a[0]); err != nil {
					return noEntry(ctx, r, "policy", a[0], err)
				}
				return nil
			})
		}),
		c.command("policy variables", "", "list what expressions may use", 0, func(*flag.FlagSet) {}, func(ctx, []string) error {
			w := tabwriter.NewWriter(c.stdout, 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tTYPE\tMEANING")
			for _, v := range policy.Variables() {
				fmt.Fprintf(w, "%s\t%s\t%s\n", v.Name, v.Type, v.Meaning)
			}
			return w.Flush()
		}),
	)
}

// policyValue reads an entry of the bucket policies and compiles it, so that
// nothing is stored that routers would refuse.
func policyValue(key string, data []byte) (*schemas.Policy, error) {
	p, err := policy.Parse(key, data)
	if err != nil {
		return nil, err
	}
	v := p.Value()
	return &v, nil
}

// readPolicy reads a policy from a file; its version is the registry's to give.
func (c *commands) readPolicy(file string) (*schemas.Policy, error) {
	data, err := c.readFile("policy", file)
	if err != nil {
		return nil, err
	}
	var p schemas.Policy
	if err := schemas.UnmarshalStrict(data, &p); err != nil {
		return nil, fmt.Errorf("policy in %s: %w", file, err)
	}
	if _, err := policy.Compile(p); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return &p, nil
}

func (c *commands) setPolicy(ctx ctx, r *policyRegistry, p *schemas.Policy) error {
	stored, err := r.Edit(ctx, p.Name, func(v *schemas.Policy, _ bool) error {
		version := v.Version
		*v = *p
		v.Version = version + 1
		return nil
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.stdout, "policy %s version %d decides from now on\n", stored.Name, stored.Version)
	return err
}

func (c *commands) listPolicies(ctx ctx, r *policyRegistry) error {
	l, err := r.List(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tVERSION\tKIND\tRULES")
	own := map[string]bool{}
	for _, e := range l {
		own[e.Key] = true
		if e.Err != nil {
			fmt.Fprintf(w, "%s\t-\t-\t%v\n", e.Key, e.Err)
			continue
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", e.Value.Name, e.Value.Version, e.Value.Kind, policyText(e.Value))
	}
	for _, name := range policy.Builtins() {
		if !own[name] {
			fmt.Fprintf(w, "%s\tbuilt in\t%s\t\n", name, name)
		}
	}
	return w.Flush()
}

// policyText says in a line what a policy's values are.
func policyText(p *schemas.Policy) string {
	var out []string
	if p.Score != "" {
		out = append(out, "score: "+strings.Join(strings.Fields(p.Score), " "))
	}
	if p.Eligible != "" {
		out = append(out, "eligible: "+strings.Join(strings.Fields(p.Eligible), " "))
	}
	if len(p.Weights) > 0 {
		out = append(out, fmt.Sprintf("weights: %v", p.Weights))
	}
	if len(p.Regions) > 0 {
		out = append(out, fmt.Sprintf("regions: %v", p.Regions))
	}
	if p.Explore > 0 {
		out = append(out, fmt.Sprintf("explore: %g", p.Explore))
	}
	return strings.Join(out, "; ")
}

func (c *commands) policyHistory(ctx ctx, r *policyRegistry, name string) error {
	history, err := r.KV.History(ctx, name)
	if err != nil {
		return noEntry(ctx, r, "policy", name, registry.ErrNone)
	}
	w := tabwriter.NewWriter(c.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "AT\tVERSION\tKIND\tRULES")
	for _, e := range history {
		at := e.Created().UTC().Format(time.RFC3339)
		if e.Operation() != jetstream.KeyValuePut {
			fmt.Fprintf(w, "%s\t-\tremoved\t\n", at)
			continue
		}
		var p schemas.Policy
		if err := schemas.UnmarshalStrict(e.Value(), &p); err != nil {
			fmt.Fprintf(w, "%s\t-\t-\t%v\n", at, err)
			continue
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", at, p.Version, p.Kind, policyText(&p))
	}
	return w.Flush()
}
