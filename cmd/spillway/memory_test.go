package main

import "testing"

func TestHeadroomPercent(t *testing.T) {
	for _, c := range []struct {
		live, bytes uint64
		want        int
	}{
		{0, 160 << 20, 1000},          // a process that has just begun
		{100 << 20, 200 << 20, 200},   // the headroom
		{2000 << 20, 200 << 20, 30},   // far more in use than that
		{1000 << 20, 300 << 20, 30},   // just as much
		{1000 << 20, 1000 << 20, 100}, // never less than asked for
	} {
		if got := headroomPercent(c.live, c.bytes); got != c.want {
			t.Errorf("%d MiB in use: %d per cent, want %d", c.live>>20, got, c.want)
		}
	}
}

func TestHeadroomFollowsCollections(t *testing.T) {
	var h headroom
	total := uint64(0)
	second := func(collections, want uint64) {
		t.Helper()
		total += collections
		if got := h.next(total); got != want {
			t.Errorf("%d collections in the last second: %d MiB, want %d", collections, got>>20, want>>20)
		}
	}
	second(1, leastHeadroom)
	second(2, mostHeadroom)
	for range 29 {
		second(1, mostHeadroom)
	}
	second(0, leastHeadroom)
	second(3, mostHeadroom)
}
