package relay_test

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/testenv/await"
	"github.com/spillway-live/spillway/testenv/regions"
	line "github.com/spillway-live/spillway/testenv/relay"
	"github.com/spillway-live/spillway/workers/workerstest/media"
)

// twoWays runs region home, from which region edge gets streams over region near or region far;
// what far says to edge, and edge to far, is long on its way. The link given is that from edge to near.
func twoWays(t *testing.T) (c *regions.Chain, near *line.Relay) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	links := make([]*line.Relay, 4)
	c, err := regions.Start(ctx, regions.Settings{
		Dir: t.TempDir(), Names: []string{"far", "near", "home", "edge"}, Links: [][2]int{{0, 2}, {1, 2}, {0, 3}, {1, 3}},
		Logger: logger(), Bus: schemas.BusSettings{MediaRetention: 10 * time.Minute},
		Link: func(i int, target string) string {
			links[i] = line.Start(t, func() string { return target })
			if i == 2 {
				links[i].Delay(100 * time.Millisecond)
			}
			return links[i].Addr()
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	return c, links[3]
}

// A stream that two neighbours have comes from the nearer, and from the other when the nearer cannot
// be reached. Nothing is left out or doubled by the change.
func TestComesFromTheNearerOfTwo(t *testing.T) {
	c, line := twoWays(t)
	far, near, home, edge := c.Regions[0], c.Regions[1], c.Regions[2], c.Regions[3]
	for _, r := range c.Regions {
		runRelay(t, r, "", nil)
	}
	p := publisher(t, home.JS, media.Load(t), "one")
	live(t, home.JS, p)
	push(t, p, home.JS, 3)
	watch(t, near, p.Key)
	watch(t, far, p.Key)
	for _, r := range []*regions.Region{near, far} {
		await.True(t, "region "+r.Name+" has the stream", func() bool { return stored(t, r) >= stored(t, home) })
	}
	watch(t, edge, p.Key)
	stop := pace(t, p, home.JS)
	// goesOn waits until region edge has more than region home has now.
	goesOn := func(by string) {
		t.Helper()
		have := stored(t, home)
		await.True(t, "region edge goes on by way of "+by, func() bool { return stored(t, edge) > have })
	}
	locations := bucket(t, edge.JS, schemas.BucketLocations)
	await.True(t, "region edge knows both ways, and that far is the longer", func() bool {
		e, err := locations.Get(patient(t), p.Key.KVKey())
		if err != nil {
			return false
		}
		l, err := schemas.ParseLocation(e.Key(), e.Value())
		return err == nil && len(l.Offers) == 2 && l.Offers[0].Region == "near" && l.Offers[0].Held && l.Offers[1].Held && l.Offers[1].RTTUs >= 200_000
	})
	await.True(t, "the stream comes from region near, and from there only", func() bool {
		return consumersOf(t, near, "edge", p.Key) == 1 && consumersOf(t, far, "edge", p.Key) == 0
	})
	goesOn("near")
	line.Cut()
	await.True(t, "the stream comes from region far", func() bool { return consumersOf(t, far, "edge", p.Key) == 1 })
	goesOn("far")
	stop()
	await.True(t, "region edge has as much as region home", func() bool { return stored(t, edge) >= stored(t, home) })
	want, of := messages(t, home, p.Key)
	got, gotOf := messages(t, edge, p.Key)
	if !slices.Equal(got, want) {
		t.Errorf("region edge has\n%v, want\n%v", got, want)
	}
	if !maps.Equal(of, gotOf) {
		t.Error("what region edge has differs from what was published")
	}
}

// stored is how many messages a region's MEDIA has had.
func stored(t *testing.T, r *regions.Region) uint64 {
	t.Helper()
	s, err := r.JS.Stream(patient(t), schemas.StreamMedia)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.LastSeq
}
