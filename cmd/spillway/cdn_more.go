package main

import (
	"flag"
	"fmt"
	"strconv"
	"strings"

	"github.com/spillway-live/spillway/schemas"
)

// cdnMore are what a CDN costs and where it is strong, as given on the command line.
type cdnMore struct {
	tiers, strong, regions string
	commitGB               int64
	logSample              float64
	streamViewers          int
}

func (m *cdnMore) register(fs *flag.FlagSet) {
	fs.StringVar(&m.tiers, "price-tiers", "", "USD per GB from a monthly volume on, `FROM_GB:USD,...`; \"\" is none")
	fs.Int64Var(&m.commitGB, "commit-gb", 0, "GB a month that are paid for in any case")
	fs.Float64Var(&m.logSample, "log-sample", 1, "share of its requests that its logs tell, e.g. 0.01; volumes are scaled by it")
	fs.IntVar(&m.streamViewers, "stream-viewers", 0, "viewers that one stream may have on it at once; 0 is no limit")
	fs.StringVar(&m.strong, "strong-in", "", "where it serves better than others, `REGION,ISP,REGION/ISP`; \"\" is nowhere")
	fs.StringVar(&m.regions, "region-capacity", "", "what it can serve in a region, `REGION=VIEWERS/RATE,...`, either may be left out; \"\" is no limit")
}

// edit turns the flags that were given into a change.
func (m *cdnMore) edit(set map[string]bool) (func(*schemas.CDN), error) {
	tiers, err := parseTiers(m.tiers)
	if err != nil {
		return nil, fmt.Errorf("--price-tiers: %w", err)
	}
	regions, err := parseRegionCapacity(m.regions)
	if err != nil {
		return nil, fmt.Errorf("--region-capacity: %w", err)
	}
	return func(d *schemas.CDN) {
		if set["price-tiers"] {
			d.PriceTiers = tiers
		}
		if set["commit-gb"] {
			d.CommitGB = m.commitGB
		}
		if set["log-sample"] {
			d.LogSample = m.logSample
		}
		if set["stream-viewers"] {
			d.StreamViewers = m.streamViewers
		}
		if set["strong-in"] {
			d.StrongIn = nil
			if m.strong != "" {
				d.StrongIn = strings.Split(m.strong, ",")
			}
		}
		if set["region-capacity"] {
			d.RegionCapacity = regions
		}
	}, nil
}

func parseTiers(s string) ([]schemas.PriceTier, error) {
	if s == "" {
		return nil, nil
	}
	var out []schemas.PriceTier
	for part := range strings.SplitSeq(s, ",") {
		from, usd, ok := strings.Cut(part, ":")
		gb, err := strconv.ParseInt(strings.TrimSpace(from), 10, 64)
		price, err2 := strconv.ParseFloat(strings.TrimSpace(usd), 64)
		if !ok || err != nil || err2 != nil || !(price >= 0 && price < 1e6) {
			return nil, fmt.Errorf("%q is not FROM_GB:USD, for example 1000:0.02", part)
		}
		out = append(out, schemas.PriceTier{FromGB: gb, PerGBMicroUSD: int64(price*1e6 + 0.5)})
	}
	return out, nil
}

func parseRegionCapacity(s string) (map[string]schemas.Capacity, error) {
	if s == "" {
		return nil, nil
	}
	out := map[string]schemas.Capacity{}
	for part := range strings.SplitSeq(s, ",") {
		region, limits, ok := strings.Cut(part, "=")
		viewers, rate, _ := strings.Cut(limits, "/")
		var c schemas.Capacity
		var err, err2 error
		if viewers != "" {
			c.Viewers, err = strconv.Atoi(viewers)
		}
		if rate != "" {
			c.Bps, err2 = parseRate(rate)
		}
		if !ok || region == "" || err != nil || err2 != nil || c == (schemas.Capacity{}) {
			return nil, fmt.Errorf("%q is not REGION=VIEWERS/RATE, for example eu=1000/10Gbps or eu=/10Gbps", part)
		}
		out[region] = c
	}
	return out, nil
}
