package load

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/spillway-live/spillway/workers/router/health"
)

// counts are the viewers of each CDN, in all and by region. Counting up and down
// waits only while CDNs or regions come or go.
type counts struct {
	mu sync.RWMutex
	on map[string]*cdnLoad // by CDN
	// version changes whenever a CDN or region comes or goes.
	version atomic.Uint64
}

// cdnLoad is who is on a CDN. Trends, forecasts and the mean are guarded by Table.mu.
type cdnLoad struct {
	viewers  atomic.Int64
	byRegion map[string]*regionLoad
	trend    health.Trend
	ahead    health.Ahead
	meanBps  float64 // of its viewers, as it was in the round meanOf
	meanOf   int64
}

// regionLoad is who is on a CDN from one region.
type regionLoad struct {
	viewers atomic.Int64
	trend   health.Trend
}

// up counts a viewer, who is there until down.
func (c *counts) up(cdn, region string) {
	if c.change(cdn, region, 1) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	on := c.add(cdn)
	here := on.byRegion[region]
	if here == nil {
		here = &regionLoad{}
		on.byRegion[region] = here
		c.version.Add(1)
	}
	on.viewers.Add(1)
	here.viewers.Add(1)
}

// down counts a viewer no more. What counts somebody is never forgotten: it is there.
func (c *counts) down(cdn, region string) { c.change(cdn, region, -1) }

func (c *counts) change(cdn, region string, by int64) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if on := c.on[cdn]; on != nil {
		if here := on.byRegion[region]; here != nil {
			on.viewers.Add(by)
			here.viewers.Add(by)
			return true
		}
	}
	return false
}

// add finds or makes the counts of a CDN. c.mu is held.
func (c *counts) add(cdn string) *cdnLoad {
	on := c.on[cdn]
	if on == nil {
		on = &cdnLoad{byRegion: map[string]*regionLoad{}}
		c.on[cdn] = on
		c.version.Add(1)
	}
	return on
}

// of gives the counts of a CDN and of a region there; nil: there are none.
func (c *counts) of(cdn, region string) (*cdnLoad, *regionLoad) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	on := c.on[cdn]
	if on == nil {
		return nil, nil
	}
	return on, on.byRegion[region]
}

func (c *counts) viewers() map[string]int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	out := make(map[string]int, len(c.on))
	for name, on := range c.on {
		if n := on.viewers.Load(); n > 0 {
			out[name] = int(n)
		}
	}
	return out
}

// keep makes counts for the CDNs of the registry, and forgets those without
// viewers of others and of regions.
func (c *counts) keep(names []string) {
	c.mu.Lock()
	for _, name := range names {
		c.add(name)
	}
	for name, on := range c.on {
		if on.viewers.Load() == 0 && !slices.Contains(names, name) {
			delete(c.on, name)
			c.version.Add(1)
		}
	}
	c.mu.Unlock()
	for _, on := range c.all() {
		if c.hasEmpty(on) {
			c.mu.Lock()
			maps.DeleteFunc(on.byRegion, func(_ string, here *regionLoad) bool { return here.viewers.Load() == 0 })
			c.version.Add(1)
			c.mu.Unlock()
		}
	}
}

func (c *counts) hasEmpty(on *cdnLoad) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, here := range on.byRegion {
		if here.viewers.Load() == 0 {
			return true
		}
	}
	return false
}

// all gives the counts of all CDNs.
func (c *counts) all() []*cdnLoad {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.Collect(maps.Values(c.on))
}
