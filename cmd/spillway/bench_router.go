package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/bench/router"
	"github.com/spillway-live/spillway/testenv/bus"
	"github.com/spillway-live/spillway/testenv/child"
)

type benchRouterFlags struct {
	measureFlags
	profile profileFlag
	s       router.Settings
	procs   int
}

func (f *benchRouterFlags) register(fs *flag.FlagSet) {
	fs.IntVar(&f.s.CDNs, "cdns", 20, "CDNs in the registry")
	fs.IntVar(&f.s.Cells, "cells", 200, "places (region and provider) that viewers ask from")
	fs.IntVar(&f.s.Connections, "connections", 32, "connections that ask at once")
	fs.IntVar(&f.s.Rate, "rate", 10_000, "answers a `second` at which latency is measured")
	fs.IntVar(&f.s.Slices, "slices", 10_000, "session slices a `second` on the bus meanwhile, as 100,000 viewers make; 0 is none")
	fs.DurationVar(&f.s.Window, "window", 10*time.Second, "how long each measurement lasts")
	fs.IntVar(&f.s.Sessions, "sessions", 20_000, "sessions that are opened first: they ask for steering and are in the slices")
	fs.IntVar(&f.procs, "procs", 0, "CPUs that the router may use at once (its GOMAXPROCS); 0 is all")
	f.profile.register(fs)
	f.measureFlags.register(fs, "the bus's store")
}

func (c *commands) benchRouter() *ffcli.Command {
	var f benchRouterFlags
	return c.command("bench router", "", "CPU and latency of a router's dispatch and steering answers, as JSON", 0, f.register, func(ctx ctx, _ []string) error {
		return c.runBenchRouter(ctx, &f)
	})
}

func (c *commands) runBenchRouter(ctx ctx, f *benchRouterFlags) error {
	logger, err := f.logger(c.stderr)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(f.temp, "spillway-bench-router-")
	if err != nil {
		return fmt.Errorf("make its directory: %w", err)
	}
	defer os.RemoveAll(dir)
	// As where bus and router run in one process: at 30 per cent of what the bus has in use, memory would be collected
	// for a tenth of a second again and again, and what asks would wait with it.
	go keepHeadroom(ctx)
	srv, err := bus.Start(bus.Options{DataDir: filepath.Join(dir, "nats")})
	if err != nil {
		return err
	}
	defer srv.Stop()
	nc, err := bus.Connect(srv.URL(), "bench", logger)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := bus.JetStream(ctx, nc, schemas.BusSettings{})
	if err != nil {
		return err
	}
	f.s.App, f.s.Stream = "live", "bench"
	if err := benchWorld(ctx, js, &f.s); err != nil {
		return err
	}
	p, output, err := c.startBenchRouter(ctx, srv.URL(), dir, f)
	if err != nil {
		return err
	}
	defer p.Stop(10 * time.Second)
	f.s.PID = p.PID()
	f.s.Publish = func(c context.Context, rows []schemas.Slice) error {
		data, err := schemas.EncodeSlices(rows)
		if err == nil {
			_, err = js.Publish(c, schemas.SlicesSubject(0), data)
		}
		return err
	}
	f.s.Policy = func(ctx context.Context, name string) error { return benchPolicy(ctx, js, f.s.App, name) }
	rep, err := router.Run(ctx, f.s)
	if err != nil {
		return fmt.Errorf("%w; the router said: %s", err, strings.TrimSpace(output.String()))
	}
	return c.printJSON(rep)
}

