// Package nap waits between two tries. It promises that nobody who is stopped
// waits on; it knows nothing of why somebody waits.
package nap

import (
	"context"
	"time"
)

// For waits for d, or until ctx ends, whose error it then gives. A d that is not above 0 is no wait.
func For(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
