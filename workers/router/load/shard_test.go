package load

import "testing"

// TestShardGivesMemoryBack: sessions keep what is theirs while others come and go
// in their places, and what a crowd took is given back when it has gone.
func TestShardGivesMemoryBack(t *testing.T) {
	var h shard
	id := func(i uint64) key { return key{i, ^i} }
	const crowd, rest = 5000, 100
	for i := range uint64(crowd) {
		h.make(id(i)).ownUs = int64(i)
	}
	is := func(what string, from, to uint64) {
		t.Helper()
		for i := from; i < to; i++ {
			if s := h.get(id(i)); s == nil || s.ownUs != int64(i) {
				t.Fatalf("%s: session %d is %+v", what, i, s)
			}
		}
	}
	h.remove(id(crowd - 1))
	h.remove(id(crowd - 2))
	for i := uint64(crowd - 2); i < crowd; i++ {
		if s := h.make(id(i)); *s != (session{}) {
			t.Fatalf("a new session in the place of another is %+v", s)
		}
		h.get(id(i)).ownUs = int64(i)
	}
	is("in the places of others", 0, crowd)
	if len(h.all) != crowd {
		t.Errorf("%d places for %d sessions", len(h.all), crowd)
	}
	for i := uint64(rest); i < crowd; i++ {
		h.remove(id(i))
	}
	h.shrink()
	is("after the crowd", 0, rest)
	if h.get(id(rest)) != nil || len(h.all) != rest || cap(h.all) > 4*rest {
		t.Errorf("after the crowd there are %d places of %d for %d sessions", len(h.all), cap(h.all), rest)
	}
}
