package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// gcPercent is how much may be allocated before memory is collected again, in
// per cent of what is in use. Nearly all that is in use is media, which holds no
// pointers: collecting looks at little of it, while twice the memory, Go's
// default, would be as much again as all windows of all watched streams.
const gcPercent = 30

// leastHeadroom is how much roomyRoles may allocate at least before memory is collected again, bytes.
// Rows and answers on their way are short-lived and full of pointers: at 30 per cent of what is in use, collecting took
// a third of the CPU at 80,000 rows a second, and two fifths of a router's, for the sake of memory that is not missing
// elsewhere. While memory is collected more than once a second it becomes mostHeadroom, half a minute after the last
// such second what it was.
const (
	leastHeadroom = 384 << 20
	mostHeadroom  = 768 << 20
)

// roomyRoles are those that get it: telemetry's, and routers.
var roomyRoles = []string{"collector", "sessioniser", "loader", "router"}

// tuneMemory sets gcPercent where the environment does not say otherwise (GOGC).
// GOMEMLIMIT is left to the operator: only they know what the machine has to spare.
func tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

// keepHeadroom lets as much be allocated between two collections as roomyRoles need until ctx ends, where the
// environment does not say otherwise.
func keepHeadroom(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/cycles/automatic:gc-cycles"}}
	var room headroom
	now := gcPercent
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		metrics.Read(s)
		// Changing it stops everything for a moment: only where it makes a difference.
		if want := headroomPercent(s[0].Value.Uint64(), room.next(s[1].Value.Uint64())); want*10 > now*12 || want*12 < now*10 {
			debug.SetGCPercent(want)
			now = want
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// headroom is how much may be allocated between two collections, by how often there were some.
type headroom struct {
	collections uint64 // until the last second
	calm        int    // seconds since the last one with more than one collection
	wide        bool
}

// next is asked once a second, with the number of collections so far, and gives bytes.
func (h *headroom) next(collections uint64) uint64 {
	n := collections - h.collections
	h.collections = collections
	if h.calm++; n > 1 {
		h.wide, h.calm = true, 0
	}
	if h.calm >= 30 {
		h.wide = false
	}
	if h.wide {
		return mostHeadroom
	}
	return leastHeadroom
}

// headroomPercent is the percentage of what is in use that makes so many bytes, at least gcPercent.
func headroomPercent(live, bytes uint64) int {
	return max(gcPercent, int(bytes*100/max(live, 16<<20)))
}
