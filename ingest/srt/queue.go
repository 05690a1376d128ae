package srt

import (
	"bytes"
	"sync"
	"time"
)

// packet is the payload of one SRT packet.
type packet struct {
	data    []byte
	missing int // packets before it
	arrived time.Time
}

// queue holds packets between the network, which does not wait, and the bus, which
// may make us wait.
type queue struct {
	ready chan struct{} // has a token when there is something to take
	max   int

	mu      sync.Mutex
	packets []packet
	bytes   int
	missing int // packets thrown away since the last one kept
	thrown  uint64
	closed  bool
}

func newQueue(maxBytes int) *queue { return &queue{ready: make(chan struct{}, 1), max: maxBytes} }

func (q *queue) put(data []byte, missing int) {
	q.mu.Lock()
	if q.bytes+len(data) > q.max {
		q.missing += 1 + missing
		q.thrown++
	} else {
		q.packets = append(q.packets, packet{bytes.Clone(data), missing + q.missing, time.Now()})
		q.bytes += len(data)
		q.missing = 0
	}
	q.mu.Unlock()
	q.wake()
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.wake()
}

func (q *queue) wake() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// take gives all packets; over: there will be no more.
func (q *queue) take() (batch []packet, over bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	batch, q.packets, q.bytes = q.packets, nil, 0
	return batch, q.closed
}

// spilt is how many packets were thrown away.
func (q *queue) spilt() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.thrown
}
