package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/schemas"
)

// cdnCommand reads and changes the CDN registry, and the faults of test edges.
func (c *commands) cdnCommand() *ffcli.Command {
	var b base
	return c.parent("cdn", "the CDN registry and the faults of test edges",
		c.command("cdn list", "", "list the CDNs", 0, b.register, func(ctx ctx, _ []string) error {
			return b.withBucket(ctx, schemas.BucketCDNs, func(kv jetstream.KeyValue) error { return c.listCDNs(ctx, kv) })
		}),
		c.cdnSet(&b),
		c.command("cdn show", "NAME", "print a CDN's entry as JSON", 1, b.register, func(ctx ctx, a []string) error {
			return b.withBucket(ctx, schemas.BucketCDNs, func(kv jetstream.KeyValue) error {
				d, err := getCDN(ctx, kv, a[0])
				if err != nil {
					return err
				}
				return c.printJSON(d)
			})
		}),
		c.command("cdn state", "NAME active|draining|off", "take a CDN in or out of answers", 2, b.register, func(ctx ctx, a []string) error {
			return b.withBucket(ctx, schemas.BucketCDNs, func(kv jetstream.KeyValue) error {
				return updateCDN(ctx, kv, a[0], func(cdn *schemas.CDN) { cdn.State = schemas.CDNState(a[1]) })
			})
		}),
		c.command("cdn remove", "NAME", "remove a CDN from the registry", 1, b.register, func(ctx ctx, a []string) error {
			return b.withBucket(ctx, schemas.BucketCDNs, func(kv jetstream.KeyValue) error {
				if _, err := getCDN(ctx, kv, a[0]); err != nil {
					return err
				}
				return kv.Delete(ctx, a[0])
			})
		}),
		c.cdnFault(&b),
		c.command("cdn heal", "NAME", "end the fault of a CDN's test edge", 1, b.register, func(ctx ctx, a []string) error {
			return c.setFault(ctx, &b, a[0], schemas.Fault{})
		}),
	)
}

func (c *commands) listCDNs(ctx ctx, kv jetstream.KeyValue) error {
	names, err := keys(ctx, kv)
	if err != nil {
		return fmt.Errorf("list CDNs: %w", err)
	}
	w := tabwriter.NewWriter(c.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tSTATE\tREGION\tBASE URL\tVIEWERS\tCAPACITY bit/s\tSPILL ABOVE\tUSD/GB")
	for _, n := range names {
		d, err := getCDN(ctx, kv, n)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.4f\n", d.Name, d.State, d.Region, d.BaseURL,
			orNever(d.CapacityViewers), orNever(int(d.CapacityBps)), orNever(d.SpillViewers), float64(d.PricePerGBMicroUSD)/1e6)
	}
	return w.Flush()
}

func orNever(n int) string {
	if n == 0 {
		return "-"
	}
	return strconv.Itoa(n)
}

func (c *commands) cdnSet(b *base) *ffcli.Command {
	var region, state, url, rate, tokenScheme, tokenKey string
	var viewers, spill, order int
	var price float64
	var more cdnMore
	var flags *flag.FlagSet
	return c.command("cdn set", "NAME", "add a CDN or change what is given of it", 1, func(fs *flag.FlagSet) {
		b.register(fs)
		fs.StringVar(&url, "url", "", "base `URL`, scheme and host")
		fs.StringVar(&region, "region", "", "region it is in")
		fs.StringVar(&state, "state", "", "active, draining or off")
		fs.IntVar(&viewers, "capacity-viewers", -1, "viewers it can serve at once; 0 is no limit")
		fs.StringVar(&rate, "capacity", "", "bandwidth it can serve, e.g. 10Gbps; 0 is no limit")
		fs.IntVar(&spill, "spill-viewers", -1, "new sessions go elsewhere above this many viewers; 0 is never")
		fs.IntVar(&order, "order", -1, "rank where nothing else decides, lower first")
		fs.StringVar(&tokenScheme, "token-scheme", "", "how its play addresses are signed: spillway, nginx-path or akamai-path")
		fs.StringVar(&tokenKey, "token-key", "", "`name` of its key in the routers' secrets (cdn_keys), or - for none")
		fs.Float64Var(&price, "price", -1, "USD per GB")
		more.register(fs)
		flags = fs
	}, func(ctx ctx, a []string) error {
		var bps int64 = -1
		if rate != "" {
			var err error
			if bps, err = parseRate(rate); err != nil {
				return fmt.Errorf("--capacity: %w", err)
			}
		}
		edit, err := more.edit(given(flags))
		if err != nil {
			return err
		}
		return b.withBucket(ctx, schemas.BucketCDNs, func(kv jetstream.KeyValue) error {
			if _, err := kv.Get(ctx, a[0]); errors.Is(err, jetstream.ErrKeyNotFound) {
				d := schemas.CDN{Name: a[0], BaseURL: url, State: schemas.CDNActive}
				if err := d.Check(); err != nil {
					return fmt.Errorf("new CDN needs --url: %w", err)
				}
				v, err := json.Marshal(d)
				if err != nil {
					return err
				}
				if _, err := kv.Create(ctx, a[0], v); err != nil {
					return fmt.Errorf("add CDN %s: %w", a[0], err)
				}
			}
			return updateCDN(ctx, kv, a[0], func(d *schemas.CDN) {
				edit(d)
				if url != "" {
					d.BaseURL = url
				}
				if region != "" {
					d.Region = region
				}
				if state != "" {
					d.State = schemas.CDNState(state)
				}
				if viewers >= 0 {
					d.CapacityViewers = viewers
				}
				if bps >= 0 {
					d.CapacityBps = bps
				}
				if spill >= 0 {
					d.SpillViewers = spill
				}
				if order >= 0 {
					d.Order = order
				}
				if tokenScheme != "" {
					d.TokenScheme = tokenScheme
				}
				if tokenKey != "" {
					d.TokenKey = strings.TrimPrefix(tokenKey, "-")
				}
				if price >= 0 {
					d.PricePerGBMicroUSD = int64(price * 1e6)
				}
			})
		})
	})
}

