package sandbox

// kind of an event.
type kind uint8

const (
	evRequest kind = iota // ask for the next segment
	evDone                // a segment is there
	evFail                // a request has failed
	evSteer               // ask a router where to be
	evReport              // tell what happened since the last report
	evStall               // tell of a stall that begins or goes on
	evEnd                 // the viewer leaves
)

// event happens to the session in a slot. gen tells the slot's sessions apart.
type event struct {
	at   float64 // s
	slot int32
	gen  uint16
	kind kind
}

// before orders events; equal times by slot and kind, so that a run is the same each time.
func (a *event) before(b *event) bool {
	if a.at != b.at {
		return a.at < b.at
	}
	if a.slot != b.slot {
		return a.slot < b.slot
	}
	return a.kind < b.kind
}

// queue is a heap of four children a node: fewer cache misses than two.
type queue []event

func (q *queue) push(x event) {
	h := append(*q, x)
	i := len(h) - 1
	for i > 0 {
		p := (i - 1) / 4
		if !x.before(&h[p]) {
			break
		}
		h[i] = h[p]
		i = p
	}
	h[i] = x
	*q = h
}

func (q *queue) pop() event {
	h := *q
	top := h[0]
	n := len(h) - 1
	x := h[n]
	h = h[:n]
	*q = h
	i := 0
	for {
		first := 4*i + 1
		if first >= n {
			break
		}
		least := first
		for c := first + 1; c < first+4 && c < n; c++ {
			if h[c].before(&h[least]) {
				least = c
			}
		}
		if !h[least].before(&x) {
			break
		}
		h[i] = h[least]
		i = least
	}
	if n > 0 {
		h[i] = x
	}
	return top
}
