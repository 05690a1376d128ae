package main

import (
	"flag"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
	"github.com/spillway-live/spillway/workers/router/policy"
)

type policyRegistry = registry.Registry[schemas.Policy]

// policyKind are the routing policies; what is stored is compiled first, so that
// nothing is that routers would refuse.
var policyKind = kind[schemas.Policy]{
	what: "policy", bucket: schemas.BucketPolicies, parse: policy.Value, becomes: policy.Becomes, key: nameKey("policy name"),
	heads: "NAME\tVERSION\tKIND\tRULES",
	row:   func(p *schemas.Policy) string { return fmt.Sprintf("%d\t%s\t%s", p.Version, p.Kind, policyText(p)) },
	rest: func(w io.Writer, have map[string]*schemas.Policy) {
		for _, name := range policy.Builtins() {
			if have[name] == nil {
				fmt.Fprintf(w, "%s\tbuilt in\t%s\t\n", name, policy.Builtin(name).Value().Kind)
			}
		}
	},
}

// policyCommand manages the routing policies.
func (c *commands) policyCommand() *ffcli.Command {
	var b base
	with := func(ctx ctx, f func(r *policyRegistry) error) error { return policyKind.with(ctx, &b, f) }
	return c.parent("policy", "how sessions are sent to CDNs",
		policyKind.list(c, &b, "policy list", "list the policies, built-in ones last"),
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
		policyKind.remove(c, &b, "policy remove", "NAME", "remove a policy; who names it gets the built-in one of that name, or affinity"),
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
	stored, err := r.Put(ctx, p.Name, p)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.stdout, "policy %s version %d decides from now on\n", stored.Name, stored.Version)
	return err
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
	history, err := r.History(ctx, name)
	if err != nil {
		return noEntry(ctx, r, "policy", name, err)
	}
	w := tabwriter.NewWriter(c.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "AT\tVERSION\tKIND\tRULES")
	for _, e := range history {
		what := ""
		switch {
		case e.Removed:
			what = "-\tremoved\t"
		case e.Err != nil:
			what = fmt.Sprintf("-\t-\t%v", e.Err)
		default:
			what = policyKind.row(e.Value)
		}
		fmt.Fprintf(w, "%s\t%s\n", e.At.UTC().Format(time.RFC3339), what)
	}
	return w.Flush()
}
