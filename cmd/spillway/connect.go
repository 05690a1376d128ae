package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/bus"
)

// ctx keeps the signatures of subcommands readable.
type ctx = context.Context

// execFunc is what a subcommand does with its positional arguments.
type execFunc func(ctx ctx, args []string) error

// natsURL is where the bus is: as told, or that of the running "spillway up".
func (b *base) natsURL() (string, error) {
	if b.nats != "" {
		return b.nats, nil
	}
	r, err := findRun(b.data)
	if err != nil {
		return "", err
	}
	return r.NATS, nil
}

// clickhouseURL is where ClickHouse is, for roles that write.
func (b *base) clickhouseURL() (string, error) {
	if b.clickhouse != "" {
		return b.clickhouse, nil
	}
	r, err := findRun(b.data)
	if err != nil {
		return "", err
	}
	return r.ClickHouseNative, nil
}

// connect opens the bus for a role or a command and makes what is missing on it.
func (b *base) connect(ctx ctx, name string, logger *slog.Logger) (*nats.Conn, jetstream.JetStream, error) {
	u, err := b.natsURL()
	if err != nil {
		return nil, nil, err
	}
	nc, err := bus.Connect(u, name, logger)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: see that it runs, or give another with --nats", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	js, err := bus.JetStream(ctx, nc, schemas.BusSettings{})
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	return nc, js, nil
}

// withBucket runs f on a KV bucket of the bus, for commands that read or change a registry.
func (b *base) withBucket(ctx ctx, bucket string, f func(kv jetstream.KeyValue) error) error {
	nc, js, err := b.connect(ctx, "spillway-cli", slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer nc.Close()
	kv, err := js.KeyValue(ctx, bucket)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", bucket, err)
	}
	return f(kv)
}

// cutSlash splits "app/stream"; both says whether there was a slash.
func cutSlash(s string) (app, stream string, both bool) { return strings.Cut(s, "/") }

// redactURL hides the password of a URL that is shown to people.
func redactURL(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return s
	}
	return u.Redacted()
}