// benchWorld registers the CDNs, and a stream that stays live for the measurement.
func benchWorld(ctx ctx, js jetstream.JetStream, s *router.Settings) error {
	put := func(bucket, key string, v any) error {
		kv, err := js.KeyValue(ctx, bucket)
		if err != nil {
			return err
		}
		b, err := json.Marshal(v)
		if err == nil {
			_, err = kv.Put(ctx, key, b)
		}
		return err
	}
	for i := range s.CDNs {
		d := schemas.NewCDN(fmt.Sprint("cdn", i+1))
		d.BaseURL, d.Order, d.CapacityViewers = fmt.Sprintf("https://cdn%d.example", i+1), i, 1_000_000
		d.RegionCapacity = map[string]schemas.Capacity{"region1": {Viewers: 500_000}, "region2": {Bps: 1e12}}
		if err := put(schemas.BucketCDNs, d.Name, d); err != nil {
			return err
		}
	}
	k := schemas.StreamKey{App: s.App, Stream: s.Stream}
	return put(schemas.BucketStreams, k.KVKey(), schemas.StreamState{
		App: k.App, Stream: k.Stream, Live: true, UpdatedUnixUs: time.Now().Add(time.Hour).UnixMicro(),
		Epoch: schemas.EpochOpen{Version: 1, App: k.App, Stream: k.Stream, Rendition: schemas.SourceRendition, Epoch: 1, CDN: "cdn1",
			Tracks: []schemas.TrackInfo{{Track: schemas.Video, Codec: "avc1.64001f", Width: 1280, Height: 720}}},
		Stats: schemas.PublisherStats{PeakBps: 3_000_000},
	})
}

// startBenchRouter runs this program's router in a process of its own and waits until it answers.
func (c *commands) startBenchRouter(ctx ctx, nats, dir string, f *benchRouterFlags) (*child.Process, *child.Tail, error) {
	binary, err := thisProgram()
	if err != nil {
		return nil, nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, nil, err
	}
	metrics, err := freeAddr()
	if err != nil {
		return nil, nil, err
	}
	output := &child.Tail{}
	cmd := exec.Command(binary, "router", "--nats", nats, "--data", filepath.Join(dir, "data"), "--listen", addr, "--metrics", metrics,
		"--policy", "quality", "--log-level", "warn", "--cpuprofile", f.profile.path)
	cmd.Stdout, cmd.Stderr, cmd.Env = output, output, child.Environ()
	if f.procs > 0 {
		cmd.Env = append(child.Environ("GOMAXPROCS="), "GOMAXPROCS="+strconv.Itoa(f.procs))
	}
	p, err := child.Start(cmd)
	if err != nil {
		return nil, nil, err
	}
	s := &f.s
	s.URL = "http://" + addr
	s.Stored = func(ctx context.Context) (float64, error) { return publishedRecords(ctx, "http://"+metrics+"/metrics") }
	for limit := time.Now().Add(30 * time.Second); ; {
		r, err := http.Get(s.URL + "/v1/dispatch?app=" + s.App + "&stream=" + s.Stream)
		if err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return p, output, nil
			}
		}
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-p.Done():
			err = errors.New("it has ended")
		case <-time.After(50 * time.Millisecond):
			if time.Now().Before(limit) {
				continue
			}
			err = errors.New("it does not answer within 30 s")
		}
		p.Stop(time.Second)
		return nil, nil, fmt.Errorf("start the router: %w; it said: %s", err, strings.TrimSpace(output.String()))
	}
}

// freeAddr is an address of this machine with a port that is free.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// benchPolicy sets an application's policy, and waits longer than routers take to hear of it.
func benchPolicy(ctx ctx, js jetstream.JetStream, app, name string) error {
	kv, err := js.KeyValue(ctx, schemas.BucketApps)
	if err != nil {
		return err
	}
	b, err := json.Marshal(schemas.AppSettings{Policy: name})
	if err != nil {
		return err
	}
	if _, err := kv.Put(ctx, app, b); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Second):
		return nil
	}
}

// publishedRecords reads from a router's metrics how many decisions it has published.
func publishedRecords(ctx ctx, url string) (float64, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	r, err := http.DefaultClient.Do(q)
	if err != nil {
		return 0, err
	}
	defer r.Body.Close()
	for lines := bufio.NewScanner(r.Body); lines.Scan(); {
		if v, ok := strings.CutPrefix(lines.Text(), "spillway_router_records_published_total "); ok {
			return strconv.ParseFloat(v, 64)
		}
	}
	return 0, errors.New("the router's metrics do not count published records")
}