func (c *commands) cdnFault(b *base) *ffcli.Command {
	var rate string
	var latency time.Duration
	var errorRate float64
	var down bool
	return c.command("cdn fault", "NAME", "make a CDN's test edge bad: at least one of the flags", 1, func(fs *flag.FlagSet) {
		b.register(fs)
		fs.StringVar(&rate, "rate", "", "limit the whole edge's downstream, e.g. 300kbps, 2Mbps")
		fs.DurationVar(&latency, "latency", 0, "add this before each answer, e.g. 200ms")
		fs.Float64Var(&errorRate, "error-rate", 0, "answer this share of requests with 503, 0 to 1")
		fs.BoolVar(&down, "down", false, "close every connection without an answer")
	}, func(ctx ctx, a []string) error {
		f := schemas.Fault{LatencyMs: latency.Milliseconds(), ErrorRate: errorRate, Down: down}
		if rate != "" {
			bps, err := parseRate(rate)
			if err != nil || bps <= 0 {
				return fmt.Errorf("--rate %q: give a rate above 0 such as 300kbps or 2Mbps", rate)
			}
			f.RateBps = bps
		}
		if !(errorRate >= 0 && errorRate <= 1) || latency < 0 {
			return fmt.Errorf("--error-rate must be 0 to 1 and --latency not negative; got %v and %s", errorRate, latency)
		}
		if f == (schemas.Fault{}) {
			return errors.New("say what is wrong with it: --rate, --latency, --error-rate or --down; spillway cdn heal NAME ends a fault")
		}
		return c.setFault(ctx, b, a[0], f)
	})
}

// setFault stores the fault, which the edge of that name watches.
func (c *commands) setFault(ctx ctx, b *base, name string, f schemas.Fault) error {
	if err := b.withBucket(ctx, schemas.BucketCDNs, func(kv jetstream.KeyValue) error {
		_, err := getCDN(ctx, kv, name)
		return err
	}); err != nil {
		return err
	}
	return b.withBucket(ctx, schemas.BucketFaults, func(kv jetstream.KeyValue) error {
		v, err := json.Marshal(f)
		if err != nil {
			return err
		}
		if _, err := kv.Put(ctx, name, v); err != nil {
			return fmt.Errorf("set fault of %s: %w", name, err)
		}
		return nil
	})
}

func getCDN(ctx ctx, kv jetstream.KeyValue, name string) (*schemas.CDN, error) {
	if err := schemas.CheckName("CDN name", name); err != nil {
		return nil, err
	}
	e, err := kv.Get(ctx, name)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		names, kerr := keys(ctx, kv)
		if kerr != nil {
			return nil, fmt.Errorf("CDN %s: %w", name, kerr)
		}
		return nil, fmt.Errorf("there is no CDN %q; the registry has: %s", name, strings.Join(names, ", "))
	}
	if err != nil {
		return nil, fmt.Errorf("CDN %s: %w", name, err)
	}
	var d schemas.CDN
	if err := json.Unmarshal(e.Value(), &d); err != nil {
		return nil, fmt.Errorf("CDN %s: %w", name, err)
	}
	return &d, nil
}

// updateCDN changes one entry; of two commands at once the second is refused.
func updateCDN(ctx ctx, kv jetstream.KeyValue, name string, edit func(*schemas.CDN)) error {
	d, err := getCDN(ctx, kv, name)
	if err != nil {
		return err
	}
	e, err := kv.Get(ctx, name)
	if err != nil {
		return fmt.Errorf("CDN %s: %w", name, err)
	}
	edit(d)
	if err := d.Check(); err != nil {
		return err
	}
	v, err := json.Marshal(d)
	if err != nil {
		return err
	}
	if _, err := kv.Update(ctx, name, v, e.Revision()); err != nil {
		return fmt.Errorf("change CDN %s (changed by somebody else at the same time?): %w", name, err)
	}
	return nil
}

// keys lists a bucket's keys in order; an empty bucket is no error.
func keys(ctx ctx, kv jetstream.KeyValue) ([]string, error) {
	l, err := kv.ListKeys(ctx)
	if err != nil {
		return nil, err
	}
	defer l.Stop()
	var names []string
	for k := range l.Keys() {
		names = append(names, k)
	}
	sort.Strings(names)
	return names, nil
}

// parseRate reads 300kbps, 2.5Mbps, 10Gbps, 800bps or a plain number of bit/s.
func parseRate(s string) (int64, error) {
	num := strings.TrimSuffix(strings.ToLower(strings.TrimSpace(s)), "bps")
	num = strings.TrimSuffix(num, "bit/s")
	mult := 1.0
	switch {
	case strings.HasSuffix(num, "k"):
		mult, num = 1e3, num[:len(num)-1]
	case strings.HasSuffix(num, "m"):
		mult, num = 1e6, num[:len(num)-1]
	case strings.HasSuffix(num, "g"):
		mult, num = 1e9, num[:len(num)-1]
	}
	v, err := strconv.ParseFloat(strings.TrimSpace(num), 64)
	if err != nil || !(v >= 0) || v*mult > 1e15 {
		return 0, fmt.Errorf("%q is not a rate: write 300kbps, 2.5Mbps or 10Gbps", s)
	}
	return int64(v * mult), nil
}
