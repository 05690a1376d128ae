package main

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"text/tabwriter"

	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
)

// kind is one kind of entries that operators write: what the commands of all
// kinds have in common. The console's /v1/settings writes the same entries by
// the same checks.
type kind[T any] struct {
	what   string // for people: source
	bucket string
	parse  func(key string, value []byte) (*T, error)
	// becomes is that of the registry.
	becomes func(old, next *T) error
	// key reads an argument.
	key func(arg string) (string, error)
	// heads and row are the list: columns separated by tabs. row leaves out what is not to be seen.
	heads string
	row   func(v *T) string
	// hide takes out of a copy what is not printed; nil: nothing.
	hide func(*T)
	// rest adds lines to the list; nil: none.
	rest func(w io.Writer, have map[string]*T)
}

// with runs f on the registry of the bus.
func (k *kind[T]) with(ctx ctx, b *base, f func(r *registry.Registry[T]) error) error {
	nc, js, err := b.connect(ctx, "spillway-cli", slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer nc.Close()
	r, err := registry.Open(ctx, js, k.bucket, k.parse)
	if err != nil {
		return err
	}
	r.Becomes = k.becomes
	return f(r)
}

// list is the command that lists all entries.
func (k *kind[T]) list(c *commands, b *base, name, help string) *ffcli.Command {
	var asJSON bool
	return c.command(name, "", help, 0, func(fs *flag.FlagSet) {
		b.register(fs)
		fs.BoolVar(&asJSON, "json", false, "print JSON")
	}, func(ctx ctx, _ []string) error {
		return k.with(ctx, b, func(r *registry.Registry[T]) error { return k.print(ctx, c, r, asJSON) })
	})
}

// print lists the entries; one that cannot be read is listed with the reason.
func (k *kind[T]) print(ctx ctx, c *commands, r *registry.Registry[T], asJSON bool) error {
	l, err := r.List(ctx)
	if err != nil {
		return err
	}
	all := map[string]*T{}
	w := tabwriter.NewWriter(c.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, k.heads)
	for _, e := range l {
		if e.Err != nil {
			if asJSON {
				return e.Err
			}
			fmt.Fprintf(w, "%s\t%v\n", shown(e.Key), e.Err)
			continue
		}
		if k.hide != nil {
			k.hide(e.Value)
		}
		all[shown(e.Key)] = e.Value
		fmt.Fprintf(w, "%s\t%s\n", shown(e.Key), k.row(e.Value))
	}
	if asJSON {
		return c.printJSON(all)
	}
	if k.rest != nil {
		k.rest(w, all)
	}
	return w.Flush()
}

// get gives one entry, or says what there is instead.
func (k *kind[T]) get(ctx ctx, r *registry.Registry[T], key string) (*T, error) {
	v, err := r.Get(ctx, key)
	if err != nil {
		return nil, noEntry(ctx, r, k.what, key, err)
	}
	return v, nil
}

// remove is the command that removes an entry.
func (k *kind[T]) remove(c *commands, b *base, name, args, help string) *ffcli.Command {
	return c.command(name, args, help, 1, b.register, func(ctx ctx, a []string) error {
		key, err := k.key(a[0])
		if err != nil {
			return err
		}
		return k.with(ctx, b, func(r *registry.Registry[T]) error {
			if err := r.Remove(ctx, key); err != nil {
				return noEntry(ctx, r, k.what, key, err)
			}
			return nil
		})
	})
}

// nameKey reads a name, which is its own key.
func nameKey(what string) func(string) (string, error) {
	return func(s string) (string, error) { return s, schemas.CheckName(what, s) }
}

// streamKey reads APP/STREAM.
func streamKey(s string) (string, error) {
	k, err := parseKey(s)
	return k.KVKey(), err
}
