package router_test

import (
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/workers/router"
)

// TestCostGoesByRealVolume: what is paid for anyway comes first until it is used up.
func TestCostGoesByRealVolume(t *testing.T) {
	b := world(t)
	a := cdn("a", 0, 0)
	a.PricePerGBMicroUSD, a.CommitGB = 20_000, 1e12
	put(t, b.JS, schemas.BucketCDNs, "a", a)
	for i, n := range []string{"b", "c"} {
		x := cdn(n, 1+i, 0)
		x.PricePerGBMicroUSD, x.PriceTiers = 15_000, []schemas.PriceTier{{FromGB: 1, PerGBMicroUSD: 10_000}}
		put(t, b.JS, schemas.BucketCDNs, n, x)
	}
	r := start(t, b.JS, func(s *router.Settings) { s.Policy = "cost" })
	first := func(what, want string) {
		t.Helper()
		await.True(t, what, func() bool { return r.dispatch(t, "").Candidates[0].CDN == want })
	}
	first("the commitment is not used up", "a")
	volume := map[string]schemas.Volume{"a": {EdgeBytes: 2e15}, "c": {PlayedBytes: 2e9}}
	a.CommitGB = 1e6
	put(t, b.JS, schemas.BucketCDNs, "a", a)
	put(t, b.JS, schemas.BucketUsage, schemas.UsageKey, schemas.Usage{Seq: 7, Months: map[string]map[string]schemas.Volume{schemas.Month(time.Now()): volume}})
	first("the commitment is used up, and c has reached its second tier", "c")
}
