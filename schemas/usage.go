package schemas

import (
	"fmt"
	"math"
	"time"
)

// BucketUsage holds what each CDN delivered, by month: one entry, [UsageKey].
const BucketUsage = "usage"

// UsageKey is the one key of the bucket usage: sums and the position that they
// account for are stored together, so that nothing counts twice.
const UsageKey = "volume"

// Usage is what CDNs delivered up to a message of the stream SLICES.
type Usage struct {
	// Seq is the last stream sequence that the sums account for.
	Seq uint64 `json:"seq"`
	// UpdatedUnixUs is when it was stored.
	UpdatedUnixUs int64 `json:"updated_us"`
	// Months maps YYYY-MM (UTC) to volumes by CDN.
	Months map[string]map[string]Volume `json:"months"`
	// MissedMessages counts messages that were gone from the stream before they were read.
	MissedMessages uint64 `json:"missed_messages,omitempty"`
}

// Volume is what a CDN delivered, from two sources that tell of the same bytes.
type Volume struct {
	// EdgeBytes is what its edges logged, all requests and not a sample; 0 where it
	// delivers no logs.
	EdgeBytes int64 `json:"edge_bytes"`
	// PlayedBytes is bitrate times time played, as the sessions that routers began told.
	PlayedBytes int64 `json:"played_bytes"`
}

// Bytes is the volume: what the CDN logged, where it logs, since anybody who may
// watch can claim to have played. Else what players say, the only source there is.
func (v Volume) Bytes() int64 {
	if v.EdgeBytes > 0 {
		return v.EdgeBytes
	}
	return max(v.PlayedBytes, 0)
}

// Month names the month of a moment, UTC.
func Month(t time.Time) string { return t.UTC().Format("2006-01") }

// MonthShare is the part of its month, UTC, that has passed at a moment, 0 to 1.
func MonthShare(t time.Time) float64 {
	t = t.UTC()
	from := time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
	return float64(t.Sub(from)) / float64(from.AddDate(0, 1, 0).Sub(from))
}

// GB is what a CDN delivered in the month of a moment, in gigabytes (10^9 bytes). u may be nil.
func (u *Usage) GB(cdn string, at time.Time) float64 {
	if u == nil {
		return 0
	}
	return float64(u.Months[Month(at)][cdn].Bytes()) / 1e9
}

// ParseUsage reads the entry of the bucket usage.
func ParseUsage(key string, value []byte) (*Usage, error) {
	var u Usage
	if key != UsageKey {
		return nil, fmt.Errorf("bucket %s has the key %s only, not %s", BucketUsage, UsageKey, key)
	}
	return &u, UnmarshalStrict(value, &u)
}

// Bill is what a month costs at a CDN so far.
type Bill struct {
	Month string  `json:"month"`
	GB    float64 `json:"gb"`
	// SpendUSD is what is owed: the volume by tiers, and at least the commitment.
	SpendUSD float64 `json:"spend_usd"`
	// CommitShare is the part of the commitment that is used, above 1 beyond it; 0
	// without one. MonthShare is the part of the month that has passed.
	CommitShare float64 `json:"commit_share,omitempty"`
	MonthShare  float64 `json:"month_share"`
}

// Bill gives the month's bill for a volume.
func (c *CDN) Bill(gb float64, at time.Time) Bill {
	b := Bill{Month: Month(at), GB: gb, MonthShare: MonthShare(at), SpendUSD: c.costUSD(math.Max(gb, float64(c.CommitGB)))}
	if c.CommitGB > 0 {
		b.CommitShare = gb / float64(c.CommitGB)
	}
	return b
}

// costUSD is the price of a volume, each part of it at its tier's.
func (c *CDN) costUSD(gb float64) float64 {
	price, from, sum := c.PricePerGBMicroUSD, 0.0, 0.0
	for _, t := range c.PriceTiers { // rising by FromGB
		if gb <= float64(t.FromGB) {
			break
		}
		sum += (float64(t.FromGB) - from) * float64(price)
		price, from = t.PerGBMicroUSD, float64(t.FromGB)
	}
	return (sum + (gb-from)*float64(price)) / 1e6
}
