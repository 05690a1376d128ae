package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
)

type cdnRegistry = registry.Registry[schemas.CDN]

// cdnKind is the CDN registry.
var cdnKind = kind[schemas.CDN]{
	what: "CDN", bucket: schemas.BucketCDNs, parse: schemas.ParseCDN, key: nameKey("CDN name"),
	heads: "NAME\tSTATE\tREGION\tBASE URL\tVIEWERS\tCAPACITY bit/s\tSPILL ABOVE\tUSD/GB",
	row: func(d *schemas.CDN) string {
		return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%.4f", d.State, d.Region, d.BaseURL,
			orNever(d.CapacityViewers), orNever(int(d.CapacityBps)), orNever(d.SpillViewers), float64(d.PricePerGBMicroUSD)/1e6)
	},
}

// usageKind is what CDNs delivered; the role usage writes it.
var usageKind = kind[schemas.Usage]{what: "volume", bucket: schemas.BucketUsage, parse: schemas.ParseUsage}

// cdnCommand reads and changes the CDN registry, and the faults of test edges.
func (c *commands) cdnCommand() *ffcli.Command {
	var b base
	var place schemas.HealthQuery
	return c.parent("cdn", "the CDN registry and the faults of test edges",
		cdnKind.list(c, &b, "cdn list", "list the CDNs"),
		c.cdnSet(&b),
		c.command("cdn show", "NAME", "print a CDN's entry, how it serves (with standard errors), and what it delivered and costs this month, as JSON", 1, func(fs *flag.FlagSet) {
			b.register(fs)
			fs.StringVar(&place.Region, "region", "", "how it serves viewers of this region")
			fs.StringVar(&place.ISP, "isp", "", "and of this internet provider")
		}, func(ctx ctx, a []string) error {
			return cdnKind.with(ctx, &b, func(r *cdnRegistry) error {
				d, err := cdnKind.get(ctx, r, a[0])
				if err != nil {
					return err
				}
				var used *schemas.Usage
				err = usageKind.with(ctx, &b, func(r *registry.Registry[schemas.Usage]) (err error) {
					if used, err = r.Get(ctx, schemas.UsageKey); errors.Is(err, registry.ErrNone) {
						return nil
					}
					return err
				})
				if err != nil {
					return err
				}
				now := time.Now()
				place.CDN = d.Name
				health, why := b.routerHealth(ctx, place)
				return c.printJSON(struct {
					*schemas.CDN
					Health        *schemas.CDNHealth `json:"health,omitempty"`
					HealthUnknown string             `json:"health_unknown,omitempty"`
					Month         schemas.Bill       `json:"month"`
				}{d, health, why, d.Bill(used.GB(d.Name, now), now)})
			})
		}),
		c.command("cdn state", "NAME active|draining|off", "take a CDN in or out of answers", 2, b.register, func(ctx ctx, a []string) error {
			return cdnKind.with(ctx, &b, func(r *cdnRegistry) error {
				if _, err := cdnKind.get(ctx, r, a[0]); err != nil {
					return err
				}
				_, err := r.Edit(ctx, a[0], func(d *schemas.CDN, _ bool) error { d.State = schemas.CDNState(a[1]); return nil })
				return err
			})
		}),
		cdnKind.remove(c, &b, "cdn remove", "NAME", "remove a CDN from the registry"),
		c.cdnFault(&b),
		c.command("cdn heal", "NAME", "end the fault of a CDN's test edge", 1, b.register, func(ctx ctx, a []string) error {
			return c.setFault(ctx, &b, a[0], schemas.Fault{})
		}),
	)
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
		return cdnKind.with(ctx, b, func(r *cdnRegistry) error {
			_, err := r.Edit(ctx, a[0], func(d *schemas.CDN, found bool) error {
				if !found {
					if *d = *schemas.NewCDN(a[0]); url == "" {
						return fmt.Errorf("there is no CDN %s yet: a new one needs --url", a[0])
					}
				}
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
					d.PricePerGBMicroUSD = int64(price*1e6 + 0.5)
				}
				return nil
			})
			return err
		})
	})
}

func (c *commands) cdnFault(b *base) *ffcli.Command {
	var rate, connection, region string
	var latency time.Duration
	var errorRate float64
	var down, freeze bool
	return c.command("cdn fault", "NAME", "make a CDN's test edge bad: at least one of the flags", 1, func(fs *flag.FlagSet) {
		b.register(fs)
		fs.StringVar(&rate, "rate", "", "limit the whole edge's downstream, e.g. 300kbps, 2Mbps")
		fs.StringVar(&connection, "connection-rate", "", "limit each answer by itself, e.g. 300kbps")
		fs.StringVar(&region, "region", "", "only for viewers of this `region`; with --connection-rate, --latency and --error-rate")
		fs.DurationVar(&latency, "latency", 0, "add this before each answer, e.g. 200ms")
		fs.Float64Var(&errorRate, "error-rate", 0, "answer this share of requests with 503, 0 to 1")
		fs.BoolVar(&freeze, "freeze-playlists", false, "answer playlists as they were when first asked for")
		fs.BoolVar(&down, "down", false, "close every connection without an answer")
	}, func(ctx ctx, a []string) error {
		f := schemas.Fault{LatencyMs: latency.Milliseconds(), ErrorRate: errorRate, FreezePlaylists: freeze, Down: down}
		for _, x := range []struct {
			flag, value string
			to          *int64
		}{{"--rate", rate, &f.RateBps}, {"--connection-rate", connection, &f.ConnectionRateBps}} {
			if x.value == "" {
				continue
			}
			bps, err := parseRate(x.value)
			if err != nil || bps <= 0 {
				return fmt.Errorf("%s %q: give a rate above 0 such as 300kbps or 2Mbps", x.flag, x.value)
			}
			*x.to = bps
		}
		if !(errorRate >= 0 && errorRate <= 1) {
			return fmt.Errorf("--error-rate %v is not from 0 to 1", errorRate)
		}
		if latency < 0 {
			return fmt.Errorf("--latency %s is negative", latency)
		}
		if f == (schemas.Fault{}) {
			return errors.New("say what is wrong with it: --rate, --connection-rate, --latency, --error-rate, --freeze-playlists or --down; spillway cdn heal NAME ends a fault")
		}
		if f.Region = region; region != "" && (f.RateBps > 0 || freeze || down || latency == 0 && errorRate == 0 && f.ConnectionRateBps == 0) {
			return errors.New("--region goes with --connection-rate, --latency and --error-rate: the other faults are of the edge itself")
		}
		return c.setFault(ctx, b, a[0], f)
	})
}

// setFault stores the fault, which the edge of that name watches.
func (c *commands) setFault(ctx ctx, b *base, name string, f schemas.Fault) error {
	if err := cdnKind.with(ctx, b, func(r *cdnRegistry) error {
		_, err := cdnKind.get(ctx, r, name)
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
