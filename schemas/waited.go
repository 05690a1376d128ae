package schemas

import (
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// HeaderWaitedMs is how old a message already was when the bus stored it, milliseconds:
// readers that order messages take it off the time of storing. On a decision it is how
// long the newest of them had waited for the bus, by its router's clock, and for the
// links it came over; on what relays brought, how long ago it was made, by the clocks
// that relays compare.
const HeaderWaitedMs = "Spillway-Waited-Ms"

// MaxWaited bounds what a message can claim to have waited: more than any stream keeps.
const MaxWaited = 30 * 24 * time.Hour

// Waited reads HeaderWaitedMs: 0 where there is none, or none that can be read, and at
// most MaxWaited, so that a wait beyond all numbers is a long one.
func Waited(h nats.Header) time.Duration {
	ms, _ := strconv.ParseInt(h.Get(HeaderWaitedMs), 10, 64) // out of range it is the nearest there is
	return time.Duration(min(max(ms, 0), MaxWaited.Milliseconds())) * time.Millisecond
}

// SetWaited writes HeaderWaitedMs; less than nothing, which clocks that differ may come to, is nothing.
func SetWaited(h nats.Header, d time.Duration) {
	h.Set(HeaderWaitedMs, strconv.FormatInt(max(d, 0).Milliseconds(), 10))
}
