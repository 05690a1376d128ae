package sandbox

import (
	"math"

	"github.com/spillway-live/spillway/schemas"
)

// Bill is what a CDN asks for a volume, USD: the greater of volume and
// commitment, each gigabyte at the price of the tier it falls into.
func Bill(c *schemas.CDN, gb float64) float64 {
	gb = max(gb, float64(c.CommitGB))
	usd, from, price := 0.0, 0.0, c.PricePerGBMicroUSD
	for _, t := range c.PriceTiers {
		upTo := math.Min(float64(t.FromGB), gb)
		usd += max(upTo-from, 0) * float64(price) / 1e6
		from, price = max(from, upTo), t.PerGBMicroUSD
	}
	return usd + max(gb-from, 0)*float64(price)/1e6
}
