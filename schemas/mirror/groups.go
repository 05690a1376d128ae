package mirror

import (
	"maps"
	"slices"
	"sync"
)

// Groups are a table's keys by group; see [Group]. Safe for concurrent use.
type Groups struct {
	by func(key string) string

	mu   sync.RWMutex
	keys map[string]map[string]bool // by group
}

// Keys gives the keys of a group, in no order. It is no snapshot: an entry may be
// gone when the table is asked for it.
func (g *Groups) Keys(group string) []string {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return slices.Collect(maps.Keys(g.keys[group]))
}

// fill makes the groups anew, of a whole table.
func (g *Groups) fill(table *sync.Map) {
	keys := map[string]map[string]bool{}
	table.Range(func(key, _ any) bool {
		k := key.(string)
		add(keys, g.by(k), k)
		return true
	})
	g.mu.Lock()
	defer g.mu.Unlock()
	g.keys = keys
}

// set notes that a key is in the table, or is no more.
func (g *Groups) set(key string, in bool) {
	group := g.by(key)
	g.mu.RLock()
	same := g.keys[group][key] == in
	g.mu.RUnlock()
	if same { // most changes are of entries that were there before
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if in {
		add(g.keys, group, key)
		return
	}
	delete(g.keys[group], key)
	if len(g.keys[group]) == 0 {
		delete(g.keys, group)
	}
}

func add(keys map[string]map[string]bool, group, key string) {
	if keys[group] == nil {
		keys[group] = map[string]bool{}
	}
	keys[group][key] = true
}
