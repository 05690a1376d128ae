package whip

import (
	"time"

	"github.com/pion/rtp"
)

const (
	// patience is how long a missing packet is waited for: several round trips of
	// asking again.
	patience   = 300 * time.Millisecond
	maxWaiting = 2048 // packets
	// maxStep is the longest gap in sequence numbers; beyond, the sender has begun anew.
	maxStep = 3000
)

// ordered is a packet in its order.
type ordered struct {
	pkt *rtp.Packet
	// missing packets before it never came.
	missing int
	arrived time.Time
}

// reorder puts packets in order (RFC 3550 section 5.1). The zero value is ready.
type reorder struct {
	next    uint16
	begun   bool
	waiting map[uint16]ordered
}

// put adds a packet and gives what is in order now.
func (r *reorder) put(pkt *rtp.Packet, now time.Time) (out []ordered) {
	n := pkt.SequenceNumber
	if !r.begun {
		r.begun, r.next, r.waiting = true, n, map[uint16]ordered{}
	}
	ahead := int(int16(n - r.next))
	switch {
	case ahead < -maxStep || ahead > maxStep:
		out = r.flush()
		r.next = n
		return append(out, ordered{pkt, 1, now}.then(r)...)
	case ahead < 0:
		return nil // a repeated one, or too late
	case ahead > 0:
		r.waiting[n] = ordered{pkt: pkt, arrived: now}
		return r.expire(now)
	}
	return ordered{pkt, 0, now}.then(r)
}

// then is o, and what waited for it.
func (o ordered) then(r *reorder) []ordered {
	out := []ordered{o}
	for r.next++; ; r.next++ {
		w, ok := r.waiting[r.next]
		if !ok {
			return out
		}
		delete(r.waiting, r.next)
		out = append(out, w)
	}
}

// expire gives up on packets that were waited for too long.
func (r *reorder) expire(now time.Time) (out []ordered) {
	for len(r.waiting) > 0 {
		first, gap := r.first()
		if len(r.waiting) < maxWaiting && now.Sub(first.arrived) < patience {
			return out
		}
		n := first.pkt.SequenceNumber
		delete(r.waiting, n)
		first.missing, r.next = gap, n
		out = append(out, first.then(r)...)
	}
	return out
}

// first is the waiting packet that is next in order, and how many are missing before it.
func (r *reorder) first() (first ordered, gap int) {
	gap = maxStep + 1
	for n, w := range r.waiting {
		if d := int(int16(n - r.next)); d < gap {
			first, gap = w, d
		}
	}
	return first, gap
}

// flush gives all that waits.
func (r *reorder) flush() []ordered { return r.expire(time.Unix(1<<40, 0)) }
