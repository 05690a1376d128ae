package main

import (
	"flag"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/analytics/hoptrace"
	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/hops"
)

// traceCommand follows a stream's parts from publisher to player for a while.
func (c *commands) traceCommand() *ffcli.Command {
	var b base
	var asJSON bool
	var listen time.Duration
	return c.command("trace", "APP/STREAM", "show delay and loss of a stream by hop now, and which hop is bad", 1, func(fs *flag.FlagSet) {
		b.register(fs)
		fs.BoolVar(&asJSON, "json", false, "print JSON instead of text")
		fs.DurationVar(&listen, "for", 12*time.Second, "how long to listen")
	}, func(ctx ctx, a []string) error {
		k, err := parseKey(a[0])
		if err != nil {
			return err
		}
		if listen < time.Second || listen > time.Hour {
			return fmt.Errorf("--for %s: give 1s to 1h", listen)
		}
		nc, js, err := b.connect(ctx, "spillway-cli", slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		defer nc.Close()
		r, err := listenToHops(ctx, nc, js, k, listen)
		if err != nil {
			return err
		}
		if asJSON {
			return c.printJSON(r)
		}
		return r.WriteText(c.stdout)
	})
}

// listenToHops gathers what is told of a stream's parts.
func listenToHops(ctx ctx, nc *nats.Conn, js jetstream.JetStream, k schemas.StreamKey, listen time.Duration) (*hoptrace.Report, error) {
	msgs := make(chan *nats.Msg, 1024)
	sub, err := nc.ChanSubscribe(schemas.HopsSubject(k), msgs)
	if err != nil {
		return nil, fmt.Errorf("listen to the hops of %s: %w", k, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	t, began := hoptrace.New(k), time.Now()
	linkAtFirst := publisherStats(ctx, js, k)
	end := time.NewTimer(listen)
	defer end.Stop()
	for {
		select {
		case m := <-msgs:
			notes, err := hops.DecodeNotes(m.Data)
			if err != nil {
				return nil, err
			}
			for _, n := range notes {
				t.Add(n)
			}
			continue
		case <-end.C:
		case <-ctx.Done(): // what has come is shown
		}
		t.Link(linkAtFirst, publisherStats(ctx, js, k))
		r := t.Report(time.Since(began))
		return &r, nil
	}
}

// publisherStats is what ingest tells of a stream's publisher; nil where it tells nothing.
func publisherStats(ctx ctx, js jetstream.JetStream, k schemas.StreamKey) *schemas.StreamState {
	kv, err := js.KeyValue(ctx, schemas.BucketStreams)
	if err != nil {
		return nil
	}
	e, err := kv.Get(ctx, k.KVKey())
	if err != nil {
		return nil
	}
	s, err := schemas.ParseStreamState(e.Key(), e.Value())
	if err != nil {
		return nil
	}
	return s
}
