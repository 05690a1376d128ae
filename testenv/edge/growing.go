package edge

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// streamTimeout bounds how long an answer that comes bit by bit may take: an
// origin sends a segment that is being made for 4.5 s at most, after waiting for it.
const streamTimeout = 15 * time.Second

// growing is a body that is still arriving: any number of requests read it
// while it does, from its beginning.
type growing struct {
	mu   sync.Mutex
	body []byte
	over bool
	err  error
	more chan struct{} // closed when there is more, or it is over
	done chan struct{} // closed when it is over
}

func newGrowing() *growing { return &growing{more: make(chan struct{}), done: make(chan struct{})} }

// read takes the body from r until it ends.
func (g *growing) read(r io.Reader) {
	defer close(g.done)
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		g.mu.Lock()
		g.body = append(g.body, buf[:n]...)
		switch {
		case errors.Is(err, io.EOF):
			g.over = true
		case err != nil:
			g.over, g.err = true, err
		case len(g.body) > maxObjectBytes:
			g.over, g.err = true, fmt.Errorf("more than %d bytes", maxObjectBytes)
		}
		over := g.over
		if n > 0 || over {
			close(g.more)
			g.more = make(chan struct{})
		}
		g.mu.Unlock()
		if over {
			return
		}
	}
}

// from gives what there is from byte at on.
func (g *growing) from(at int) (b []byte, over bool, more <-chan struct{}, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.body[at:len(g.body):len(g.body)], g.over, g.more, g.err
}

// sendGrowing writes a body as it comes. One that breaks off is broken off here, too.
func (x *exchange) sendGrowing(r *http.Request, g *growing) {
	x.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	sent := 0
	for x.err == nil {
		b, over, more, err := g.from(sent)
		if len(b) > 0 {
			if _, werr := x.Write(b); werr != nil {
				return // x.err has it
			}
			sent += len(b)
			x.err = http.NewResponseController(x.ResponseWriter).Flush()
			continue
		}
		if over {
			x.err = err
			return
		}
		select {
		case <-more:
		case <-x.ctx.Done():
			x.err = x.ctx.Err()
		}
	}
}
