package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
)

// parseKey reads APP/STREAM.
func parseKey(s string) (schemas.StreamKey, error) {
	app, stream, both := cutSlash(s)
	k := schemas.StreamKey{App: app, Stream: stream}
	if !both {
		return k, fmt.Errorf("%q is not APP/STREAM: name the stream too", s)
	}
	return k, k.Check()
}

// parseAppKey reads APP or APP/STREAM and gives the key in bucket apps.
func parseAppKey(s string) (string, error) {
	app, _, both := cutSlash(s)
	if !both {
		return app, schemas.CheckName("application name", app)
	}
	k, err := parseKey(s)
	return k.KVKey(), err
}

// shown is how a key of a bucket is written for people: APP or APP/STREAM.
func shown(key string) string { return strings.Replace(key, ".", "/", 1) }

// noEntry says what there is instead of what was asked for.
func noEntry[T any](ctx ctx, r *registry.Registry[T], what, key string, err error) error {
	if !errors.Is(err, registry.ErrNone) {
		return err
	}
	l, lerr := r.List(ctx)
	if lerr != nil {
		return lerr
	}
	names := make([]string, len(l))
	for i, e := range l {
		names[i] = shown(e.Key)
	}
	if len(names) == 0 {
		return fmt.Errorf("there is no %s %s: there are none at all", what, shown(key))
	}
	return fmt.Errorf("there is no %s %s; there are: %s", what, shown(key), strings.Join(names, ", "))
}

// printJSON writes a record or report to standard output.
func (c *commands) printJSON(v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.stdout, "%s\n", b)
	return err
}

// readFile reads a small file of settings; - is standard input.
func (c *commands) readFile(what, file string) ([]byte, error) {
	in := c.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", what, err)
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	return data, nil
}

// given lists the flags that were set, so that a flag left out changes nothing.
func given(fs *flag.FlagSet) map[string]bool {
	m := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { m[f.Name] = true })
	return m
}
