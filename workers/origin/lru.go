package origin

import "sync"

// lru is a small bounded map: when it is full, the older half goes.
type lru[V any] struct {
	mu       sync.Mutex
	max      int
	new, old map[string]V
}

func newLRU[V any](n int) *lru[V] { return &lru[V]{max: n, new: map[string]V{}} }

func (l *lru[V]) get(k string) (V, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if v, ok := l.new[k]; ok {
		return v, true
	}
	v, ok := l.old[k]
	if ok {
		l.store(k, v)
	}
	return v, ok
}

func (l *lru[V]) put(k string, v V) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.store(k, v)
}

func (l *lru[V]) store(k string, v V) {
	if len(l.new) >= l.max/2 {
		l.old, l.new = l.new, map[string]V{}
	}
	l.new[k] = v
}
