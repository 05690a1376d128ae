package relay

import (
	"io"
	"time"
)

// onTheWay bounds the pieces, of pieceBytes at most, that are on a long way at once.
const (
	onTheWay   = 1024
	pieceBytes = 16 << 10
)

// piece is what was said at once, or the end of it, and when it arrives.
type piece struct {
	b   []byte
	err error
	due time.Time
}

// late reads what came some time ago.
type late struct {
	pieces chan piece
	now    piece
}

// late gives a reader of what from says, after the delay that now holds. The function given ends it.
func (r *Relay) late(from io.Reader) (in io.Reader, end func()) {
	r.mu.Lock()
	d := r.delay
	r.mu.Unlock()
	if d <= 0 {
		return from, func() {}
	}
	l, ended := &late{pieces: make(chan piece, onTheWay)}, make(chan struct{})
	r.wg.Go(func() {
		for {
			b := make([]byte, pieceBytes)
			n, err := from.Read(b)
			select {
			case l.pieces <- piece{b[:n], err, time.Now().Add(d)}:
			case <-ended:
				return
			}
			if err != nil {
				return
			}
		}
	})
	return l, func() { close(ended) }
}

// Read waits until the next piece arrives. It must not be called after an error.
func (l *late) Read(b []byte) (int, error) {
	if len(l.now.b) == 0 {
		if l.now.err != nil {
			return 0, l.now.err
		}
		l.now = <-l.pieces
		time.Sleep(time.Until(l.now.due)) // this is the delay that the relay is for: nothing else is waited for, and it is at most that
	}
	n := copy(b, l.now.b)
	l.now.b = l.now.b[n:]
	if len(l.now.b) == 0 {
		return n, l.now.err
	}
	return n, nil
}
