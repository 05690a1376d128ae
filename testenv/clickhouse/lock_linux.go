package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// lockPoll is how often a taken lock is tried again.
const lockPoll = 50 * time.Millisecond

// errLocked says that another process holds a lock.
var errLocked = errors.New("locked by another process")

// lockFile opens path and takes an exclusive flock on it, waiting for it until ctx ends; waiting is called once
// if there is something to wait for. The lock lasts until the last copy of the descriptor is closed, so it goes
// with a process that dies, and stays with a child that inherits it.
func lockFile(ctx context.Context, path string, waiting func()) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	for first := true; ; first = false {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if first && waiting != nil {
			waiting()
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("wait for %s: %w (%w)", path, errLocked, context.Cause(ctx))
		case <-time.After(lockPoll):
		}
	}
}

// lockHolder returns what the holder wrote into the lock file, for messages.
func lockHolder(path string) string {
	b, err := os.ReadFile(path)
	if err != nil || len(b) == 0 {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}
