package viewer

import (
	"context"
	"io"
	"time"
)

// accessPiece is how much of an answer comes at a time over a limited access.
const accessPiece = 8 << 10

// access is an answer as the viewer's own network brings it.
func (v *view) access(ctx context.Context, body io.Reader) io.Reader {
	if v.c.AccessBps <= 0 {
		return body
	}
	return &access{ctx: ctx, from: body, bps: v.c.AccessBps, begun: time.Now()}
}

// access reads no faster than bps since it was begun.
type access struct {
	ctx   context.Context
	from  io.Reader
	bps   int64
	begun time.Time
	read  int64
}

func (a *access) Read(p []byte) (int, error) {
	n, err := a.from.Read(p[:min(len(p), accessPiece)])
	a.read += int64(n)
	due := time.Duration(float64(a.read) * 8 / float64(a.bps) * float64(time.Second))
	if early := due - time.Since(a.begun); early > 0 {
		select {
		case <-a.ctx.Done():
			return n, a.ctx.Err()
		case <-time.After(early):
		}
	}
	return n, err
}
